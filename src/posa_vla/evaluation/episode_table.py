"""An evaluation's episodes as a table, one row each: ``episodes.csv``, and what experiments commit."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from posa_vla.contract import CAMERAS
from posa_vla.evaluation.metrics import failure_reason
from posa_vla.evaluation.records import FAILURE, EpisodeRecord

LATE = 3
"""Samples of the task anchor before the target rises that tell where the policy looks as it closes the hand."""

ANCHOR_COLUMNS = tuple(f"{camera}_{when}" for camera in CAMERAS for when in ("first", "mean", "late"))
COLUMNS = (
    *("condition", "seed", "target", "outcome", "reason", "steps", "path", "expert_steps", "expert_path"),
    *("smoothness", "expert_smoothness", "policy_seconds", "env_seconds"),
    *ANCHOR_COLUMNS,
)
"""One row per episode. path in metres, smoothness as in `evaluation.motion`; HEAD_first: distance of the predicted
task anchor from the target at the first frame in fractions of the image's side, `mean` and `late`: over all and the
last samples until the target rises."""


def episodes_csv(records: Iterable[EpisodeRecord]) -> str:
    """`COLUMNS` and a line per episode; empty where there is nothing to say."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *(episode_row(record) for record in records)])
    return text.getvalue()


def episode_row(record: EpisodeRecord) -> list[Any]:
    """The episode in the order of `COLUMNS`; None where there is nothing to say."""
    motion, expert = record.motion, record.expert
    values = {
        "condition": record.condition,
        "seed": record.seed,
        "target": record.target,
        "outcome": record.outcome,
        "reason": failure_reason(record) if record.outcome == FAILURE else None,
        "policy_seconds": record.policy_seconds,
        "env_seconds": record.env_seconds,
        **task_anchor_errors(record.anchors),
    }
    if motion is not None:
        values |= {"steps": motion.steps, "path": motion.path_length, "smoothness": motion.smoothness}
    if expert is not None:
        values |= {"expert_steps": expert.steps, "expert_path": expert.path_length}
        values["expert_smoothness"] = expert.smoothness
    return [_short(values.get(name)) for name in COLUMNS]


def task_anchor_errors(track: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Errors of the task anchor (`ANCHOR_COLUMNS`) from an episode's `AnchorTrack`, in fractions of the short side."""
    if not track:
        return {}
    predicted, true = (np.array(track[name], np.float64)[:, :, 0] for name in ("predicted", "true"))  # (T, C, 2)
    sizes = np.array(track["image_sizes"], np.float64)  # (C, 2)
    errors = np.linalg.norm((predicted - true) * sizes, axis=-1) / sizes.min(axis=-1)  # (T, C)
    found: dict[str, float | None] = {}
    for index, camera in enumerate(track["cameras"]):
        known = errors[~np.isnan(errors[:, index]), index]
        first = errors[0, index]
        found[f"{camera}_first"] = None if np.isnan(first) else float(first)
        found[f"{camera}_mean"] = float(known.mean()) if len(known) else None
        found[f"{camera}_late"] = float(known[-LATE:].mean()) if len(known) else None
    return found


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
