"""One picture of a scene: every camera's view with the end anchor and the hand's path drawn where the rig says."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.pose import Transform

END_COLOUR, PATH_COLOUR = (255, 0, 255), (0, 255, 255)
SIDE = 256
PATH_STEPS = 12
COLOURS = 255
"""Of the PNG's palette: a third of the size, and hardly a difference to look at."""


def write_picture(folder: Path, scene: Any) -> Path:
    """Moves the hand at random and draws the last picture of each camera, the end anchor a cross on the fingertips."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    scene.reset(3)
    tool, hands = np.array(scene.rig.pose.tool), []
    for _ in range(PATH_STEPS):
        scene.step(rng)
        hands.append(scene.hand())
    views = [_view(scene, camera, hands, tool) for camera in scene.rig.cameras]
    name = scene.name.split(" (")[0].replace(" ", "_") + ("" if len(views) > 1 else f"_{scene.rig.cameras[0].name}")
    path = folder / f"{name}.png"
    Image.fromarray(np.concatenate(views, axis=1)).quantize(COLOURS, Image.Quantize.FASTOCTREE).save(
        path, optimize=True
    )
    return path


def _view(scene: Any, camera: Camera, hands: list[Transform], tool: np.ndarray) -> np.ndarray:
    """uint8 (SIDE, SIDE, 3); the path is seen from where the camera is in the last frame."""
    picture = cv2.resize(scene.picture(camera.name, None), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    points = camera.project(np.stack([hand.apply(tool) for hand in hands]), hands[-1])
    pixels = [tuple(int(x) for x in point[:2] * SIDE) for point in points]
    if camera.mount == "world":
        for start, stop in pairwise(pixels):
            cv2.line(picture, start, stop, PATH_COLOUR, 1, cv2.LINE_AA)
    cv2.drawMarker(picture, pixels[-1], END_COLOUR, cv2.MARKER_CROSS, 15, 2, cv2.LINE_AA)
    return picture
