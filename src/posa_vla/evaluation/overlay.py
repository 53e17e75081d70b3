"""Drawing what the policy attends to: task map green, end map red, where both meet yellow."""

import cv2
import numpy as np

TASK_COLOUR: tuple[int, int, int] = (0, 255, 60)
END_COLOUR: tuple[int, int, int] = (255, 40, 40)
STRENGTH = 0.62
"""Opacity of a map of one; raw values are drawn, so a weak attention looks weak."""


def draw(image: np.ndarray, maps: np.ndarray | None, uv: np.ndarray | None, size: int = 256) -> np.ndarray:
    """Both anchor maps and the predicted points over a camera image, upscaled.

    Args:
        image: uint8 (H, W, 3), RGB.
        maps: float (2, Hp, Wp) in [0, 1], task and end; None draws no map.
        uv: float (2, 2), continuous image coordinates over width and height, task and end; None draws none.
        size: the longer side of the result in pixels.

    Returns:
        uint8 (H', W', 3), a new array.
    """
    height, width = _check(image, maps, uv)
    scale = size / max(height, width)
    shape = (round(width * scale), round(height * scale))
    canvas = cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    if maps is not None:
        canvas = _tint(canvas, maps)
    if uv is not None:
        for point, colour in zip(uv, (TASK_COLOUR, END_COLOUR), strict=True):
            _mark(canvas, point, colour)
    return canvas


def _check(image: np.ndarray, maps: np.ndarray | None, uv: np.ndarray | None) -> tuple[int, int]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected a uint8 image (H, W, 3), found {image.dtype} {image.shape}")
    if maps is not None and (maps.ndim != 3 or maps.shape[0] != 2):
        raise ValueError(f"expected maps (2, Hp, Wp), found {maps.shape}")
    if uv is not None and np.shape(uv) != (2, 2):
        raise ValueError(f"expected points (2, 2), found {np.shape(uv)}")
    return image.shape[0], image.shape[1]


def _tint(canvas: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Blend towards the sum of the two colours, as much as the stronger map says."""
    height, width = canvas.shape[:2]
    task, end = (
        np.clip(cv2.resize(np.asarray(m, np.float32), (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
        for m in maps
    )
    alpha = np.maximum(task, end)[..., None]  # (H', W', 1)
    colours = np.array([TASK_COLOUR, END_COLOUR], np.float32)
    light = task[..., None] * colours[0] + end[..., None] * colours[1]
    light = np.minimum(light / np.maximum(alpha, 1e-6), 255.0)
    blend = canvas.astype(np.float32) * (1 - STRENGTH * alpha) + STRENGTH * alpha * light
    return np.round(blend).astype(np.uint8)


def _mark(canvas: np.ndarray, point: np.ndarray, colour: tuple[int, int, int]) -> None:
    """A ring with a dark rim at a continuous coordinate; a point out of the image draws nothing."""
    height, width = canvas.shape[:2]
    if not (np.isfinite(point).all() and 0 <= point[0] <= 1 and 0 <= point[1] <= 1):
        return
    # the centre of pixel k lies at k + 0.5; cv2 draws at 1/8 pixels with shift=3
    centre = (round((point[0] * width - 0.5) * 8), round((point[1] * height - 0.5) * 8))
    radius = max(4, max(height, width) // 34)
    for thickness, ink in ((4, (10, 10, 10)), (2, colour)):
        cv2.circle(canvas, centre, radius * 8, ink, thickness, cv2.LINE_AA, shift=3)
    cv2.circle(canvas, centre, 12, colour, -1, cv2.LINE_AA, shift=3)
