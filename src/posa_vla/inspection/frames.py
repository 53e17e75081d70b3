"""Some frames of a dataset: from its frame cache where that is current, else decoded from the files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.data.cache import FrameCache, default_cache_root
from posa_vla.data.manifest import MANIFEST
from posa_vla.data.source import Segment, Source
from posa_vla.errors import PosaError, unknown_name

SEEK_BEYOND = 16
"""Frames to decode and throw away rather than to seek."""


class Images(Protocol):
    """Images of any rows of a dataset."""

    def read(self, camera: str, rows: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W, 3) RGB of ascending rows (n,)."""


class FrameReader:
    """`Images` of the dataset in a folder."""

    def __init__(self, root: Path) -> None:
        self.source = Source(root)
        self.cache = _current_cache(root)
        self.keys = {camera.name: camera.key for camera in self.source.cameras}
        self._segments = None if self.cache else self.source.segments()

    def size(self, camera: str) -> tuple[int, int]:
        """Width and height of a camera's images, pixels."""
        found = next(item for item in self.source.cameras if item.name == camera)
        return found.width, found.height

    def read(self, camera: str, rows: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W, 3) RGB of ascending rows (n,) of the dataset."""
        if camera not in self.keys:
            raise unknown_name("camera", camera, self.keys)
        if self.cache is not None:
            return np.asarray(self.cache.images[camera][rows])
        found = dict(self._decoded(camera, rows))
        missing = [int(row) for row in rows if int(row) not in found]
        if missing:
            raise PosaError(
                f"{self.source.root}: {camera} has no image in row {missing[0]} ({len(missing)} rows in all): see "
                f"posa-vla validate {self.source.root}"
            )
        sizes = sorted({f"{found[int(row)].shape[1]}x{found[int(row)].shape[0]}" for row in rows})
        if len(sizes) > 1:
            raise PosaError(
                f"{self.source.root}: {camera} has images of different sizes ({', '.join(sizes)}): see posa-vla "
                f"validate {self.source.root}"
            )
        return np.stack([found[int(row)] for row in rows])

    def _decoded(self, camera: str, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for segment in self._segments or ():
            if segment.camera != camera:
                continue
            row_of = _positions(segment, rows)
            if not row_of:
                continue
            positions = np.array(sorted(row_of))
            images = (
                _from_video(segment.path, positions, self.source.meta.fps)
                if segment.is_video
                else _from_table(segment.path, self.keys[camera], positions)
            )
            yield from ((row_of[position], image) for position, image in images)


def _current_cache(root: Path) -> FrameCache | None:
    place = default_cache_root(root)
    if not (place / MANIFEST).is_file():
        return None
    try:
        return FrameCache.open(place, dataset_root=root)
    except PosaError:  # of an older state of the dataset: the files are the truth
        return None


def _positions(segment: Segment, rows: np.ndarray) -> dict[int, int]:
    """Position in the file -> row of the dataset, for the rows that lie in it."""
    found: dict[int, int] = {}
    for span in segment.spans:
        inside = rows[(rows >= span.row) & (rows < span.row + span.length)]
        found |= {span.first + int(row) - span.row: int(row) for row in inside}
    return found


def _from_video(path: Path, positions: np.ndarray, fps: float) -> Iterator[tuple[int, np.ndarray]]:
    wanted = set(positions.tolist())
    groups = np.split(positions, np.flatnonzero(np.diff(positions) > SEEK_BEYOND) + 1)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            for group in groups:
                container.seek(int(group[0] / fps / (stream.time_base or 1)), stream=stream)
                for frame in container.decode(stream):
                    position = round((frame.time or 0.0) * fps)
                    if position in wanted and position >= group[0]:
                        yield position, frame.to_ndarray(format="rgb24")
                    if position >= group[-1]:
                        break
    except (av.FFmpegError, OSError) as error:
        raise PosaError(f"{path} cannot be decoded ({error}): see posa-vla validate") from error


def _from_table(path: Path, key: str, positions: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    try:
        file = pq.ParquetFile(path)
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            own = positions[(positions >= start) & (positions < stop)]
            cells = file.read_row_group(group, columns=[key])[key] if len(own) else []
            for position in own:
                image = _decoded_cell(cells[int(position) - start].as_py())
                if image is not None:
                    yield int(position), image
            start = stop
    except (OSError, pa.ArrowException) as error:
        raise PosaError(f"{path} cannot be read ({str(error).splitlines()[0]}): see posa-vla validate") from error


def _decoded_cell(cell: dict[str, Any] | None) -> np.ndarray | None:
    content = (cell or {}).get("bytes")  # an empty cell, or one that names a file elsewhere
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB) if content else None
