"""Checkpoints that are either complete or not there.

``OUT/checkpoints/000100/{pretrained_model,training_state}`` appears by one rename of a folder whose every file
is on the disk, under a name no reader looks at until then. ``OUT/checkpoints/last`` points to the newest one.
A manifest of sizes and SHA-256 sums tells a file that was damaged later.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from posa_vla.data.files import file_checksum, sync_folder
from posa_vla.errors import PosaError

PRETRAINED_MODEL, TRAINING_STATE, LAST = "pretrained_model", "training_state", "last"
MANIFEST = f"{TRAINING_STATE}/manifest.json"
PARTIAL, REMOVED = ".partial-", ".removed-"


class Checkpoints:
    """The checkpoints of one run, in ``root`` = OUT/checkpoints."""

    def __init__(self, root: Path):
        self.root = root

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(int(path.name) for path in self.root.iterdir() if path.name.isdigit() and path.is_dir())

    def path(self, step: int) -> Path:
        return self.root / f"{step:06d}"

    def newest(self) -> Path | None:
        """The newest complete checkpoint, its files checked against the manifest."""
        steps = self.steps()
        if not steps:
            return None
        newest = self.path(steps[-1])
        try:
            verify(newest)
        except PosaError as error:
            older = f" to resume from step {steps[-2]}" if len(steps) > 1 else ""
            raise PosaError(f"{error}: remove the folder {newest}{older}") from error
        return newest

    def save(self, step: int, write: Callable[[Path], None], keep_last: int | None = None) -> Path:
        """Publish the folder that `write` fills as the checkpoint of `step`; on failure nothing changes.

        Args:
            step: optimiser steps done.
            write: fills the empty folder it is given.
            keep_last: how many checkpoints remain afterwards; None = all.
        """
        final, partial = self.path(step), self.root / f"{PARTIAL}{step:06d}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.sweep()
            partial.mkdir()
            write(partial)
            write_manifest(partial)
            sync_tree(partial)
            os.rename(partial, final)
            sync_folder(self.root)
            self.point_last(final)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise PosaError(self._write_failure(final, error)) from error
        if keep_last is not None:
            self._prune(max(1, keep_last))
        return final

    def point_last(self, target: Path) -> None:
        """Make ``last`` a relative link to `target` in one step: there is no moment without it."""
        link = self.root / f"{PARTIAL}{LAST}"
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)
        os.replace(link, self.root / LAST)
        sync_folder(self.root)

    def sweep(self) -> None:
        """Remove what an interrupted save or removal left behind."""
        for path in self.root.iterdir():
            if path.name.startswith((PARTIAL, REMOVED)):
                path.unlink() if path.is_symlink() else shutil.rmtree(path)

    def _prune(self, keep_last: int) -> None:
        for step in self.steps()[:-keep_last]:
            removed = self.root / f"{REMOVED}{step:06d}"
            os.rename(self.path(step), removed)  # a half-removed folder must not look complete
            shutil.rmtree(removed)

    def _write_failure(self, final: Path, error: Exception) -> str:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        cause = "the disk is full" if full else str(error)
        steps = self.steps()
        intact = f"the checkpoint of step {steps[-1]} is intact" if steps else "no earlier checkpoint exists"
        return f"could not write the checkpoint {final} because {cause}; {intact}: free space and use --resume=true"


def write_manifest(folder: Path) -> None:
    """List every file of `folder` with its size and SHA-256 in `MANIFEST`."""
    entries = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_checksum(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    write_json(folder / MANIFEST, entries)


def verify(folder: Path) -> None:
    """Raise PosaError naming the first file of a checkpoint that is missing, truncated or changed."""
    entries = read_json(folder / MANIFEST)
    for name, expected in entries.items():
        path = folder / name
        if not path.is_file():
            raise PosaError(f"the checkpoint lacks the file {path}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise PosaError(f"{path} is damaged: expected {expected['bytes']} bytes, found {size}")
        if file_checksum(path) != expected["sha256"]:
            raise PosaError(f"{path} is damaged: its content does not match the checksum it was saved with")


def sync_tree(folder: Path) -> None:
    """fsync every file, then every folder, of a tree."""
    folders = [folder]
    for path in folder.rglob("*"):
        if path.is_dir():
            folders.append(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in reversed(folders):
        sync_folder(path)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PosaError(f"the checkpoint lacks the file {path}") from error
    except (OSError, ValueError) as error:
        raise PosaError(f"{path} is damaged: expected JSON, found something else ({error})") from error
