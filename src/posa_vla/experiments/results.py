"""``result.json``: everything about a finished cell that is worth keeping, small enough to commit."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.contract import CAMERAS
from posa_vla.errors import PosaError
from posa_vla.evaluation.metrics import failure_reason
from posa_vla.evaluation.records import FAILURE, EpisodeRecord, from_json
from posa_vla.experiments.store import DATASET_FILE, STAGES, CellFolder, read_json
from posa_vla.training.runlog import LOG_FILE, read_log

CURVE_POINTS = 50
CURVE = ("loss", "action_loss", "focal_loss", "contrastive_loss", "task_anchor_error")
"""Numbers of the training log that are kept, where they are logged; beside them step, seconds and ``eval_…``."""

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


def make_result(folder: CellFolder, threads: int) -> dict[str, Any]:
    """Gather a cell's result from what its commands wrote."""
    cell = folder.cell
    results = read_json(folder.path / "eval" / "results.json")
    if results is None:
        raise PosaError(f"expected {folder.path / 'eval' / 'results.json'} after the evaluation, found no such file")
    prepared = (read_json(folder.recording / STAGES) or {}) | (read_json(folder.dataset / STAGES) or {})
    own = folder.stages()
    trained = CellFolder(cell.policy_of, folder.output).stages() if cell.policy_of else {}
    stages = {**prepared, **{name: trained[name] for name in ("train",) if name in trained}, **own}
    return {
        "experiment": cell.experiment,
        "cell": cell.name,
        "hash": cell.hash,
        "config": cell.config(),
        "threads": threads,
        "dataset": (read_json(folder.dataset / DATASET_FILE) or {}).get("fingerprint"),
        "commands": {name: stage["command"] for name, stage in stages.items()},
        "git": {name: stage["git"] for name, stage in stages.items()},
        "seconds": {name: stage["seconds"] for name, stage in stages.items()},
        "versions": results["versions"],
        "machine": results["machine"],
        "finished": results["finished"],
        "policy": _policy(folder.checkpoint, results),
        "training": None if cell.policy_of else _training(folder),
        "conditions": results["summary"]["conditions"],
        "pooled": results["summary"]["pooled"],
        "anchors": results["summary"]["anchors"],
        "episodes": {"columns": COLUMNS, "rows": [episode_row(from_json(r)) for r in results["records"]]},
    }


def _policy(checkpoint: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    config = read_json(checkpoint / "config.json") or {}
    return {
        "type": config.get("type"),
        "sha256": results["policy"]["sha256"],
        "numbers": count_numbers(checkpoint / "model.safetensors"),
        "n_action_steps": results["policy"]["n_action_steps"] or config.get("n_action_steps"),
        "integration_steps": results["policy"]["integration_steps"] or config.get("integration_steps"),
    }


def count_numbers(path: Path) -> int:
    """Numbers in a safetensors file, the parameters and buffers of a policy; reads the header alone."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _training(folder: CellFolder) -> dict[str, Any]:
    """The curve, and in which arithmetic it came about: float32 and bf16 give slightly different policies."""
    state = read_json(folder.checkpoint.parent / "training_state" / "state.json") or {}
    precision = state.get("precision")
    precision = "fp32" if precision == "no" else precision  # accelerate's word
    return {"precision": precision, **training_curve(folder.train / LOG_FILE)}


def training_curve(log: Path) -> dict[str, Any]:
    """Steps, seconds and at most `CURVE_POINTS` points of the log; evaluations during training apart."""
    lines = read_log(log)
    losses = thinned([line for line in lines if "loss" in line])
    evaluations = thinned([line for line in lines if "eval_success" in line])
    return {
        "steps": max((line["step"] for line in lines), default=0),
        "seconds": max((line["seconds"] for line in lines if "seconds" in line), default=0.0),
        "curve": [_kept(line, ("step", "seconds", *CURVE)) for line in losses],
        "evaluations": [_kept(line, ("step", "eval_success", "eval_episodes")) for line in evaluations],
    }


def _kept(line: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: float(f"{line[name]:.5g}") if name != "step" else line[name] for name in names if name in line}


def thinned(items: list[Any], most: int = CURVE_POINTS) -> list[Any]:
    """At most `most` items, evenly spaced, first and last among them."""
    if len(items) <= most:
        return items
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, most)]


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
