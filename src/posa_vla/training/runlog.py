"""Where numbers go: OUT/log.jsonl always, TensorBoard and Weights & Biases if asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posa_vla.data.files import write_bytes
from posa_vla.errors import PosaError

LOG_FILE = "log.jsonl"
EVAL = "eval_"
"""Begins the names of an evaluation's numbers."""


class RunLog:
    """One JSON object per line, ``{"step": …, "loss": …, …}``; every line is on its own complete.

    Args:
        folder: OUT.
        start_step: the step training continues from. Lines of later steps are dropped: they belong to work
            that was lost when the run before was killed, and will be written again.
        tensorboard: also write event files to OUT/tensorboard.
        wandb: project name for Weights & Biases, or None.
    """

    def __init__(self, folder: Path, start_step: int, tensorboard: bool = False, wandb: str | None = None):
        self.path = folder / LOG_FILE
        folder.mkdir(parents=True, exist_ok=True)
        _keep_until(self.path, start_step)
        self._file = self.path.open("a")
        self._board = _tensorboard(folder) if tensorboard else None
        self._run = _wandb(folder, wandb) if wandb else None

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


def _tensorboard(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def _wandb(folder: Path, project: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise PosaError("--wandb needs the package wandb: pip install wandb, or leave the option out") from error
    return wandb.init(project=project, dir=str(folder), name=folder.name, resume="allow")
