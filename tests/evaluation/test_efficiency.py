"""Table 3's numbers, on records small enough to count by hand."""

import numpy as np
import pytest

from posa_vla.evaluation import bootstrap
from posa_vla.evaluation.efficiency import efficiency
from posa_vla.evaluation.records import ERROR, FAILURE, SUCCESS, EpisodeRecord, Motion


def episode(seed: int, steps: int, outcome: str = SUCCESS, **known) -> EpisodeRecord:
    return EpisodeRecord("basic", seed, outcome, motion=Motion(steps, 1.0, -8.0), expert=Motion(30, 0.5, -8.0), **known)


def test_times_steps_and_ways_by_hand():
    records = [
        episode(0, 40, policy_seconds=0.4, chunk_seconds=[0.10, 0.30], env_seconds=9.0),
        episode(1, 60, policy_seconds=0.5, chunk_seconds=[0.20], env_seconds=9.0),
        episode(2, 100, FAILURE, policy_seconds=1.1, chunk_seconds=[0.20, 0.20]),
        EpisodeRecord("basic", 3, ERROR, policy_seconds=99.0, message="x"),
    ]
    found = efficiency(records)
    assert found["ms_per_action"]["mean"] == pytest.approx(1000 * 2.0 / 200)
    assert found["chunk_ms"]["mean"] == pytest.approx(200)
    assert (found["chunk_ms"]["p50"], found["chunk_ms"]["calls"]) == (pytest.approx(200), 5)
    assert found["chunk_ms"]["p95"] == pytest.approx(280)
    assert found["action_steps"]["mean"] == pytest.approx(50)
    assert found["policy_seconds"]["mean"] == pytest.approx(0.45)
    assert found["robot_seconds"]["mean"] == pytest.approx(2.5)
    assert found["total_seconds"]["mean"] == pytest.approx(2.95)
    assert (found["path_length"]["mean"], found["path_ratio"]["mean"], found["smoothness"]["mean"]) == (1, 2, -8)
    assert found["action_steps"]["low"] == 40
    assert found["action_steps"]["high"] == 60


def test_what_was_not_measured_is_none():
    assert set(efficiency([]).values()) == {None}
    one = efficiency([episode(0, 40)])
    assert one["chunk_ms"] is None
    assert one["action_steps"] == {"mean": 40, "low": None, "high": None}


def test_intervals_of_a_mean_agree_with_the_normal_theory_and_repeat():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400).tolist()
    found = bootstrap.mean(values)
    margin = 1.96 * np.std(values) / 20
    assert found["low"] == pytest.approx(found["mean"] - margin, abs=0.03)
    assert found["high"] == pytest.approx(found["mean"] + margin, abs=0.03)
    assert bootstrap.mean(values) == found


def test_a_ratio_weighs_episodes_by_their_calls():
    found = bootstrap.ratio([10.0, 0.0, 0.0], [1, 0, 9])
    assert found["mean"] == 1.0
    assert found["low"] == 0.0
    assert bootstrap.ratio([0.0], [0]) is None
