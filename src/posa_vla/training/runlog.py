"""Where numbers go: OUT/log.jsonl always, TensorBoard and Weights & Biases if asked."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posa_vla.data.files import write_bytes
from posa_vla.errors import PosaError

LOG_FILE = "log.jsonl"
WANDB_RUN = "wandb_run"
EVAL = "eval_"
"""Begins the names of an evaluation's numbers."""


class RunLog:
    """One JSON object per line, ``{"step": …, "loss": …, …}``; every line is on its own complete.

    Args:
        folder: OUT.
        start_step: the step training continues from. Lines and TensorBoard's points of later steps are dropped:
            they belong to work that was lost when the run before was killed, and will be written again.
        tensorboard: also write event files to OUT/tensorboard.
        wandb: project name for Weights & Biases, or None. OUT/wandb_run holds the run's id: a start from a step
            above 0 continues that run, in which points once logged stay.
    """

    def __init__(self, folder: Path, start_step: int, tensorboard: bool = False, wandb: str | None = None):
        self.path = folder / LOG_FILE
        folder.mkdir(parents=True, exist_ok=True)
        _keep_until(self.path, start_step)
        self._file = self.path.open("a")
        self._board = _tensorboard(folder, start_step) if tensorboard else None
        self._run = _wandb(folder, wandb, start_step) if wandb else None

    def evaluated(self, step: int) -> bool:
        """Whether the numbers of an evaluation at this step are there."""
        return any(line["step"] == step and any(key.startswith(EVAL) for key in line) for line in read_log(self.path))

    def write(self, step: int, numbers: Mapping[str, Any]) -> None:
        self._file.write(json.dumps({"step": step, **numbers}) + "\n")
        self._file.flush()
        scalars = {key: value for key, value in numbers.items() if isinstance(value, int | float)}
        if self._board is not None:
            for key, value in scalars.items():
                self._board.add_scalar(key, value, step)
        if self._run is not None:
            self._run.log(scalars, step=step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._run is not None:
            self._run.finish()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last line cut by a kill is left out."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _keep_until(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [line for line in read_log(path) if line["step"] <= step]
    write_bytes(path, "".join(json.dumps(line) + "\n" for line in kept).encode())


def _tensorboard(folder: Path, start_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)


def _wandb(folder: Path, project: str, start_step: int) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise PosaError("--wandb needs the package wandb: pip install wandb, or leave the option out") from error
    path = folder / WANDB_RUN
    if start_step == 0 or not path.exists():
        write_bytes(path, secrets.token_hex(4).encode())
    return wandb.init(project=project, dir=str(folder), name=folder.name, id=path.read_text(), resume="allow")
