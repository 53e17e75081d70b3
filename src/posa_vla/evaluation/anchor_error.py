"""Where the policy thinks the anchors are, against where the simulator knows they are.

True points are the labels' own: end = the end effector's position, task = its position at the next interaction.
Points outside the image or behind the camera have no error there and are left out. Errors are distances in
fractions of the image's short side.
"""

from typing import Any

import numpy as np

from posa_vla.contract import ANCHOR_NAMES
from posa_vla.evaluation.space_error import Space, space_errors, summarise_space

FIRST, EPISODE = "first", "episode"

TrainingMeans = dict[str, dict[str, np.ndarray]]
"""{camera: {FIRST | EPISODE: (2, 2)}}: mean (u, v) of the task and the end anchor."""


def project(point: np.ndarray, intrinsics: np.ndarray, cam_from_world: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Continuous image coordinates over width and height of world points (..., 3) in metres -> (..., 2).

    `intrinsics` (3, 3) is OpenCV's K (pixel centres at integers, hence + 0.5), `cam_from_world` (4, 4) has
    OpenCV's axes, `size` = (width, height). NaN for points behind the camera or outside the image.
    """
    camera = np.asarray(point, np.float64) @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    depth = camera[..., 2:]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = (camera @ intrinsics.T)[..., :2] / depth + 0.5
        uv = pixels / size
    inside = (depth > 0) & ((uv >= 0) & (uv <= 1)).all(axis=-1, keepdims=True)
    return np.where(inside, uv, np.nan)


def distance(a: np.ndarray, b: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Distance of normalised points (..., 2) in fractions of the short side of `size` = (width, height)."""
    return np.linalg.norm((np.asarray(a) - np.asarray(b)) * size, axis=-1) / np.min(size, axis=-1)


class AnchorTrack:
    """Samples of one episode, for every camera and anchor; `to_json` is what a record stores.

    ``predicted``, ``true``: (samples, C, 2, 2), null where there is nothing to compare with;
    ``random_object``: (samples, C, 2), the expected error of pointing at a random object in the image;
    ``confidence``: (samples, C, 2), the map's highest value; ``contrast``: (samples, C, 2), that less its median,
    near zero for a flat map; ``objects``: names (n,); ``object_uv``: (samples, C, n, 2), null outside the image;
    ``ahead``: (samples,), whether an interaction is still to come; ``space``: (samples, C + 1, 2), metres, see
    `space_error`, only of a policy that tells depths.
    """

    def __init__(self, cameras: tuple[str, ...], image_sizes: dict[str, tuple[int, int]]) -> None:
        self.cameras = cameras
        self.image_sizes = image_sizes
        self.sizes = np.array([image_sizes[camera] for camera in cameras], np.float64)  # (C, 2) width, height
        self.steps: list[int] = []
        self.predicted: list[np.ndarray] = []
        self.true: list[np.ndarray] = []
        self.random_object: list[np.ndarray] = []
        self.confidence: list[np.ndarray] = []
        self.contrast: list[np.ndarray] = []
        self.objects: list[str] = []
        self.object_uv: list[np.ndarray] = []
        self.ahead: list[bool] = []
        self.space: list[np.ndarray] = []

    def add(
        self,
        step: int,
        view: tuple[np.ndarray, np.ndarray],
        truth: Any,
        interaction: np.ndarray | None,
        space: Space | None = None,
    ) -> None:
        """One sample.

        Args:
            step: of the episode.
            view: maps (C, 2, Hp, Wp) and predicted points (C, 2, 2).
            truth: the environment's ground truth at that step.
            interaction: (3,) m, world: where the hand will be at its next interaction; None: nothing follows.
            space: what the policy says of depth, or None.
        """
        maps, predicted = view
        positions = np.array([item.position for item in truth.objects])
        true = np.full((len(self.cameras), len(ANCHOR_NAMES), 2), np.nan)
        chance = np.full((len(self.cameras), len(ANCHOR_NAMES)), np.nan)
        seen = np.empty((len(self.cameras), len(positions), 2))
        for index, camera in enumerate(self.cameras):
            camera_view = (*truth.cameras[camera], self.sizes[index])
            if interaction is not None:
                true[index, 0] = project(interaction, *camera_view)
            true[index, 1] = project(np.asarray(truth.ee_pose)[:3], *camera_view)
            seen[index] = project(positions, *camera_view)
            objects = seen[index][~np.isnan(seen[index]).any(axis=-1)]  # (n in the image, 2)
            if len(objects):
                errors = distance(objects[:, None], true[index][None], self.sizes[index])  # (n, 2)
                chance[index] = errors.mean(axis=0)
        self.steps.append(step)
        self.predicted.append(np.asarray(predicted, np.float64))
        self.true.append(true)
        self.random_object.append(chance)
        self.confidence.append(maps.max(axis=(-2, -1)))
        self.contrast.append(maps.max(axis=(-2, -1)) - np.median(maps, axis=(-2, -1)))
        self.objects = [item.name for item in truth.objects]
        self.object_uv.append(seen)
        self.ahead.append(interaction is not None)
        if space is not None:
            task = np.full(3, np.nan) if interaction is None else interaction
            points = np.array([task, np.asarray(truth.ee_pose)[:3]], np.float64)
            seen = ~np.isnan(true).any(axis=-1)
            self.space.append(space_errors(space, predicted, points, seen, self.cameras, self.image_sizes, truth))

    def to_json(self) -> dict[str, Any] | None:
        if not self.steps:
            return None
        return {
            "cameras": list(self.cameras),
            "image_sizes": self.sizes.astype(int).tolist(),
            "steps": self.steps,
            "predicted": _rounded(np.stack(self.predicted)),
            "true": _rounded(np.stack(self.true)),
            "random_object": _rounded(np.stack(self.random_object)),
            "confidence": _rounded(np.stack(self.confidence), 3),
            "contrast": _rounded(np.stack(self.contrast), 3),
            "objects": self.objects,
            "object_uv": _rounded(np.stack(self.object_uv), 3),
            "ahead": self.ahead,
            **({"space": _rounded(np.stack(self.space), 4)} if self.space else {}),
        }


def _rounded(values: np.ndarray, decimals: int = 4) -> Any:
    """Nested lists with few decimals, null for NaN (JSON has none)."""
    nested = np.round(values.astype(np.float64), decimals).astype(object)
    nested[np.isnan(values)] = None
    return nested.tolist()


def summarise_anchors(
    tracks: list[dict[str, Any]], training_means: TrainingMeans | None = None
) -> dict[str, Any] | None:
    """Mean errors of the policy and of two baselines, per camera × anchor, at the first frame and over all.

    `training_means`: means of the anchors in the training data. Without it the constant baseline is the mean
    over the very points it is judged on, which flatters the baseline.
    """
    if not tracks:
        return None
    cameras = tracks[0]["cameras"]
    rows = []
    for index, camera in enumerate(cameras):
        for anchor, name in enumerate(ANCHOR_NAMES):
            size = np.array(tracks[0]["image_sizes"][index], np.float64)
            row: dict[str, Any] = {"camera": camera, "anchor": name}
            for frames in (FIRST, EPISODE):
                constant = training_means[camera][frames][anchor] if training_means else None
                row[frames] = _errors(tracks, index, anchor, frames, size, constant)
            rows.append(row)
    space = summarise_space(tracks)
    return {
        "rows": rows,
        **({"space": space} if space else {}),
        "constant_is": "mean of the training anchors" if training_means else "mean of the evaluated scenes",
        "episodes": len(tracks),
    }


def _errors(
    tracks: list[dict[str, Any]],
    camera: int,
    anchor: int,
    frames: str,
    size: np.ndarray,
    constant: np.ndarray | None,
) -> dict[str, Any]:
    last = 1 if frames == FIRST else None
    pick = [(np.array(t[k][:last], np.float64)) for t in tracks for k in ("predicted", "true", "random_object")]
    predicted, true, chance = (np.concatenate(pick[k::3])[:, camera, anchor] for k in range(3))
    known = ~np.isnan(true).any(axis=-1)
    if not known.any():
        return {"samples": 0, "error": None, "constant": None, "random_object": None}
    mean = true[known].mean(axis=0) if constant is None else constant
    return {
        "samples": int(known.sum()),
        "error": _mean(distance(predicted, true, size)[known]),
        "constant": _mean(distance(mean, true[known], size)),
        "random_object": _mean(chance[known]),
    }


def _mean(values: np.ndarray) -> float | None:
    """NaN is a point that does not exist, as the end anchor of a policy without one."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None
