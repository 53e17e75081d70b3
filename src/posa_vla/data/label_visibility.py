"""How much of an anchor each camera sees, from a column of the dataset (contract `VISIBILITY`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posa_vla.contract import TASK_ANCHOR
from posa_vla.data.features import feature_names
from posa_vla.data.label_checks import in_view
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig


def check_visibility(features: Mapping[str, Any], column: str, rig: Rig) -> list[int]:
    """The column's indices of the rig's cameras, in the rig's order; its feature's names are cameras."""
    if column not in features:
        others = ", ".join(name for name, item in features.items() if item["dtype"].startswith("float"))
        raise PosaError(
            f"the dataset has no column {column!r} of visibilities, its columns are {others}: record it (posa-vla "
            "record --visibility=true), or leave --visibility out"
        )
    names = feature_names(features[column])
    missing = [name for name in rig.camera_names if name not in names]
    if missing:
        raise PosaError(
            f"expected the names of {column!r} to be cameras, {', '.join(rig.camera_names)} among them, found "
            f"{', '.join(map(str, names)) or 'none'}: record one number per camera and name it so"
        )
    return [names.index(name) for name in rig.camera_names]


def with_visibility(anchors: np.ndarray, seen: np.ndarray, column: str) -> np.ndarray:
    """Anchors (N, C, 2, 4) whose task anchors have the visibilities `seen` (N, C) where they are known (>= 0).

    An anchor outside the picture keeps its 1: that it is not there is certain, and its map is trained to be empty.
    """
    if not np.isfinite(seen).all() or seen.max() > 1 or ((seen < 0) & (seen != -1)).any():
        raise PosaError(
            f"{column} should hold shares in [0, 1], or -1 for unknown, found {np.nanmin(seen):.4g} to "
            f"{np.nanmax(seen):.4g}: correct the column"
        )
    task = anchors[:, :, TASK_ANCHOR]
    changed = (task[..., 3] >= 0) & (seen >= 0) & in_view(task)
    labelled = anchors.copy()
    labelled[:, :, TASK_ANCHOR, 3] = np.where(changed, seen, task[..., 3])
    return labelled
