"""Numbers of the report, on records small enough to count by hand."""

import dataclasses

import pytest

from posa_vla.evaluation import metrics
from posa_vla.evaluation.intervals import wilson
from posa_vla.evaluation.metrics import failure_reason, summarise
from posa_vla.evaluation.records import ERROR, FAILURE, SUCCESS, EpisodeRecord, Motion


def success(seed: int, steps: int, path: float = 1.0, condition: str = "basic") -> EpisodeRecord:
    motion, expert = Motion(steps, path, -10.0), Motion(30, 0.5, -8.0)
    return EpisodeRecord(condition, seed, SUCCESS, motion=motion, expert=expert, policy_seconds=0.1, env_seconds=0.4)


def failure(seed: int, **known) -> EpisodeRecord:
    return EpisodeRecord("basic", seed, FAILURE, motion=Motion(100, 2.0, -12.0), policy_seconds=0.7, **known)


def test_rates_and_medians():
    records = [success(0, 40), success(1, 50, 0.6), success(2, 90, 2.0), failure(3, wrong_object="blue can")]
    row = summarise(records)["conditions"][0]
    low, high = wilson(3, 4)
    assert row["success"] == {"count": 3, "rate": 0.75, "low": low, "high": high}
    assert row["wrong_object"]["count"] == 1
    assert row["steps_to_success"] == 50
    assert row["path_ratio"] == pytest.approx(2.0)
    assert row["smoothness"] == -10
    assert row["expert_smoothness"] == -8
    assert row["ms_per_action"] == pytest.approx(1000 * 1.0 / 280)
    assert row["failures"] == {metrics.WRONG_OBJECT: 1}


def test_a_privileged_input_is_named():
    assert summarise([success(0, 40)])["privileged"] is None
    given = dataclasses.replace(failure(1), privileged="ground-truth anchors")
    assert summarise([success(0, 40), given])["privileged"] == "ground-truth anchors"


def test_errors_enter_no_rate_whatever_their_number():
    records = [success(0, 40), failure(1)]
    errors = [EpisodeRecord("basic", seed, ERROR, message="x") for seed in range(2, 9)]
    with_errors, without = (summarise(r)["pooled"] for r in (records + errors, records))
    assert with_errors == {**without, "errors": 7}
    only = summarise(errors)["pooled"]
    assert (only["episodes"], only["success"]["rate"], only["ms_per_action"]) == (0, None, None)


def test_conditions_keep_their_order_and_pool():
    records = [success(0, 40, condition="lights"), failure(0), success(1, 60, condition="lights")]
    summary = summarise(records)
    assert [row["condition"] for row in summary["conditions"]] == ["lights", "basic"]
    assert summary["pooled"]["success"]["count"] == 2
    assert summary["pooled"]["episodes"] == 3


def test_a_missing_expert_or_undefined_smoothness_is_left_out():
    bare = dataclasses.replace(success(0, 40), expert=None, motion=Motion(40, 1.0, None))
    row = summarise([bare, success(1, 44, 0.75)])["pooled"]
    assert row["path_ratio"] == pytest.approx(1.5)
    assert row["smoothness"] == -10
    assert row["steps_to_success"] == 42


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"wrong_object": "red can", "target_rise": 0.2}, metrics.WRONG_OBJECT),
        ({"target_rise": 0.12}, metrics.NOT_HELD),
        ({"target_rise": 0.05, "target_distance": 0.01}, metrics.LOST),
        ({"target_rise": 0.0, "target_distance": 0.03, "other_distance": 0.01}, metrics.MISSED),
        ({"target_distance": 0.2, "other_distance": 0.03}, metrics.ELSEWHERE),
        ({"target_distance": 0.2, "other_distance": None}, metrics.NOWHERE),
    ],
)
def test_failures_are_explained(known, reason):
    assert failure_reason(failure(0, **known)) == reason


LONG = ("opened", "picked", "placed")


def reached(count: int) -> dict[str, bool]:
    return {stage: index < count for index, stage in enumerate(LONG)}


def test_stages_are_counted_over_the_episodes_that_ended():
    records = [
        dataclasses.replace(success(0, 90), stages=reached(3)),
        failure(1, stages=reached(1)),
        failure(2, stages=reached(2), mistake="put it elsewhere"),
        EpisodeRecord("basic", 3, ERROR, message="x"),
    ]
    row = summarise(records)["pooled"]
    low, high = wilson(2, 3)
    assert {stage: share["count"] for stage, share in row["stages"].items()} == {"opened": 3, "picked": 2, "placed": 1}
    assert row["stages"]["picked"] == {"count": 2, "rate": 2 / 3, "low": low, "high": high}
    assert row["mistakes"] == {"put it elsewhere": 1}
    assert summarise([success(0, 40)])["pooled"]["stages"] == {}  # a record of before there were stages


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"stages": reached(0), "target_distance": 0.01}, "stage not reached: opened"),
        ({"stages": reached(1), "target_distance": 0.01}, metrics.MISSED),
        ({"stages": reached(2), "target_rise": 0.3}, "stage not reached: placed"),
        ({"stages": reached(3), "target_rise": 0.3}, metrics.NOT_LASTING),
        ({"stages": reached(2), "mistake": "put it elsewhere"}, "put it elsewhere"),
        ({"stages": {"picked": True}, "target_rise": 0.12}, metrics.NOT_HELD),
    ],
)
def test_failures_of_a_long_task_name_the_stage(known, reason):
    assert failure_reason(failure(0, **known)) == reason
