"""From episode records to the numbers of the report.

Errors are counted apart and never enter a rate: a rate is over the episodes that ended.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from posa_vla.evaluation.anchor_error import TrainingMeans, summarise_anchors
from posa_vla.evaluation.efficiency import efficiency
from posa_vla.evaluation.intervals import Interval, by_scene, clustered_wilson, wilson
from posa_vla.evaluation.records import ERROR, FAILURE, SUCCESS, EpisodeRecord

REACHED = 0.06
"""Metres between end effector and object centre below which the hand counts as having reached it."""

PICKED = "picked"
"""The stage that every family with a named object to lift calls by this name."""

NOT_LASTING = "reached every stage, the last did not last"
WRONG_OBJECT = "lifted another object"
NOT_HELD = "lifted the target, did not hold it"
LOST = "raised the target a little, lost it before 10 cm"
MISSED = "reached the target, no grasp"
ELSEWHERE = "went to another object"
NOWHERE = "reached no object"


def failure_reason(record: EpisodeRecord) -> str:
    """What went wrong in a failed episode, read off the simulator's ground truth.

    A task of several stages failed at the first that was not reached; picking is then looked at more closely.
    """
    if record.wrong_object is not None:
        return WRONG_OBJECT
    if record.mistake is not None:
        return record.mistake
    missing = next((stage for stage, reached in record.stages.items() if not reached), None)
    if len(record.stages) > 1 and missing != PICKED:
        return f"stage not reached: {missing}" if missing else NOT_LASTING
    rise, near, other = record.target_rise or 0.0, record.target_distance, record.other_distance
    if rise >= 0.10:
        return NOT_HELD
    if rise >= 0.02:
        return LOST
    if near is not None and near < REACHED:
        return MISSED
    if other is not None and other < REACHED:
        return ELSEWHERE
    return NOWHERE


def summarise(records: Sequence[EpisodeRecord], training_means: TrainingMeans | None = None) -> dict[str, Any]:
    """Numbers per condition (in the order of the records), pooled over conditions, and for the anchors.

    `privileged` names what the policy was given that no robot has, or is None.
    """
    conditions = list(dict.fromkeys(record.condition for record in records))
    tracks = [record.anchors for record in records if record.outcome != ERROR and record.anchors]
    return {
        "conditions": [
            {"condition": name, **_numbers([r for r in records if r.condition == name])} for name in conditions
        ],
        "pooled": _numbers(records),
        "anchors": summarise_anchors(tracks, training_means),
        "privileged": ", ".join(sorted({record.privileged for record in records if record.privileged})) or None,
    }


def _numbers(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    ended = [record for record in records if record.outcome != ERROR]
    successes = [record for record in ended if record.outcome == SUCCESS]
    failures = [record for record in ended if record.outcome == FAILURE]
    compared = [r for r in successes if r.motion and r.expert and r.expert.path_length > 0]
    return {
        "episodes": len(ended),
        "errors": len(records) - len(ended),
        "success": scene_rate((record.seed, record.outcome == SUCCESS) for record in ended),
        "stages": _stages(ended),
        "wrong_object": scene_rate((record.seed, record.wrong_object is not None) for record in ended),
        "mistakes": dict(Counter(r.mistake for r in ended if r.mistake is not None).most_common()),
        "steps_to_success": _median(r.motion.steps for r in successes if r.motion),
        "expert_steps": _median(r.expert.steps for r in compared if r.expert),
        "path_length": _median(r.motion.path_length for r in successes if r.motion),
        "path_ratio": _median(r.motion.path_length / r.expert.path_length for r in compared if r.motion and r.expert),
        "smoothness": _median(r.motion.smoothness for r in successes if r.motion),
        "expert_smoothness": _median(r.expert.smoothness for r in compared if r.expert),
        "ms_per_action": _milliseconds(ended, "policy_seconds"),
        "env_ms_per_step": _milliseconds(ended, "env_seconds"),
        "efficiency": efficiency(ended),
        "failures": dict(Counter(failure_reason(record) for record in failures).most_common()),
    }


def _stages(ended: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """How many episodes reached each stage, in order, over those whose record says so."""
    known = [record for record in ended if record.stages]
    names = dict.fromkeys(name for record in known for name in record.stages)
    return {name: scene_rate((record.seed, record.stages[name]) for record in known) for name in names}


def rate(count: int, trials: int) -> dict[str, Any]:
    """A binomial rate with its Wilson interval; the rate of no trials is None."""
    return _shown(count, trials, wilson(count, trials))


def scene_rate(outcomes: Iterable[tuple[int, bool]]) -> dict[str, Any]:
    """The same of episodes with their seeds, which may have met one scene under several conditions."""
    scenes = by_scene(outcomes)
    count, trials = (sum(numbers[i] for numbers in scenes.values()) for i in (0, 1))
    return _shown(count, trials, clustered_wilson(scenes))


def _shown(count: int, trials: int, interval: Interval) -> dict[str, Any]:
    low, high = interval
    return {"count": count, "rate": count / trials if trials else None, "low": low, "high": high}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None


def _milliseconds(records: Sequence[EpisodeRecord], name: str) -> float | None:
    steps = sum(record.motion.steps for record in records if record.motion)
    return 1000 * sum(getattr(record, name) for record in records) / steps if steps else None
