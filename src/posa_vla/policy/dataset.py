"""What a policy takes over from the dataset it trains on: the order of its anchors' cameras, their calibration."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from posa_vla.errors import PosaError
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.geometry import RigGeometry, read_geometry


def camera_names(config: PosaVLAConfig) -> tuple[str, ...]:
    """The policy's cameras, as rigs and labels call them."""
    return tuple(key.rsplit(".", 1)[-1] for key in config.image_features)


def anchor_rows(config: PosaVLAConfig, feature: dict[str, Any] | None) -> list[int] | None:
    """Rows of the dataset's anchors in the order of the policy's cameras; None: as they come."""
    if feature is None or not feature.get("names"):
        return None
    labelled, cameras = list(feature["names"]), camera_names(config)
    missing = [camera for camera in cameras if camera not in labelled]
    if missing and config.uses_anchors:
        raise PosaError(
            f"expected anchors for the cameras {', '.join(cameras)}, found them for {', '.join(labelled)}: label the "
            "dataset with a rig that has every camera, or choose cameras with --policy.input_features"
        )
    rows = [labelled.index(camera) for camera in cameras if camera in labelled]
    return None if rows == list(range(len(labelled))) else rows


def rig_geometry(config: PosaVLAConfig, root: Path | None) -> RigGeometry | None:
    """The cameras' calibration for `point_tokens`, else None: a checkpoint's own, which the dataset may not contradict,
    or for a new policy the dataset's (in the folder `root`)."""
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
    found = read_geometry(root, camera_names(config))
    if known is not None and replace(known, rig="", workspace=[]) != replace(found, rig="", workspace=[]):
        raise PosaError(
            f"this policy was built for the cameras of the rig {known.rig!r}, the dataset {root} was labelled with "
            f"another calibration (rig {found.rig!r}): train a new policy, or label the dataset with that rig"
        )
    return known or found
