"""The processes that record: each owns one environment and turns shard jobs into finished shards."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla.errors import PosaError
from posa_vla.sim.recording_episode import Demonstration, demonstrate
from posa_vla.sim.recording_shards import features, write_shard
from posa_vla.sim.recording_video import VideoOptions

RETRY_STRIDE = 1_000_000
"""Seed distance between the attempts at one episode. Each episode has its own seeds, so that which seeds
are tried depends neither on the number of workers nor on the order in which they finish."""

MAX_ATTEMPTS = 10
SINGLE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS")


class Stopped(Exception):
    """Raised inside a worker when the recording is being interrupted."""


@dataclass(frozen=True)
class Recipe:
    """What every worker needs to know.

    Args:
        make_env: called once in each process; returns (environment, expert).
        repo_id: the dataset's name.
        seed: the seed of episode 0; episode i uses seed + i.
        action_noise: standard deviation of the executed actions' noise, action units.
        fumbles: share of the episodes in which the hand closes and lifts on its own once.
        video: how frames are stored.
        visibility: also record contract.VISIBILITY.
        contact: also record contract.CONTACT.
    """

    make_env: Callable[[], tuple[Any, Any]]
    repo_id: str
    seed: int
    action_noise: float
    fumbles: float
    video: VideoOptions
    visibility: bool = False
    contact: bool = False


@dataclass(frozen=True)
class Job:
    """Episodes `start` to `stop` of the dataset, to be written as the shard `path`."""

    path: Path
    start: int
    stop: int


class Recorder:
    """Records jobs with one environment; counts episodes and failures in shared integers."""

    def __init__(self, recipe: Recipe, stop, done, failed) -> None:
        self.recipe, self.stop, self.done, self.failed = recipe, stop, done, failed
        self.env: Any = None
        self.expert: Any = None

    def record(self, job: Job) -> None:
        if self.env is None:  # here and not in __init__: a pool hides what its initialiser raises
            self.env, self.expert = self.recipe.make_env()
        episodes = (self._episode(index) for index in range(job.start, job.stop))
        recipe = self.recipe
        table = features(recipe.video.image_size, recipe.visibility, recipe.contact)
        write_shard(job.path, recipe.repo_id, recipe.video, episodes, table)

    def close(self) -> None:
        if self.env is not None:
            self.env.close()

    def _episode(self, index: int) -> tuple[Demonstration, list[int]]:
        failures: list[int] = []
        for attempt in range(MAX_ATTEMPTS):
            seed = self.recipe.seed + index + attempt * RETRY_STRIDE
            result = demonstrate(
                self.env,
                self.expert,
                seed,
                self.recipe.action_noise,
                self.recipe.fumbles,
                self._check,
                self.recipe.visibility,
                self.recipe.contact,
            )
            if result.success:
                _increment(self.done)
                return result, failures
            failures.append(seed)
            _increment(self.failed)
        raise PosaError(
            f"the expert failed all {MAX_ATTEMPTS} attempts at episode {index} (seeds {failures}): "
            "record with less --action_noise or other objects"
        )

    def _check(self) -> None:
        if self.stop.is_set():
            raise Stopped


def _increment(counter) -> None:
    with counter.get_lock():
        counter.value += 1


def run(jobs: list[Job], recipe: Recipe, workers: int, progress: Callable[[int, int], None]) -> None:
    """Record all jobs with `workers` processes, 0 for this one; `progress(episodes, failures)` so far."""
    context = multiprocessing.get_context("spawn")  # a forked OpenGL context does not work
    stop, done, failed = context.Event(), context.Value("i", 0), context.Value("i", 0)
    if workers == 0:
        recorder = Recorder(recipe, stop, done, failed)
        with contextlib.closing(recorder):
            for job in jobs:
                recorder.record(job)
                progress(done.value, failed.value)
        return
    arguments = (recipe, stop, done, failed)
    pool = ProcessPoolExecutor(min(workers, len(jobs)) or 1, context, _start_worker, arguments)
    with _single_threaded(), pool:
        pending = {pool.submit(_record, job) for job in jobs}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.25, return_when=FIRST_COMPLETED)
                progress(done.value, failed.value)
                for future in finished:
                    future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_recorder: Recorder | None = None


def _start_worker(recipe: Recipe, stop, done, failed) -> None:
    global _recorder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent tells us to stop
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _recorder = Recorder(recipe, stop, done, failed)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _record(job: Job) -> None:
    assert _recorder is not None
    _recorder.record(job)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started inside use one thread each: they read these variables before anything is imported."""
    before = {name: os.environ.get(name) for name in SINGLE_THREAD}
    os.environ.update(dict.fromkeys(SINGLE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
