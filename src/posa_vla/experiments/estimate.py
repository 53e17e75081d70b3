"""How long cells will take: from finished cells on this machine, else from constants that say so."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from posa_vla.evaluation.provenance import host
from posa_vla.experiments.cells import Cell
from posa_vla.experiments.store import RESULT, CellFolder, read_json

SECONDS_PER_SAMPLE = {"tiny": 0.006, "sim": 1.6, "paper": 3.5}
"""Training, one CPU thread, without any measurement. tiny: `make demo`; the others: three forward passes' FLOPs of
`posa-vla bench model` at the speed it measures. Other policies than ours: as tiny."""
SECONDS_PER_GPU_STEP = {"tiny": 0.06, "sim": 0.15, "paper": 0.25}
"""Training on a GPU that several cells share. A guess, measured nowhere: `tiny` waits for kernels to start, not for
arithmetic. The first finished cell replaces it."""
SECONDS_PER_EPISODE = 1.3
"""Evaluation with the expert's comparison, one process (`make demo`)."""
SECONDS_PER_DEMONSTRATION = 0.5
"""Recording, labelling and caching, one process (`make demo`)."""
DEFAULT_BATCH, DEFAULT_EPISODES = 64, 1000


@dataclass(frozen=True)
class Rates:
    """Measured on this machine, by the cell that measured it.

    Args:
        per_step: (cell's kind, variant, seconds per step, cell).
        per_episode: (cell's kind, variant, seconds × workers per episode, cell).
    """

    per_step: tuple[tuple[tuple[str, str, str], str, float, str], ...] = ()
    per_episode: tuple[tuple[tuple[str, str, str], str, float, str], ...] = ()


@dataclass(frozen=True)
class Estimate:
    """Seconds of a cell's stages, and where they come from."""

    dataset: float
    train: float
    eval: float
    basis: str

    @property
    def total(self) -> float:
        return self.dataset + self.train + self.eval


def measured_rates(output: Path, cells: Sequence[Cell], threads: int) -> Rates:
    """Rates of the finished cells among `cells` that ran on this machine with as many threads."""
    here, steps, episodes = host(), [], []
    for cell in cells:
        result = read_json(CellFolder(cell, output).path / RESULT)
        if result is None or result["hash"] != cell.hash or result["threads"] != threads:
            continue
        if any(result["machine"].get(name) != value for name, value in here.items()):
            continue
        seconds, training = result["seconds"], result["training"]
        if training and training["steps"]:
            steps.append((cell.kind, cell.variant, seconds["train"] / training["steps"], cell.name))
        if count := len(result["episodes"]["rows"]):
            episodes.append((cell.kind, cell.variant, seconds["eval"] * _workers(cell, threads) / count, cell.name))
    return Rates(tuple(steps), tuple(episodes))


def estimate(cell: Cell, rates: Rates, threads: int, recorded: bool, gpu: bool = False) -> Estimate:
    """Seconds of each stage; `gpu`: an unmeasured training step is one on a GPU."""
    constant = _gpu_constant(cell) if gpu else _step_constant(cell) / threads
    step, step_from = _rate(cell, rates.per_step, constant)
    episode, episode_from = _rate(cell, rates.per_episode, SECONDS_PER_EPISODE)
    train = 0.0 if cell.policy_of else step * (cell.steps or 0)
    limit = float(cell.train.get("max_minutes", 0))
    if limit and not cell.policy_of:
        train = min(train or 60 * limit, 60 * limit)
    return Estimate(
        dataset=0.0 if recorded or cell.policy_of else SECONDS_PER_DEMONSTRATION * cell.demonstrations / threads,
        train=train,
        eval=episode * (cell.episodes or DEFAULT_EPISODES) / _workers(cell, threads),
        basis=", ".join(dict.fromkeys([episode_from] if cell.policy_of else [step_from, episode_from])),
    )


def _rate(cell: Cell, known: Iterable[tuple[Any, str, float, str]], constant: float) -> tuple[float, str]:
    """The mean over finished cells of this variant, else of this kind, else the constant."""
    same_kind = [row for row in known if row[0] == cell.kind]
    rows = [row for row in same_kind if row[1] == cell.variant] or same_kind
    if not rows:
        return constant, "assumed"
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return mean(row[2] for row in rows), f"measured in {rows[0][3]}{more}"


def _step_constant(cell: Cell) -> float:
    preset, batch = cell.kind[1:]
    return SECONDS_PER_SAMPLE.get(preset, SECONDS_PER_SAMPLE["tiny"]) * (
        int(batch) if batch.isdigit() else DEFAULT_BATCH
    )


def _gpu_constant(cell: Cell) -> float:
    return SECONDS_PER_GPU_STEP.get(cell.kind[1], SECONDS_PER_GPU_STEP["tiny"])


def _workers(cell: Cell, threads: int) -> int:
    return int(cell.eval.get("workers", threads))


def duration(seconds: float) -> str:
    """``2 h 05 min``, ``12 min`` or ``40 s``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
