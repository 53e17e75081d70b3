"""What every expert's hand does: come down a funnel, close around a thing, notice when it was lost.

It looks at the true state alone, so that a perturbed execution recovers; the only memory is how long the fingers
have been closing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from posa_vla.sim.kinematics import multiply, quaternion_from_axis_angle, rotation_between, yaw_of
from posa_vla.sim.layout import grasp_yaw
from posa_vla.sim.objects import CATALOGUE
from posa_vla.sim.robot import POSITION_SCALE, ROTATION_SCALE

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

HOVER = 0.15  # m, the grip site's height while it crosses the table: the fingers clear the tallest object
FUNNEL = 4.0  # m of height allowed for each metre that the hand is off to the side
ALIGNED, LEVEL, SQUARE = 0.015, 0.014, 0.20  # m, m, rad: near enough to close
OPENED = 0.06  # m between the fingers from which they count as open
CLEAR = 0.06  # m above the grasp at which closed fingers open: over the object's top, not against its side
GRASP_RADIUS = 0.030  # m; an object farther than this from the grip site is not in the hand
SHUT = 0.006  # m between fingers that have closed on nothing
CLOSING_STEPS = 4  # the fingers need three to shut; one more to build up force
NARROW = 0.010  # m off to the side within which the hand may go all the way down
LOWEST = 0.012  # m, of the grip site
GAIN, TOP_SPEED = 0.8, 0.5  # of the remaining way; of the largest action
DOWN = np.array([0.0, 0.70710678, 0.70710678, 0.0])  # the hand at yaw 0: fingers down, opening along y


@dataclass(frozen=True)
class Grip:
    """Where the grip site goes to hold a thing: position (3,) m, the hand's yaw (rad), and how far (m) the thing
    reaches down below it."""

    position: np.ndarray
    yaw: float
    below: float


def object_grip(env: TabletopEnv, slot: int = 0) -> Grip:
    """The grasp of an object where it is now."""
    position, quaternion = env.object_pose(slot)
    assert env.episode is not None
    category = CATALOGUE[env.episode.objects[slot].category]
    yaw = grasp_yaw(category.name, yaw_of(quaternion))
    below = category.size[2] / 2 - category.grasp_height  # of the grasp point, seen from the centre
    grasp = position - (0, 0, below)
    grasp[2] = max(grasp[2], LOWEST)
    return Grip(grasp, yaw, category.grasp_height)


def held(env: TabletopEnv, grip: Grip) -> bool:
    """Whether the fingers are told to close with the thing between them."""
    way = grip.position - env.ee_pose()[0]
    near = np.hypot(*way[:2]) < GRASP_RADIUS and abs(way[2]) < GRASP_RADIUS
    return bool(env.robot.told_to_close and near and env.robot.opening >= SHUT)


class Grasper:
    """A hand over one environment; experts derive from it.

    Args:
        hover: height (m) of the grip site while the empty hand crosses the table.
    """

    def __init__(self, env: TabletopEnv, hover: float = HOVER):
        self.env, self.hover = env, hover
        self.reset()

    def reset(self) -> None:
        self._closing = 0

    def interaction(self) -> np.ndarray | None:
        """Where the hand will be when it next closes or opens for good, (3,) m, world; None: nothing follows.

        What the labels call the task anchor (`anchors.label`), told from the present state alone.
        """
        focus = self.env.family.focus(self.env)
        return None if focus is None else focus.position

    @property
    def holding(self) -> bool:
        return self._closing > CLOSING_STEPS

    def turn_to(self, yaw: float) -> np.ndarray:
        """Rotation vector (3,) rad from the hand's orientation to fingers down at `yaw`."""
        goal = multiply(quaternion_from_axis_angle((0, 0, yaw)), DOWN)
        return rotation_between(self.env.ee_pose()[1], goal)

    def grasp(self, grip: Grip) -> np.ndarray | None:
        """The action that gets the fingers around `grip`; None once they hold it."""
        hand, _ = self.env.ee_pose()
        turn = self.turn_to(grip.yaw)
        off = float(np.hypot(*(grip.position - hand)[:2]))
        self._update_closing(off, abs(grip.position[2] - hand[2]), float(np.linalg.norm(turn)))
        if self.holding:
            return None
        goal = grip.position if self._closing else self._approach(grip.position, hand, off)
        return self.action(goal - hand, turn)

    def _update_closing(self, off: float, height_off: float, angle: float) -> None:
        """Close when the hand is around the object; open again when the object is not between the fingers."""
        opening = self.env.robot.opening
        if self._closing:
            held = off < GRASP_RADIUS and height_off < GRASP_RADIUS
            shut = self.holding and opening < SHUT
            self._closing = self._closing + 1 if held and not shut else 0
        elif off < ALIGNED and height_off < LEVEL and angle < SQUARE and opening > OPENED:
            self._closing = 1

    def _approach(self, grasp: np.ndarray, hand: np.ndarray, off: float) -> np.ndarray:
        """Never lower than the funnel allows: away from the object the hand first rises, then crosses."""
        floor = min(self.hover, grasp[2] + FUNNEL * max(off - NARROW, 0))
        if self.env.robot.opening < OPENED:
            floor = max(floor, grasp[2] + CLEAR)
        goal = np.array([*grasp[:2], floor])
        if hand[2] < floor - 0.02:  # too low for this distance: up before across
            goal[:2] = hand[:2]
        return goal

    def action(self, way: np.ndarray, turn: np.ndarray, closed: bool | None = None) -> np.ndarray:
        """A step along `way` (3,) m with the rotation `turn` (3,) rad; fingers as the grasp wants them, or `closed`."""
        move = GAIN * way / POSITION_SCALE
        move = move / max(1.0, float(np.abs(move).max()) / TOP_SPEED)  # saturate along the way, not per axis
        rotate = np.clip(turn / ROTATION_SCALE, -1, 1)
        grip = 1.0 if (self._closing if closed is None else closed) else -1.0
        return np.concatenate([move, rotate, [grip]]).astype(np.float32)
