"""Does a projected point land where the simulator draws it? A ball is drawn near the hand and looked for.

The ball stands at random offsets from the hand: one at the hand itself would never move in the wrist view
and prove nothing there. It is found as the magenta pixels that differ from the same picture without it.
"""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.pose import Transform
from posa_vla.rigs import Rig

RADIUS = 3.0
"""Pixels, as seen: large enough for a centroid to a tenth of a pixel, small enough for perspective not to
shift it (0.2 px at the edge of the wrist view)."""
REACH = 0.2
"""Metres: offsets are drawn from a cube of this half side around the hand, in its own frame."""
MARGIN = 0.06
"""Share of the image kept free at its edges, so that the whole ball is in view."""
CHANGED = 12
"""Grey levels by which a pixel must differ to belong to the ball."""
UNCOVERED = 0.85
"""Share of the ball that must be seen: where the gripper or an object covers a part, the centroid is elsewhere."""
STEPS_BETWEEN = 2
STATES_PER_EPISODE = 10


@dataclass(frozen=True)
class Ball:
    """A magenta ball that is to be drawn.

    Args:
        position: (3,), world, metres.
        radius: metres.
    """

    position: np.ndarray
    radius: float
    rgba: tuple[float, float, float, float] = (1.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class MarkerErrors:
    """Distances in pixels between found and projected ball.

    Args:
        pixels: camera name to (states,) errors.
        covered: camera name to the number of states left out, the ball being covered or the hand out of view.
    """

    pixels: dict[str, np.ndarray]
    covered: dict[str, int]


class MarkerScene(Protocol):
    """A simulator that can be asked for pictures, as policies get them, with and without a ball in the scene."""

    def reset(self, seed: int) -> None: ...

    def step(self, rng: np.random.Generator) -> None:
        """One control step with a random action."""

    def hand(self) -> Transform:
        """world_from_ee (4, 4), or world_from_ee_position, as the dataset records it."""

    def picture(self, camera: str, ball: Ball | None) -> np.ndarray:
        """One camera's picture, uint8 (H, W, 3), as the dataset stores it."""


def marker_errors(scene: MarkerScene, rig: Rig, states: int, seed: int = 0) -> MarkerErrors:
    """Errors of the rig's cameras against ``scene``'s pictures at ``states`` random states for each camera."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {camera.name: [] for camera in rig.cameras}
    covered = dict.fromkeys(found, 0)
    played = 0
    while min(map(len, found.values())) < states:
        if played % STATES_PER_EPISODE == 0:
            scene.reset(seed + played // STATES_PER_EPISODE)
        for _ in range(STEPS_BETWEEN):
            scene.step(rng)
        played += 1
        hand = scene.hand()
        for camera in rig.cameras:
            if len(found[camera.name]) < states:
                error = _one_error(scene, camera, hand, rng)
                if error is None:
                    covered[camera.name] += 1
                else:
                    found[camera.name].append(error)
        if played > 5 * states + 20:
            raise RuntimeError(f"no ball is visible: found {found}, covered {covered}")
    return MarkerErrors({name: np.array(errors) for name, errors in found.items()}, covered)


def _one_error(scene: MarkerScene, camera: Camera, hand: Transform, rng: np.random.Generator) -> float | None:
    """Distance in pixels, or None where the ball is covered or the hand out of view."""
    place = _point_in_view(camera, hand, rng)
    if place is None:
        return None
    point, (u, v, depth) = place
    before = scene.picture(camera.name, None).astype(int)
    height, width = before.shape[:2]
    focal = camera.fx * width / camera.width  # pixels of the picture
    after = scene.picture(camera.name, Ball(point, RADIUS * depth / focal)).astype(int)
    is_ball = (np.abs(after - before).max(axis=-1) > CHANGED) & (after[..., [0, 2]].min(axis=-1) > after[..., 1])
    rows, columns = np.nonzero(_largest_blob(is_ball))
    if len(rows) < UNCOVERED * _seen_area(camera, point, hand):
        return None
    centre = np.array([columns.mean(), rows.mean()]) + 0.5  # of pixels whose edges are at integers
    return float(np.linalg.norm(centre - np.array([u * width, v * height])))


def _largest_blob(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask (H, W): a shining table shows the ball a second time."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return labels == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA]) if count > 1 else mask


def _seen_area(camera: Camera, point: np.ndarray, hand: Transform) -> float:
    """Pixels of an uncovered ball: away from the image's centre perspective stretches it by 1/cos."""
    x, y, depth = camera.cam_from_world(hand).apply(point)
    return float(np.pi * RADIUS**2 * (1 + (x**2 + y**2) / depth**2) ** 0.5)


def _point_in_view(camera: Camera, hand: Transform, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """A random point near the hand (3,) m, world, above the table (z = 0) and in view, and its u, v, depth.

    None where the hand has left the view.
    """
    points = hand.apply(rng.uniform(-REACH, REACH, (256, 3)))
    uvd = camera.project(points, hand)
    inside = (uvd[:, :2] > MARGIN).all(axis=1) & (uvd[:, :2] < 1 - MARGIN).all(axis=1)
    good = np.flatnonzero(inside & (uvd[:, 2] > 0.05) & (points[:, 2] > 0.02))
    return (points[good[0]], uvd[good[0]]) if len(good) else None
