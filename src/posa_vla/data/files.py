"""Files that are either complete or absent: written beside their place, synced, renamed."""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.errors import PosaError

BLOCK_BYTES = 1 << 22


def dataset_files(root: Path) -> list[Path]:
    """Every file of a dataset, sorted, also those in folders that are linked into it.

    Raises:
        PosaError: a link leads nowhere, or to a folder that it lies in.
    """
    found: list[Path] = []
    for name, folders, names in os.walk(root, followlinks=True):
        folder = Path(name)
        for path in (folder / item for item in folders if (folder / item).is_symlink()):
            real = path.resolve()
            if any(above.resolve() == real for above in path.parents if above.is_relative_to(root)):
                raise PosaError(f"{path} is a link to a folder that it lies in: remove it from the dataset")
        found.extend(folder / item for item in names)
    for path in found:
        if not path.exists():
            raise PosaError(f"{path} is a link to a file that is not there: copy or download the dataset again")
    return sorted(path for path in found if path.is_file())


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Holds the lock of an existing folder, which the system lets go when the process ends, however it ends.

    Raises:
        PosaError: another process is `doing` it, such as "writing DATASET".
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PosaError(f"another process is {doing}: wait for it to end, or choose another folder") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name in the same folder to write to, moved to `path` at the end; what fails leaves `path` as it was.

    The name is nobody else's: two processes that replace one file at once leave the one's or the other's, never a
    mixture. It keeps the ending, which tells some writers the format.
    """
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` atomically."""
    with replacing(path) as beside:
        beside.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Replaces `path` atomically by `content`."""
    write_bytes(path, json.dumps(content, indent=1).encode())


def write_array(path: Path, array: np.ndarray) -> str:
    """Writes an .npy file without pickle and returns its sha256."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return file_checksum(path)


def file_checksum(path: Path) -> str:
    """sha256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ranges_checksum(path: Path, ranges: Iterable[tuple[int, int]]) -> str:
    """sha256 of the bytes [start, stop) of a file, one range after the other."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start, stop in ranges:
            file.seek(start)
            while start < stop:
                block = file.read(min(BLOCK_BYTES, stop - start))
                if not block:
                    return "truncated"
                digest.update(block)
                start += len(block)
    return digest.hexdigest()


def require_space(folder: Path, needed: int) -> None:
    """Raises when the disk of `folder` has fewer than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise no_space(folder, needed, free)


def no_space(folder: Path, needed: int, free: int) -> PosaError:
    return PosaError(
        f"the disk of {folder} has {free:,} bytes free where {needed:,} are needed: "
        "free some space or choose another disk with --output"
    )
