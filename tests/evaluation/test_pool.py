"""Jobs survive their workers."""

import os

import pool_fakes
import pytest

from posa_vla.errors import PosaError
from posa_vla.evaluation.pool import MAX_ATTEMPTS, Died, WorkerPool


def results(jobs: list, *arguments, **keywords) -> dict:
    with WorkerPool(*arguments, **keywords) as pool:
        return {index: (result, attempts) for index, result, attempts in pool.run(jobs)}


def test_every_job_is_answered_by_single_threaded_workers_and_the_parent_keeps_its_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = results([1, 2, 3, 4, 5], pool_fakes.squares, 100, workers=2)
    assert found == {i: (((i + 1) ** 2 + 100, "1"), 1) for i in range(5)}
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dead_workers_job_runs_again(tmp_path, workers):
    said = []
    found = results([1, 2, 3, 4], pool_fakes.dies_on_three, str(tmp_path / "once"), workers, on_death=said.append)
    assert found == {0: (1, 1), 1: (2, 1), 2: (3, 2), 3: (4, 1)}
    assert len(said) == 1
    assert "signal 9" in said[0]


def test_a_job_that_kills_twice_is_reported_and_the_others_finish(tmp_path):
    found = results([1, 3, 5], pool_fakes.dies_on_three, str(tmp_path / "no" / "where"), 2, on_death=lambda _: None)
    assert isinstance(found[1][0], Died)
    assert found[1][1] == MAX_ATTEMPTS
    assert (found[0], found[2]) == ((1, 1), (5, 1))


def test_bad_input_found_by_a_worker_reaches_the_user():
    with pytest.raises(PosaError, match="no such checkpoint"):
        results([1, 2], pool_fakes.refuses, "no such checkpoint", 2)


def test_workers_that_never_start_end_the_run():
    with pytest.raises(PosaError, match=r"die before their first episode \(exit code 5\)"):
        results([1, 2], pool_fakes.never_starts, 5, 1)


def test_an_unforeseen_exception_is_not_swallowed():
    with pytest.raises(PosaError, match=r"KeyError.*unforeseen"):
        results([1], pool_fakes.raises, "unforeseen", 1)


def test_no_workers_is_refused():
    with pytest.raises(PosaError, match="--workers=1"):
        results([1], pool_fakes.squares, 0, 0)


def test_workers_stay_for_a_second_run():
    with WorkerPool(pool_fakes.who_am_i, None, 1) as pool:
        (first,), (second,) = list(pool.run([0])), list(pool.run([0]))
    assert first == second
    assert first[1] != os.getpid()


def test_no_jobs_start_no_worker():
    assert results([], pool_fakes.never_starts, 5, 2) == {}
