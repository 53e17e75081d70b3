"""``--dry_run``: what there is to run, what is done, and how long the rest will take."""

from collections.abc import Sequence
from pathlib import Path

from posa_vla.experiments.cells import Cell, grid
from posa_vla.experiments.commands import recording_stage
from posa_vla.experiments.estimate import Estimate, duration, estimate, measured_rates
from posa_vla.experiments.spec import Experiment
from posa_vla.experiments.store import DONE, CellFolder

HEADER = ("cell", "state", "demos", "steps", "with actions", "batch", "minutes", "episodes", "estimate", "basis")


def overview(experiment: Experiment, cells: Sequence[Cell], output: Path, threads: int, workers: int) -> str:
    """A table with one line per cell, and the totals."""
    finished_elsewhere = grid(experiment.source) if experiment.source else []
    rates, gpu = measured_rates(output, [*grid(experiment), *finished_elsewhere], threads), has_gpu()
    ready = {cell.recording_key for cell in cells if recording_stage(CellFolder(cell, output), threads).output.exists()}
    rows, left, whole = [], 0.0, 0.0
    for cell in cells:
        guess = estimate(cell, rates, threads, cell.recording_key in ready, gpu)
        ready.add(cell.recording_key)  # the first cell that needs it pays for it
        state = CellFolder(cell, output).state()
        whole += guess.total
        left += 0.0 if state == DONE else guess.total
        rows.append(_row(cell, state, guess))
    side_by_side = f" with {workers} side by side" if workers > 1 else ""
    return "\n".join(
        [
            f"{experiment.name}: {experiment.question}",
            *([experiment.notes] if experiment.notes else []),
            "",
            *_aligned([HEADER, *rows]),
            "",
            f"{len(cells)} cells, {sum(row[1] != DONE for row in rows)} to run: about {duration(left / workers)}"
            f"{side_by_side}, {threads} thread(s) each; all of them: {duration(whole / workers)}",
        ]
    )


def has_gpu() -> bool:
    """Whether a policy would be trained on a GPU here."""
    import torch  # seconds to import: only for the dry run

    return torch.cuda.is_available()


def _row(cell: Cell, state: str, guess: Estimate) -> tuple[str, ...]:
    trains = cell.policy_of is None
    return (
        cell.name,
        state,
        str(cell.demonstrations),
        _text(cell.steps) if trains else "-",
        _text(cell.action_steps) if trains else "-",
        cell.kind[2] if trains else "-",
        cell.train.get("max_minutes", "-") if trains else "-",
        _text(cell.episodes),
        duration(guess.total),
        guess.basis,
    )


def _text(value: int | None) -> str:
    return "default" if value is None else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
