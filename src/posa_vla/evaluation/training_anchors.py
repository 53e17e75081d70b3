"""Mean anchors of a labelled training dataset: the constant that a policy which looks at nothing would learn."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from posa_vla.contract import ANCHORS
from posa_vla.errors import PosaError
from posa_vla.evaluation.anchor_error import EPISODE, FIRST, TrainingMeans


def mean_anchors(root: Path) -> TrainingMeans:
    """Mean (u, v) per camera × anchor over first frames and over all, of known points inside the image."""
    cameras = _cameras(root)
    anchors, frame_index = _columns(root, len(cameras))
    means: TrainingMeans = {}
    for index, camera in enumerate(cameras):
        means[camera] = {
            FIRST: _mean(anchors[frame_index == 0, index], root, camera),
            EPISODE: _mean(anchors[:, index], root, camera),
        }
    return means


def _cameras(root: Path) -> list[str]:
    info = root / "meta" / "info.json"
    if not info.is_file():
        raise PosaError(f"expected a LeRobotDataset in {root}, found no meta/info.json: check --dataset.root")
    feature = json.loads(info.read_text())["features"].get(ANCHORS)
    if feature is None:
        raise PosaError(f"the dataset {root} has no {ANCHORS}: run posa-vla label on it, or leave --dataset.root out")
    return list(feature["names"])


def _columns(root: Path, cameras: int) -> tuple[np.ndarray, np.ndarray]:
    """Anchors (N, C, 2, 4) and frame indices (N,)."""
    anchors, frames = [], []
    for file in sorted((root / "data").rglob("*.parquet")):
        table = parquet.read_table(file, columns=[ANCHORS, "frame_index"])
        anchors += [_flat(chunk).reshape(-1, cameras, 2, 4) for chunk in table[ANCHORS].chunks]
        frames.append(table["frame_index"].to_numpy())
    if not anchors:
        raise PosaError(f"the dataset {root} has no frames: check --dataset.root")
    return np.concatenate(anchors), np.concatenate(frames)


def _flat(column: pa.Array) -> np.ndarray:
    """Nested lists as one flat array."""
    values = column.storage if isinstance(column, pa.ExtensionArray) else column
    while pa.types.is_nested(values.type):
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False)


def _mean(anchors: np.ndarray, root: Path, camera: str) -> np.ndarray:
    """Anchors (N, 2, 4) -> (2, 2)."""
    u, v, depth, visibility = np.moveaxis(anchors.astype(np.float64), -1, 0)  # each (N, 2)
    use = (visibility >= 0) & (depth > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    if not use.any(axis=0).all():
        raise PosaError(f"no usable anchor of the {camera} camera in {root}: leave --dataset.root out")
    return np.stack([anchors[use[:, k], k, :2].mean(axis=0) for k in range(2)])
