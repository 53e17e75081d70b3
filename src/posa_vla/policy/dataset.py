"""What a policy takes over from the dataset it trains on: the order of its anchors' cameras, their calibration."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from posa_vla.contract import camera_name
from posa_vla.errors import PosaError
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.geometry import RigGeometry, read_geometry

logger = logging.getLogger(__name__)


UNCHANGED: Mapping[str, str] = {}


def camera_names(config: PosaVLAConfig, renamed: Mapping[str, str] = UNCHANGED) -> tuple[str, ...]:
    """The policy's cameras in its order, as the dataset's rig and labels call them.

    `renamed`: the dataset's keys to the policy's (LeRobot's --rename_map); labels keep the dataset's names.
    """
    before = {new: old for old, new in renamed.items()}
    return tuple(camera_name(before.get(key, key)) for key in config.image_features)


def anchor_rows(
    config: PosaVLAConfig, feature: dict[str, Any] | None, renamed: Mapping[str, str] = UNCHANGED
) -> list[int] | None:
    """Rows of the dataset's anchors in the order of the policy's cameras; None: as they come."""
    if feature is None or not feature.get("names"):
        return None
    labelled, cameras = list(feature["names"]), camera_names(config, renamed)
    missing = [camera for camera in cameras if camera not in labelled]
    if missing and config.uses_anchors:
        raise PosaError(
            f"expected anchors for the cameras {', '.join(cameras)}, found them for {', '.join(labelled)}: label the "
            "dataset with a rig that has every camera, or choose cameras with --policy.input_features"
        )
    rows = [labelled.index(camera) for camera in cameras if camera in labelled]
    return None if rows == list(range(len(labelled))) else rows


def rig_geometry(
    config: PosaVLAConfig, root: Path | None, renamed: Mapping[str, str] = UNCHANGED
) -> RigGeometry | None:
    """The cameras' calibration for `point_tokens`, else None: the dataset's, in the folder `root`.

    A checkpoint that goes on training on another rig takes that rig's cameras and keeps its own workspace, in which
    its weights measure.
    """
    if not config.point_tokens:
        return None
    known = config.geometry
    if root is None and known is None:
        raise PosaError(
            "point_tokens needs the cameras' calibration, which is in the labelled dataset: pass --dataset.root=DIR "
            "beside the cache"
        )
    if root is None:
        return known
    found = read_geometry(root, camera_names(config, renamed))
    named = [replace(camera, name=name) for camera, name in zip(found.cameras, camera_names(config), strict=True)]
    found = replace(found, cameras=named)
    if known is None:
        return found
    kept = replace(found, workspace=known.workspace)
    if kept != known:
        logger.warning("the cameras are those of the dataset %s (rig %s) from now on", root, found.rig)
    return kept
