"""What a dataset's features say: names of numbers, which images are a camera's pictures in colour, their size."""

from collections.abc import Mapping
from typing import Any

from posa_vla.contract import LONE_IMAGE, OBS_IMAGES, camera_name
from posa_vla.errors import PosaError

IMAGE_KINDS = ("video", "image")
CHANNELS = ("channel", "channels")


def feature_names(feature: Mapping[str, Any]) -> list[str]:
    """The names of a feature's numbers, in their order; empty where it has none.

    LeRobot's versions wrote them as a list, as {"motors": [...]} or as {name: number}.
    """
    names = feature.get("names") or []
    if not isinstance(names, Mapping):
        return [str(name) for name in names]
    if all(isinstance(value, list | tuple) for value in names.values()):
        return [str(name) for group in names.values() for name in group]
    is_numbered = all(isinstance(value, int) for value in names.values())
    return [str(name) for name in (sorted(names, key=lambda name: names[name]) if is_numbered else names)]


def colour_cameras(features: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Features of the colour cameras by camera name; depth maps are none."""
    return {camera_name(key): item for key, item in features.items() if _is_colour(key, item)}


def other_images(features: Mapping[str, Any]) -> list[str]:
    """Keys of pictures in colour whose names keep them from being a camera's."""
    images = (key for key, item in features.items() if item["dtype"] in IMAGE_KINDS and not _is_depth(item))
    return [key for key in images if not _is_colour(key, features[key])]


def image_sides(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width (pixels) of an image feature, whose channels stand first or last.

    Its names say which; where they do not, the number of channels does.
    """
    shape, names = tuple(feature["shape"]), feature_names(feature)
    if len(shape) != 3:
        raise PosaError(
            f"expected images of shape (height, width, channels), found {list(shape)}: correct the feature's shape in "
            "meta/info.json, or mark it as a depth map there"
        )
    names = names if len(names) == 3 else ["", "", ""]
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
