"""A LeRobotDataset v3 on disk, seen as whole files: which rows of the dataset lie in which video or table."""

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

from posa_vla import contract
from posa_vla.data.features import image_sides
from posa_vla.data.files import dataset_files
from posa_vla.data.tables import flat_values
from posa_vla.errors import PosaError

INDEX_COLUMNS = ("index", "episode_index", "frame_index", "task_index", "timestamp")
"""LeRobot's own columns, stored as (N,); every other one is (N, *shape)."""

SAMPLE_BYTES = 1 << 16
"""Videos are fingerprinted by size and three samples of so many bytes: reading them whole costs minutes."""

MUST_BE_FINITE = (contract.STATE, contract.ACTION, contract.ANCHORS, contract.STEPS_TO_INTERACTION)


@dataclass(frozen=True)
class Span:
    """`length` frames of one episode: from `first` on in their file, from `row` on in the dataset."""

    episode: int
    first: int
    row: int
    length: int


@dataclass(frozen=True)
class Segment:
    """One camera's frames in one file (video or table), the unit of decoding and of resuming."""

    camera: str
    path: Path
    is_video: bool
    spans: tuple[Span, ...]

    @property
    def name(self) -> str:
        return f"{self.camera}/{self.path.parent.name}/{self.path.name}"

    @property
    def num_frames(self) -> int:
        return sum(span.length for span in self.spans)


@dataclass(frozen=True)
class CameraSource:
    """One camera of the dataset: its name, its feature's key and its image size in pixels."""

    name: str
    key: str
    height: int
    width: int


def require_dataset(root: Path) -> Path:
    """The root as a path, or an error: LeRobot itself would look for the name on the hub."""
    if not (Path(root) / "meta" / "info.json").is_file():
        raise PosaError(f"expected a LeRobotDataset v3 at {root}, found no meta/info.json: check --dataset.root")
    return Path(root)


def dataset_fingerprint(root: Path) -> str:
    """Changes with any table or metadata file, and with a video's size or sampled bytes; not with dates."""
    root = require_dataset(root)
    digest = hashlib.sha256()
    for path in dataset_files(root):
        relative = path.relative_to(root)
        if relative.parts[0] not in ("meta", "data", "videos", "images"):
            continue
        digest.update(f"{relative.as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(_sample(path) if relative.parts[0] == "videos" else _digest_file(path))
    return digest.hexdigest()


class Source:
    """Metadata of one dataset, opened offline; decoding stands in `decode`."""

    def __init__(self, root: Path):
        self.root = require_dataset(root)
        self.meta = LeRobotDatasetMetadata("local/source", root=self.root)
        self.num_frames: int = self.meta.total_frames
        self.cameras = [self._camera(key) for key in self.meta.camera_keys if key not in self.meta.depth_keys]
        if not self.cameras or self.num_frames == 0:
            raise PosaError(f"{self.root} holds {self.num_frames} frames of {len(self.cameras)} colour cameras")
        keys = {camera.name: camera.key for camera in self.cameras}
        for camera in self.cameras:
            if keys[camera.name] != camera.key:
                raise PosaError(
                    f"{self.root}: {camera.key} and {keys[camera.name]} are both called {camera.name!r}: rename one "
                    "camera in the dataset"
                )

    def _camera(self, key: str) -> CameraSource:
        shape = tuple(self.meta.features[key]["shape"])
        if len(shape) != 3 or 3 not in (shape[0], shape[2]):
            raise PosaError(f"{self.root}: {key} should be colour images (H, W, 3) or (3, H, W), found {shape}")
        return CameraSource(contract.camera_name(key), key, *image_sides(self.meta.features[key]))

    def segments(self) -> list[Segment]:
        """Every camera's files; together they cover each row of the dataset once per camera."""
        return [segment for camera in self.cameras for segment in self._camera_segments(camera)]

    def _camera_segments(self, camera: CameraSource) -> list[Segment]:
        is_video = camera.key in self.meta.video_keys
        prefix, pattern = ("data", self.meta.data_path)
        if is_video:
            prefix, pattern = f"videos/{camera.key}", str(self.meta.video_path)
        chunks, numbers, episodes, starts, lengths = (
            self.meta.episodes[key]
            for key in (
                f"{prefix}/chunk_index",
                f"{prefix}/file_index",
                "episode_index",
                "dataset_from_index",
                "length",
            )
        )
        firsts = self._first_video_frames(camera) if is_video else None
        files: dict[Path, list[Span]] = defaultdict(list)
        for i, (chunk, number) in enumerate(zip(chunks, numbers, strict=True)):
            name = pattern.format(video_key=camera.key, chunk_index=chunk, file_index=number)
            spans = files[self.root / name]
            first = firsts[i] if firsts else sum(span.length for span in spans)
            spans.append(Span(episodes[i], first, starts[i], lengths[i]))
        return [Segment(camera.name, path, is_video, tuple(spans)) for path, spans in files.items()]

    def _first_video_frames(self, camera: CameraSource) -> list[int]:
        """Where each episode begins in its video file, in frames, from the metadata's timestamps."""
        fps, keys = self.meta.fps, (f"videos/{camera.key}/{end}_timestamp" for end in ("from", "to"))
        starts, stops = (self.meta.episodes[key] for key in keys)
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            length = self.meta.episodes["length"][i]
            if round((stop - start) * fps) != length:
                raise PosaError(
                    f"{self.root}: episode {self.meta.episodes['episode_index'][i]} has {length} frames, but its "
                    f"{camera.name} video lasts {(stop - start) * fps:.1f} frames at {fps} per second: remove the "
                    "episode or record it again"
                )
        return [round(start * fps) for start in starts]

    def read_columns(self) -> dict[str, np.ndarray]:
        """Every numeric column of the tables, (N, *shape) in the feature's dtype, (N,) for `INDEX_COLUMNS`."""
        paths = sorted((self.root / "data").glob("*/*.parquet"))
        skipped = ("video", "image", "string", "language")
        keys = [key for key, feature in self.meta.features.items() if feature["dtype"] not in skipped]
        table = pa.concat_tables([pq.read_table(path, columns=keys) for path in paths])
        if table.num_rows != self.num_frames:
            raise PosaError(
                f"{self.root}: meta/info.json promises {self.num_frames} frames, the tables hold {table.num_rows}: "
                "the dataset is incomplete, copy or record it again"
            )
        columns = {}
        for key in keys:
            feature = self.meta.features[key]
            shape = () if key in INDEX_COLUMNS else tuple(feature["shape"])
            values, empty = flat_values(table[key])
            is_complete = len(values) == self.num_frames * math.prod(shape)
            if not is_complete or (empty and not feature["dtype"].startswith("float")):  # there they are NaN
                raise PosaError(
                    f"{self.root}: expected {math.prod(shape)} number(s) of {key} in each of {self.num_frames} frames, "
                    f"found {len(values)} in all with {empty} empty cells: repair the column, or record again"
                )
            columns[key] = values.astype(feature["dtype"]).reshape(self.num_frames, *shape)
        if not np.array_equal(columns["index"], np.arange(self.num_frames)):
            raise PosaError(f"{self.root}: the tables' index does not count from 0 to {self.num_frames - 1}")
        for key in MUST_BE_FINITE:
            if key in columns and not np.isfinite(columns[key]).all():
                row = int(np.argwhere(~np.isfinite(columns[key]))[0, 0])
                raise PosaError(
                    f"{self.root}: {key} holds NaN or infinity in episode {columns['episode_index'][row]}, frame "
                    f"{columns['frame_index'][row]}: remove or repair the episode before caching"
                )
        return columns

    def tasks(self) -> list[str]:
        """Sentences by task_index."""
        by_index = sorted(zip(self.meta.tasks["task_index"], self.meta.tasks.index, strict=True))
        if [index for index, _ in by_index] != list(range(len(by_index))):
            raise PosaError(f"{self.root}: meta/tasks.parquet does not number its sentences from 0 on")
        return [str(sentence) for _, sentence in by_index]


def _digest_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _sample(path: Path) -> bytes:
    """Beginning, middle and end of a file."""
    size = path.stat().st_size
    pieces = []
    with path.open("rb") as file:
        for start in (0, size // 2, max(size - SAMPLE_BYTES, 0)):
            file.seek(start)
            pieces.append(file.read(SAMPLE_BYTES))
    return b"".join(pieces)
