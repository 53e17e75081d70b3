"""Building a frame cache: decode once, in the order of the files, resumable, complete or absent.

Everything is written to a folder beside the target, ``NAME.partial``. Its ``progress.json`` names the segments
already decoded with their checksums, so that a build that was cut off goes on where it stopped. The manifest is
written last and the folder renamed into place: a cache that exists is complete.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from posa_vla.data import files
from posa_vla.data.decode import decode_segment
from posa_vla.data.manifest import FORMAT, MANIFEST, VERSION, read_manifest, rows_to_bytes
from posa_vla.data.source import CameraSource, Segment, Source, dataset_fingerprint
from posa_vla.data.tasks import task_ids
from posa_vla.errors import PosaError

PROGRESS = "progress.json"
COLUMN_MARGIN = 1 << 20
"""Bytes set aside for the manifest and file system overhead."""


def default_cache_root(dataset_root: Path) -> Path:
    """The cache's place when none is given: ``DATASET.cache`` beside the dataset."""
    dataset_root = Path(dataset_root).resolve()
    return dataset_root.with_name(dataset_root.name + ".cache")


def build_cache(
    dataset_root: Path,
    cache_root: Path | None = None,
    workers: int | None = None,
    rebuild: bool = False,
    progress: bool = True,
) -> Path:
    """Decodes a LeRobotDataset into a frame cache, unless an up-to-date one is there.

    Args:
        dataset_root: LeRobotDataset v3, video- or image-backed.
        cache_root: the cache's folder; None for `default_cache_root`.
        workers: files decoded at a time; None for one per usable CPU.
        rebuild: start afresh even if the cache is up to date or half built.
        progress: show a progress bar.

    Returns:
        The cache's folder.
    """
    source = Source(dataset_root)
    cache_root = Path(cache_root) if cache_root else default_cache_root(source.root)
    _refuse_foreign(cache_root)
    fingerprint = dataset_fingerprint(source.root)
    if not rebuild and _is_current(cache_root, fingerprint):
        return cache_root
    partial = cache_root.with_name(cache_root.name + ".partial")
    with _locked(partial):
        if rebuild or _read_progress(partial).get("fingerprint") != fingerprint:
            _clear(partial)
        _Build(source, fingerprint, partial, progress).run(workers or len(os.sched_getaffinity(0)))
        _swap(partial, cache_root)
    return cache_root


class _Build:
    """One build in the folder `partial`, which is locked."""

    def __init__(self, source: Source, fingerprint: str, partial: Path, progress: bool):
        self.source, self.fingerprint, self.partial = source, fingerprint, partial
        self.cameras = {camera.name: camera for camera in source.cameras}
        self.segments = source.segments()
        self.progress = progress
        self.done: dict[str, str] = {}
        self.stop, self.lock = threading.Event(), threading.Lock()

    def run(self, workers: int) -> None:
        columns = self.source.read_columns()
        self._allocate(sum(column.nbytes for column in columns.values()))
        self._resume()
        self._decode(workers)
        try:
            manifest = self._manifest({key: self._write_column(key, a) for key, a in columns.items()})
            files.write_json(self.partial / MANIFEST, manifest)
        except OSError as error:
            raise self._disk_error(error) from error

    def image_file(self, camera: str) -> Path:
        return self.partial / f"{camera}.u8"

    def _frame_bytes(self, camera: CameraSource) -> int:
        return camera.height * camera.width * 3

    def _allocate(self, column_bytes: int) -> None:
        """Reserves the room for all frames, so that a full disk is found before decoding and not after."""
        sizes = {self.image_file(n): self.source.num_frames * self._frame_bytes(c) for n, c in self.cameras.items()}
        present = sum(os.stat(path).st_blocks * 512 for path in sizes if path.exists())
        needed = sum(sizes.values()) + column_bytes + COLUMN_MARGIN
        try:
            files.require_space(self.partial, needed - present)
            for path, size in sizes.items():
                with path.open("ab") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
        except PosaError:
            _clear(self.partial)
            raise
        except OSError as error:
            raise self._disk_error(error, needed) from error

    def _disk_error(self, error: OSError, needed: int | None = None) -> Exception:
        """A full disk gives back what this build took; any other error is passed on as it is."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        _clear(self.partial)
        total = needed or self.source.num_frames * sum(map(self._frame_bytes, self.cameras.values()))
        return files.no_space(self.partial.parent, total, shutil.disk_usage(self.partial).free)

    def _resume(self) -> None:
        """Keeps the segments that are on disk as promised; the checksum also covers a power cut."""
        recorded = _read_progress(self.partial).get("segments", {})
        for segment in self.segments:
            ranges = self._byte_ranges(segment)
            promised = recorded.get(segment.name)
            if promised and files.ranges_checksum(self.image_file(segment.camera), ranges) == promised:
                self.done[segment.name] = promised
        self._record()

    def _record(self) -> None:
        files.write_json(self.partial / PROGRESS, {"fingerprint": self.fingerprint, "segments": dict(self.done)})

    def _byte_ranges(self, segment: Segment) -> list[tuple[int, int]]:
        camera = self.cameras[segment.camera]
        return rows_to_bytes(self._rows(segment), self._frame_bytes(camera))

    def _rows(self, segment: Segment) -> list[tuple[int, int]]:
        """The dataset rows [start, stop) of a segment, in the order in which they are decoded."""
        return [(s.row, s.row + s.length) for s in sorted(segment.spans, key=lambda s: s.first)]

    def _decode(self, workers: int) -> None:
        """Decodes what is missing with a thread per file: decoding, hashing and writing release the GIL."""
        todo = [segment for segment in self.segments if segment.name not in self.done]
        total = sum(segment.num_frames for segment in self.segments)
        initial = total - sum(segment.num_frames for segment in todo)
        bar = tqdm(total=total, initial=initial, unit="frame", desc="cache", disable=not self.progress)
        with bar, ThreadPoolExecutor(max_workers=workers) as pool:
            futures = [pool.submit(self._decode_one, segment, bar) for segment in todo]
            try:
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
            except BaseException as error:
                self.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                if isinstance(error, OSError):
                    raise self._disk_error(error) from error
                raise

    def _decode_one(self, segment: Segment, bar: tqdm) -> None:
        camera = self.cameras[segment.camera]
        expected, size = (camera.height, camera.width, 3), self._frame_bytes(camera)
        digest = hashlib.sha256()
        with self.image_file(camera.name).open("r+b", buffering=0) as file:
            for row, image in decode_segment(segment, camera.key, self.source.meta.fps):
                if self.stop.is_set():
                    return
                if image.shape != expected:
                    raise PosaError(f"{segment.path}: expected images of {expected}, found {image.shape}")
                if os.pwrite(file.fileno(), image.data, row * size) != size:
                    raise OSError(errno.ENOSPC, "short write")
                digest.update(image.data)
                bar.update()
            os.fsync(file.fileno())
        with self.lock:
            self.done[segment.name] = digest.hexdigest()
            self._record()

    def _write_column(self, key: str, array: np.ndarray) -> dict[str, Any]:
        name = f"{key}.npy"
        checksum = files.write_array(self.partial / name, array)
        size = (self.partial / name).stat().st_size
        return {"file": name, "bytes": size, "shape": array.shape, "dtype": str(array.dtype), "sha256": checksum}

    def _manifest(self, columns: dict[str, Any]) -> dict[str, Any]:
        meta, tasks = self.source.meta, self.source.tasks()
        images = {
            name: {
                "key": camera.key,
                "file": self.image_file(name).name,
                "shape": (self.source.num_frames, camera.height, camera.width, 3),
                "segments": [
                    {"source": s.name, "rows": self._rows(s), "sha256": self.done[s.name]}
                    for s in self.segments
                    if s.camera == name
                ],
            }
            for name, camera in self.cameras.items()
        }
        stats = {k: {n: np.asarray(v).tolist() for n, v in entry.items()} for k, entry in (meta.stats or {}).items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "dataset": str(self.source.root.resolve()),
            "fps": meta.fps,
            "num_frames": self.source.num_frames,
            "images": images,
            "columns": columns,
            "features": meta.features,
            "stats": stats,
            "tasks": tasks,
            "task_ids": task_ids(self.source.root, tasks).tolist(),
        }


def _refuse_foreign(cache_root: Path) -> None:
    """A folder that is no cache is never overwritten."""
    if cache_root.is_dir() and (not any(cache_root.iterdir()) or (cache_root / MANIFEST).is_file()):
        return
    if cache_root.exists():
        raise PosaError(f"{cache_root} exists and is no frame cache: choose another --output or remove it")


def _is_current(cache_root: Path, fingerprint: str) -> bool:
    try:
        return read_manifest(cache_root)["fingerprint"] == fingerprint
    except PosaError:
        return False  # damaged or of another version: it is built again


def _read_progress(partial: Path) -> dict[str, Any]:
    """What an earlier build left; a folder whose progress cannot be read has none to go on from."""
    try:
        return json.loads((partial / PROGRESS).read_text())
    except (OSError, ValueError):
        return {}


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Keeps a second build of the same cache out, by a lock on the folder itself."""
    partial.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = partial.is_dir() and os.path.samestat(partial.stat(), os.fstat(descriptor))
        except BlockingIOError:
            held = False
        if not held:
            raise PosaError(f"another process is building {partial}: wait for it to end")
        try:
            yield
        finally:
            if partial.is_dir() and not any(partial.iterdir()):
                partial.rmdir()
    finally:
        os.close(descriptor)


def _clear(partial: Path) -> None:
    for path in partial.iterdir():
        path.unlink()


def _swap(partial: Path, cache_root: Path) -> None:
    """Puts the finished folder in place of an older cache; a process that maps the old files keeps them."""
    (partial / PROGRESS).unlink()
    files.sync_folder(partial)
    old = cache_root.with_name(cache_root.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if cache_root.exists():
        cache_root.rename(old)
    partial.rename(cache_root)
    files.sync_folder(cache_root.parent)
    shutil.rmtree(old, ignore_errors=True)
