"""What labelling needs of a dataset: its columns, cameras and rows against the rig, and the numbers in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from posa_vla.anchors.pose import Transform, world_from_ee
from posa_vla.contract import ANCHORS, STEPS_TO_INTERACTION
from posa_vla.errors import PosaError
from posa_vla.rigs import GripperSource, PoseSource, Rig

IMAGES_PREFIX = "observation.images."
FARTHEST_POSITION = 10.0
"""Metres. No arm reaches so far from its world frame: larger positions are millimetres."""
UNIT_TOLERANCE = 1e-2


def check_features(features: Mapping[str, Any], rig: Rig) -> None:
    """Columns, cameras and image sizes against the rig."""
    for key in (ANCHORS, STEPS_TO_INTERACTION):
        if key in features:
            raise PosaError(f"the dataset has {key!r} already: label the dataset it was made from")
    needed = [("EE pose", rig.pose.column, max(rig.pose.position + rig.pose.rotation))]
    if rig.gripper.command:
        needed.append(("gripper command", rig.gripper.command.column, rig.gripper.command.index))
    if rig.gripper.width:
        needed.append(("finger width", rig.gripper.width.column, max(rig.gripper.width.indices)))
    for meaning, key, index in needed:
        _check_vector(features, rig, meaning, key, index)

    recorded = {key.removeprefix(IMAGES_PREFIX): item for key, item in features.items() if _is_colour(key, item)}
    for name in recorded:
        if name not in rig.camera_names:
            raise PosaError(
                f"the rig {rig.name!r} has no camera {name!r}, which the dataset has: add its calibration "
                f"(the rig has {', '.join(rig.camera_names)})"
            )
    for camera in rig.cameras:
        if camera.name not in recorded:
            found = ", ".join(recorded) or "none"
            raise PosaError(
                f"the dataset has no {IMAGES_PREFIX}{camera.name}, a camera of the rig {rig.name!r}: its cameras "
                f"are {found}; use the rig they were recorded with"
            )
        _check_image_size(rig, camera.name, recorded[camera.name])


def _check_vector(features: Mapping[str, Any], rig: Rig, meaning: str, key: str, index: int) -> None:
    if key not in features:
        others = [name for name, item in features.items() if item["dtype"].startswith("float")]
        raise PosaError(
            f"the rig {rig.name!r} takes the {meaning} from the column {key!r}, which the dataset lacks: its "
            f"columns are {', '.join(others)}"
        )
    size = int(np.prod(features[key]["shape"]))
    if index >= size:
        raise PosaError(f"the rig {rig.name!r} takes the {meaning} from {key}[{index}], but {key} has {size} numbers")


def _is_colour(key: str, feature: Mapping[str, Any]) -> bool:
    depth = (feature.get("info") or {}).get("is_depth_map", False)
    return key.startswith(IMAGES_PREFIX) and feature["dtype"] in ("video", "image") and not depth


def _check_image_size(rig: Rig, name: str, feature: Mapping[str, Any]) -> None:
    camera = rig.camera(name)
    height, width = image_sides(feature)
    same_shape = width * camera.height == height * camera.width
    if (width, height) != (camera.width, camera.height) and not (rig.any_image_size and same_shape):
        raise PosaError(
            f"camera {name!r} is calibrated for {camera.width}x{camera.height} images in the rig {rig.name!r}, "
            f"the dataset's are {width}x{height}: calibrate at that size, or scale the intrinsics to it"
        )


def image_sides(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of an image feature, whose channels stand first or last."""
    shape, names = feature["shape"], feature.get("names") or ("height", "width", "channels")
    channels_first = names[0] in ("channel", "channels")
    height, width = shape[1:] if channels_first else shape[:2]
    return int(height), int(width)


@dataclass(frozen=True)
class EpisodeRows:
    """One episode's number and its rows in the tables."""

    number: int
    rows: slice


def split_episodes(columns: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> list[EpisodeRows]:
    """Runs of equal episode_index, each counting its frames from 0."""
    numbers, frames = columns["episode_index"][:, 0], columns["frame_index"][:, 0]
    if len(numbers) != info["total_frames"]:
        raise PosaError(
            f"meta/info.json promises {info['total_frames']} frames, the tables hold {len(numbers)}: the dataset "
            "is incomplete, copy or record it again"
        )
    starts = np.append(0, np.flatnonzero(np.diff(numbers)) + 1)
    stops = np.append(starts[1:], len(numbers))
    if len(np.unique(numbers)) != len(starts):
        raise PosaError("an episode's rows are not consecutive in the tables: the dataset is damaged")
    expected = np.arange(len(numbers)) - np.repeat(starts, stops - starts)
    if not np.array_equal(frames, expected):
        row = int(np.argmax(frames != expected))
        raise PosaError(f"episode {numbers[row]} has frame {frames[row]} where {expected[row]} was expected")
    return [
        EpisodeRows(int(numbers[start]), slice(int(start), int(stop)))
        for start, stop in zip(starts, stops, strict=True)
    ]


def hand_poses(columns: Mapping[str, np.ndarray], source: PoseSource, episodes: list[EpisodeRows]) -> Transform:
    """world_from_ee of every row, (N, 4, 4)."""
    values = columns[source.column].astype(np.float64)
    position, rotation = values[:, list(source.position)], values[:, list(source.rotation)]
    poses = np.concatenate([position, rotation], axis=1)
    _refuse(~np.isfinite(poses).all(axis=1), episodes, f"{source.column} holds NaN or infinity")
    _refuse(
        (np.abs(position) > FARTHEST_POSITION).any(axis=1),
        episodes,
        f"{source.column} has a position more than {FARTHEST_POSITION:.0f} m away, as if it were in millimetres "
        "(expected metres)",
    )
    norm = np.linalg.norm(rotation, axis=1)
    if source.rotation_format == "axis_angle":
        _refuse(norm > 2 * np.pi, episodes, f"{source.column} has a rotation of over one turn (expected radians)")
    else:
        _refuse(np.abs(norm - 1) > UNIT_TOLERANCE, episodes, f"{source.column} has a quaternion that is not unit")
    return world_from_ee(poses, source.rotation_format)


def gripper_signal(columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]) -> np.ndarray:
    """(N,), 0 open … 1 closed: the command, or the measured width on a robot that records no command."""
    if source.command is not None:
        values = columns[source.command.column][:, source.command.index].astype(np.float64)
        _refuse(~np.isfinite(values), episodes, f"the gripper command in {source.command.column} is NaN or infinite")
        return (values - source.command.open) / (source.command.closed - source.command.open)
    width = finger_width(columns, source, episodes)
    assert width is not None and source.width is not None  # GripperSource wants one of the two
    return 1 - width / source.width.open


def finger_width(
    columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]
) -> np.ndarray | None:
    """(N,), metres between the fingers, or None where the rig measures none."""
    if source.width is None:
        return None
    width = np.abs(columns[source.width.column][:, list(source.width.indices)].astype(np.float64)).sum(axis=1)
    _refuse(~np.isfinite(width), episodes, f"the finger width in {source.width.column} is NaN or infinite")
    return width


def _refuse(bad: np.ndarray | np.bool, episodes: list[EpisodeRows], what: str) -> None:
    """Raises with the first bad row's episode and frame."""
    if not bad.any():
        return
    row = int(np.argmax(bad))
    episode = next(item for item in episodes if row < item.rows.stop)
    raise PosaError(
        f"{what} at episode {episode.number}, frame {row - episode.rows.start} ({int(bad.sum())} frames in all): "
        "repair or remove the episode, or correct the rig"
    )
