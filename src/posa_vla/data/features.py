"""What a dataset's features say of its images: which are a camera's pictures in colour, and how large they are."""

from collections.abc import Mapping
from typing import Any

from posa_vla.contract import LONE_IMAGE, OBS_IMAGES, camera_name

IMAGE_KINDS = ("video", "image")
CHANNELS = ("channel", "channels")


def colour_cameras(features: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Features of the colour cameras by camera name; depth maps are none."""
    return {camera_name(key): item for key, item in features.items() if _is_colour(key, item)}


def image_sides(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width (pixels) of an image feature, whose channels stand first or last.

    Its names say which; where they do not, the number of channels does.
    """
    shape, names = tuple(feature["shape"]), feature.get("names") or ("", "", "")
    last = names[2] in CHANNELS or (names[0] not in CHANNELS and shape[2] == 3)
    height, width = shape[:2] if last else shape[1:]
    return int(height), int(width)


def _is_colour(key: str, feature: Mapping[str, Any]) -> bool:
    is_image = key == LONE_IMAGE or key.startswith(f"{OBS_IMAGES}.")
    return is_image and feature["dtype"] in IMAGE_KINDS and not _is_depth(feature)


def _is_depth(feature: Mapping[str, Any]) -> bool:
    """LeRobot's flag, in any of the places where its versions have written it."""
    info, video = feature.get("info") or {}, feature.get("video_info") or {}
    places = (info.get("is_depth_map"), info.get("video.is_depth_map"), video.get("video.is_depth_map"))
    return any(places)
