"""How far off a policy's anchors are in space, in centimetres: by each view alone, and by all views together.

A view's point is its pixel and depth seen through the simulator's own camera. As in the picture, an anchor that a view
cannot see has no error there; all together have one where any view sees it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from posa_vla.contract import ANCHOR_NAMES
from posa_vla.evaluation.privileged import simulator_camera

ALL = "all views"
CENTIMETRES = 100


@dataclass(frozen=True)
class Space:
    """What a policy says of depth at one moment.

    Args:
        depth: (C, 2), metres along the optical axis of each camera, of the task and the end anchor.
        points: (2, 3), metres, world: from all cameras together; None where it does not put them together.
    """

    depth: np.ndarray
    points: np.ndarray | None


def space_errors(
    space: Space,
    uv: np.ndarray,
    true_points: np.ndarray,
    seen: np.ndarray,
    cameras: tuple[str, ...],
    sizes: dict[str, tuple[int, int]],
    truth: Any,
) -> np.ndarray:
    """Distances (C + 1, 2) in metres, the last row of all views together; NaN where there is nothing to compare.

    Args:
        space: of the policy.
        uv: (C, 2, 2), its points in the pictures.
        true_points: (2, 3), metres, world; NaN where there is none.
        seen: (C, 2) bool, the true point lies in the picture.
        cameras: in the policy's order.
        sizes: width and height in pixels of each camera's picture.
        truth: the environment's ground truth.
    """
    errors = np.full((len(cameras) + 1, len(ANCHOR_NAMES)), np.nan)
    for index, name in enumerate(cameras):
        camera = simulator_camera(name, sizes[name], *truth.cameras[name])
        for anchor in np.flatnonzero(seen[index] & np.isfinite(space.depth[index])):
            point = camera.unproject(np.array([*uv[index, anchor], space.depth[index, anchor]]))
            errors[index, anchor] = np.linalg.norm(point - true_points[anchor])
    if space.points is not None:
        anywhere = seen.any(axis=0)
        errors[-1, anywhere] = np.linalg.norm(space.points - true_points, axis=1)[anywhere]
    return errors


def summarise_space(tracks: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Mean and median (cm) per view × anchor at the first frame and over all; None where no policy tells depths."""
    tracks = [track for track in tracks if "space" in track]
    if not tracks:
        return None
    rows = []
    for index, view in enumerate([*tracks[0]["cameras"], ALL]):
        for anchor, name in enumerate(ANCHOR_NAMES):
            row: dict[str, Any] = {"view": view, "anchor": name}
            for frames, last in (("first", 1), ("episode", None)):
                errors = np.concatenate([np.array(t["space"][:last], np.float64)[:, index, anchor] for t in tracks])
                row[frames] = _centimetres(errors[~np.isnan(errors)])
            rows.append(row)
    return [row for row in rows if row["episode"]["samples"]]


def _centimetres(errors: np.ndarray) -> dict[str, Any]:
    if not len(errors):
        return {"samples": 0, "mean_cm": None, "median_cm": None}
    mean, median = float(errors.mean()), float(np.median(errors))
    return {"samples": len(errors), "mean_cm": CENTIMETRES * mean, "median_cm": CENTIMETRES * median}
