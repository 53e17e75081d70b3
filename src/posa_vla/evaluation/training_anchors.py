"""Mean anchors of a labelled training dataset: the constant that a policy which looks at nothing would learn."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from posa_vla.contract import ANCHORS
from posa_vla.data.tables import read_columns, read_info
from posa_vla.errors import PosaError
from posa_vla.evaluation.anchor_error import EPISODE, FIRST, TrainingMeans


def mean_anchors(root: Path, wanted: Collection[str] = ()) -> TrainingMeans:
    """Mean (u, v) per camera × anchor over first frames and over all, of known points inside the image.

    Args:
        root: the dataset.
        wanted: cameras that the dataset must have anchors of.
    """
    cameras = _cameras(root)
    missing = [camera for camera in wanted if camera not in cameras]
    if missing:
        raise PosaError(
            f"expected anchors of the policy's cameras {', '.join(wanted)} in {root}, found them of "
            f"{', '.join(cameras)}: give the dataset that the policy was trained on, or leave --dataset.root out"
        )
    columns = read_columns(root, [ANCHORS, "frame_index"])
    anchors = columns[ANCHORS].reshape(-1, len(cameras), 2, 4)
    is_first = columns["frame_index"][:, 0] == 0
    means: TrainingMeans = {}
    for index, camera in enumerate(cameras):
        if wanted and camera not in wanted:
            continue
        means[camera] = {
            FIRST: _mean(anchors[is_first, index], root, camera),
            EPISODE: _mean(anchors[:, index], root, camera),
        }
    return means


def _cameras(root: Path) -> list[str]:
    feature = read_info(root)["features"].get(ANCHORS)
    if feature is None:
        raise PosaError(f"the dataset {root} has no {ANCHORS}: run posa-vla label on it, or leave --dataset.root out")
    return list(feature["names"] or ())


def _mean(anchors: np.ndarray, root: Path, camera: str) -> np.ndarray:
    """Anchors (N, 2, 4) -> (2, 2)."""
    u, v, depth, visibility = np.moveaxis(anchors.astype(np.float64), -1, 0)  # each (N, 2)
    use = (visibility >= 0) & (depth > 0) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    if not use.any(axis=0).all():
        raise PosaError(f"no usable anchor of the {camera} camera in {root}: leave --dataset.root out")
    return np.stack([anchors[use[:, k], k, :2].mean(axis=0) for k in range(2)])
