"""``result.json``: everything about a finished cell that is worth keeping, small enough to commit."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.errors import PosaError
from posa_vla.evaluation.episode_table import COLUMNS, episode_row
from posa_vla.evaluation.records import from_json
from posa_vla.experiments.store import DATASET_FILE, STAGES, CellFolder, read_json
from posa_vla.training.runlog import LOG_FILE, read_log

CURVE_POINTS = 50
CURVE = ("loss", "action_loss", "focal_loss", "contrastive_loss", "task_anchor_error")
"""Numbers of the training log that are kept, where they are logged; beside them step, seconds and ``eval_…``."""


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
        "origin": folder.origin,
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
