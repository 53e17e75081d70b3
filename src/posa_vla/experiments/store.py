"""What is on disk about a cell: OUTPUT/EXPERIMENT/CELL/, and OUTPUT/recordings/KEY/ and OUTPUT/datasets/KEY/ for what
cells share.

cell.json     the configuration it was started with, its hashes, and the checksum of the weights it started from
stages.json   seconds, revisions and commands of each stage so far
train/ eval/  what the commands write, with train.log and eval.log beside
result.json   when it has ended; failed.json when it ended badly
lock          held by whoever runs it, the running command included
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla import reference
from posa_vla.data.files import file_checksum, write_json
from posa_vla.errors import PosaError
from posa_vla.experiments.cells import Cell

CELL, STAGES, RESULT, FAILED_FILE, LOCK = "cell.json", "stages.json", "result.json", "failed.json", "lock"
RECORDINGS, DATASETS, DATASET_FILE = "recordings", "datasets", "dataset.json"
LAST = Path("checkpoints", "last", "pretrained_model")
"""A training's checkpoint, below its folder."""
DONE, FAILED, STALE, STARTED, MISSING, BLOCKED = "done", "failed", "stale", "started", "missing", "blocked"
"""States; `blocked`: the cell whose policy it evaluates is not trained."""


@dataclass(frozen=True)
class CellFolder:
    """A cell's folder below `output`."""

    cell: Cell
    output: Path

    @property
    def path(self) -> Path:
        return self.output / self.cell.experiment / self.cell.name

    @property
    def train(self) -> Path:
        return self.path / "train"

    @property
    def checkpoint(self) -> Path:
        """Of the policy that is evaluated, its own or the other experiment's."""
        trained = CellFolder(self.cell.policy_of, self.output) if self.cell.policy_of else self
        return trained.train / LAST

    @property
    def recording(self) -> Path:
        return self.output / RECORDINGS / self.cell.recording_key

    @property
    def dataset(self) -> Path:
        return self.output / DATASETS / self.cell.dataset_key

    @property
    def origin(self) -> str | None:
        """Checksum of the weights that its training starts from; None: from nothing, or from weights not on this disk.

        A name such as `reference` stays while the weights behind it change.
        """
        path = self.cell.train.get("policy.path")
        weights = reference.resolve(Path(path)) / "model.safetensors" if path else None
        return file_checksum(weights) if weights and weights.is_file() else None

    def state(self) -> str:
        started = read_json(self.path / CELL)
        if started is not None and not (started.get("hash") == self.cell.hash and self._same_training(started)):
            return STALE
        if (self.path / RESULT).exists():
            return DONE
        if self.cell.policy_of and not CellFolder(self.cell.policy_of, self.output).is_trained():
            return BLOCKED
        if (self.path / FAILED_FILE).exists():
            return FAILED
        return MISSING if started is None else STARTED

    def is_trained(self) -> bool:
        """Whether its training has ended, with the present options."""
        return self._is_trained(self.path)

    def stages(self) -> dict[str, Any]:
        return read_json(self.path / STAGES) or {}

    def begin(self) -> None:
        """Write down what is being run; a folder of other options is emptied as far as they differ."""
        self.path.mkdir(parents=True, exist_ok=True)
        before = read_json(self.path / CELL)
        if before is not None:
            same_training = self._same_training(before)
            if not same_training or before.get("hash") != self.cell.hash:
                self._clear(keep_training=same_training)
        (self.path / FAILED_FILE).unlink(missing_ok=True)
        facts = {"hash": self.cell.hash, "train_hash": self.cell.train_hash, "origin": self.origin}
        write_json(self.path / CELL, {**facts, "config": self.cell.config()})

    def adopt_training(self) -> str | None:
        """Copy what a cell of any experiment has already trained with the same options, data and seed; its name."""
        if self.cell.policy_of or self.train.exists():
            return None
        for path in sorted(self.output.glob(f"*/*/{CELL}")):
            if path.parent != self.path and self._is_trained(path.parent):
                stage = (read_json(path.parent / STAGES) or {})["train"]
                copy = self.path / "train.partial"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(path.parent / "train", copy, symlinks=True)
                write_json(self.path / STAGES, {**self.stages(), "train": stage})
                copy.rename(self.train)
                return f"{path.parent.parent.name}/{path.parent.name}"
        return None

    def _is_trained(self, folder: Path) -> bool:
        """Whether a folder holds this cell's finished training, and its checkpoint is still there."""
        same = self._same_training(read_json(folder / CELL) or {})
        done = (read_json(folder / STAGES) or {}).get("train", {}).get("done", False)
        return same and done and (folder / "train" / LAST).exists()

    def _same_training(self, started: dict[str, Any]) -> bool:
        """Whether a cell.json is of the same training, from the same weights; older files do not tell these."""
        same_weights = "origin" not in started or started["origin"] == self.origin
        return started.get("train_hash") == self.cell.train_hash and same_weights

    def _clear(self, keep_training: bool) -> None:
        """The result goes first, so that a kill in between leaves no result beside foreign files."""
        for name in (RESULT, FAILED_FILE):
            (self.path / name).unlink(missing_ok=True)
        stages = {name: stage for name, stage in self.stages().items() if keep_training and name == "train"}
        write_json(self.path / STAGES, stages)
        for name in ("eval",) if keep_training else ("eval", "train"):
            shutil.rmtree(self.path / name, ignore_errors=True)
            (self.path / f"{name}.log").unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The file's content; None where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise PosaError(f"{path} is not JSON ({error}): remove its folder to run it again") from error


@contextlib.contextmanager
def try_lock(folder: Path) -> Iterator[int | None]:
    """The descriptor of FOLDER/lock, held; None where another process holds it.

    A command that inherits the descriptor keeps the lock alive: after a SIGKILL of the runner nobody starts a
    second training beside the first one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file.fileno()
