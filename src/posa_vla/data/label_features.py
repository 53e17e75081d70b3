"""A dataset's features against the rig: columns, cameras, image sizes, and the names of rotations."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posa_vla.contract import ANCHORS, OBS_IMAGES, STEPS_TO_INTERACTION
from posa_vla.data.features import colour_cameras, feature_names, image_sides, other_images
from posa_vla.data.label_signals import gripper_source
from posa_vla.errors import PosaError
from posa_vla.rigs import JointSource, PoseSource, Rig

EULER_WORDS = ("roll", "pitch", "yaw", "euler", "rpy")
"""Parts of the names of numbers that are angles about single axes."""


def check_features(features: Mapping[str, Any], rig: Rig, with_gripper: bool = True) -> None:
    """Columns, cameras and image sizes against the rig; the gripper's columns only where they are read."""
    for key in (ANCHORS, STEPS_TO_INTERACTION):
        if key in features:
            raise PosaError(f"the dataset has {key!r} already: label the dataset it was made from")
    check_columns(features, rig, with_gripper)

    recorded = colour_cameras(features)
    for name in recorded:
        if name not in rig.camera_names:
            raise PosaError(
                f"the rig {rig.name!r} has no camera {name!r}, which the dataset has: add its calibration "
                f"(the rig has {', '.join(rig.camera_names)})"
            )
    for camera in rig.cameras:
        if camera.name not in recorded:
            found = ", ".join(recorded) or "none"
            others = other_images(features)
            renamed = f", or rename {' and '.join(others)} to {OBS_IMAGES}.NAME in the dataset" if others else ""
            raise PosaError(
                f"the dataset has no {OBS_IMAGES}.{camera.name}, a camera of the rig {rig.name!r}: its cameras "
                f"are {found}; use the rig they were recorded with{renamed}"
            )
        _check_image_size(rig, camera.name, recorded[camera.name])


def check_columns(features: Mapping[str, Any], rig: Rig, with_gripper: bool = True) -> None:
    """The columns that the rig takes pose and gripper from, and how many numbers they hold.

    Raises:
        PosaError: one is missing or too short, or the gripper is read and the rig has none.
    """
    meaning = "joints" if isinstance(rig.pose, JointSource) else "EE pose"
    needed = [(meaning, rig.pose.column, max(rig.pose.indices))]
    if rig.state_pose:
        needed.append(("EE pose in the state", rig.state_pose.column, max(rig.state_pose.indices)))
    gripper = gripper_source(rig) if with_gripper else None
    if gripper and gripper.command:
        needed.append(("gripper command", gripper.command.column, gripper.command.index))
    if gripper and gripper.width:
        needed.append(("finger width", gripper.width.column, max(gripper.width.indices)))
    for meaning, key, index in needed:
        _check_vector(features, rig, meaning, key, index)


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


def _check_image_size(rig: Rig, name: str, feature: Mapping[str, Any]) -> None:
    camera = rig.camera(name)
    height, width = image_sides(feature)
    same_shape = width * camera.height == height * camera.width
    if (width, height) != (camera.width, camera.height) and not (rig.any_image_size and same_shape):
        raise PosaError(
            f"camera {name!r} is calibrated for {camera.width}x{camera.height} images in the rig {rig.name!r}, "
            f"the dataset's are {width}x{height}: calibrate at that size, or scale the intrinsics to it"
        )


def check_sizes(columns: Mapping[str, np.ndarray], features: Mapping[str, Any]) -> None:
    """The tables hold as many numbers of each column (N, numbers per frame) as meta/info.json promises."""
    for key, values in columns.items():
        promised = int(np.prod(features[key]["shape"])) if key in features else values.shape[1]
        if values.shape[1] != promised:
            raise PosaError(
                f"meta/info.json promises {promised} numbers of {key} in each frame, the tables hold "
                f"{values.shape[1]}: correct the feature's shape there, or record the dataset again"
            )


def check_rotation_names(features: Mapping[str, Any], source: PoseSource | JointSource) -> None:
    """An error where three numbers that the rig takes as axis and angle are called roll, pitch, yaw or the like.

    Nothing else tells Euler angles from a rotation vector: both are three angles.
    """
    if not isinstance(source, PoseSource) or source.rotation_format != "axis_angle":
        return
    names = feature_names(features[source.column])
    chosen = [names[index] for index in source.rotation if index < len(names)]
    if any(word in name.lower() for name in chosen for word in EULER_WORDS):
        raise PosaError(
            f"the rig takes {', '.join(chosen)} of {source.column} as axis_angle, but they are named as Euler angles: "
            "give rotation_format: euler_xyz if they are radians about the fixed axes x, y, z, as in ROS; else add a "
            "column with quaternions (scipy's Rotation.from_euler), or rename them if they are axis times angle"
        )
