"""The scripted expert: an action from the true state alone, so that a perturbed execution recovers.

Over the object, down a funnel, close, lift, hold. Which of these it does follows from where the hand and the
object are now; the only memory is how long the fingers have been closing.
"""

import numpy as np

from posa_vla.sim.env import FINGER_OPEN, LIFT_HEIGHT, POSITION_SCALE, ROTATION_SCALE, ObjectState, TabletopEnv
from posa_vla.sim.episode import grasp_yaw
from posa_vla.sim.kinematics import multiply, quaternion_from_axis_angle, rotation_between
from posa_vla.sim.objects import CATALOGUE

HOVER = 0.15  # m, the grip site's height while it crosses the table: the fingers clear the tallest object
FUNNEL = 4.0  # m of height allowed for each metre that the hand is off to the side
ALIGNED, LEVEL, SQUARE = 0.015, 0.014, 0.20  # m, m, rad: near enough to close
OPENED = 0.06  # m between the fingers from which they count as open
CLEAR = 0.06  # m above the grasp at which closed fingers open: over the object's top, not against its side
GRASP_RADIUS = 0.030  # m; an object farther than this from the grip site is not in the hand
CLOSING_STEPS = 4  # the fingers need three to shut; one more to build up force
SHUT = 0.006  # m between fingers that have closed on nothing
NARROW = 0.010  # m off to the side within which the hand may go all the way down
LIFT_MARGIN = 0.025  # m above the height that counts
GAIN, TOP_SPEED = 0.8, 0.5  # of the remaining way; of the largest action
DOWN = np.array([0.0, 0.70710678, 0.70710678, 0.0])  # the hand at yaw 0: fingers down, opening along y


def grasp_point(target: ObjectState) -> np.ndarray:
    """Where the grip site has to be to grasp an object, (3,) m, world."""
    category = CATALOGUE[target.category]
    below = category.size[2] / 2 - category.grasp_height  # seen from the object's centre
    grasp = target.position - (0, 0, below)
    grasp[2] = max(grasp[2], 0.012)
    return grasp


class Expert:
    """`act()` reads the environment's present state and returns a clean action (7,), float32.

    Args:
        target: name of the object to pick; None picks the one that the sentence names.
    """

    def __init__(self, env: TabletopEnv, target: str | None = None):
        self.env, self.target = env, target
        self.reset()

    def reset(self) -> None:
        self._closing = 0

    def act(self) -> np.ndarray:
        truth = self.env.ground_truth()
        target = next(state for state in truth.objects if state.name == (self.target or truth.target))
        hand = truth.ee_pose[:3]
        category, grasp = CATALOGUE[target.category], grasp_point(target)
        w, x, y, z = target.quaternion
        yaw = grasp_yaw(target.category, np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))
        turn = rotation_between(truth.ee_pose[3:], multiply(quaternion_from_axis_angle((0, 0, yaw)), DOWN))
        off = float(np.hypot(*(grasp - hand)[:2]))
        self._update_closing(off, abs(grasp[2] - hand[2]), float(np.linalg.norm(turn)))
        if self._closing > CLOSING_STEPS:
            goal = np.array([hand[0], hand[1], category.grasp_height + LIFT_HEIGHT + LIFT_MARGIN])
            turn = turn * 0.3
        elif self._closing:
            goal = np.array([*grasp[:2], grasp[2]])
        else:
            goal = self._approach(grasp, hand, off)
        return self._action(goal - hand, turn)

    def interaction(self) -> np.ndarray | None:
        """Where the hand will be when it next closes or opens for good, (3,) m, world; None: nothing follows.

        What the labels call the task anchor (`anchors.label`), told from the present state alone: the grasp point
        until the fingers are told to close with the target between them, and again when they have missed or lost it.
        """
        truth = self.env.ground_truth()
        grasp = grasp_point(next(state for state in truth.objects if state.name == (self.target or truth.target)))
        way = grasp - truth.ee_pose[:3]
        told_to_close = self.env.data.ctrl[self.env._finger_ctrl[0]] < 0.4 * FINGER_OPEN  # the labels' close_above
        held = np.hypot(*way[:2]) < GRASP_RADIUS and abs(way[2]) < GRASP_RADIUS and self._opening() >= SHUT
        return None if told_to_close and held else grasp

    def _update_closing(self, off: float, height_off: float, angle: float) -> None:
        """Close when the hand is around the object; open again when the object is not between the fingers."""
        if self._closing:
            held = off < GRASP_RADIUS and height_off < GRASP_RADIUS
            shut = self._closing > CLOSING_STEPS and self._opening() < SHUT
            self._closing = self._closing + 1 if held and not shut else 0
        elif off < ALIGNED and height_off < LEVEL and angle < SQUARE and self._opening() > OPENED:
            self._closing = 1

    def _opening(self) -> float:
        """Metres between the fingers."""
        left, right = self.env.data.qpos[self.env._fingers]
        return float(left - right)

    def _approach(self, grasp: np.ndarray, hand: np.ndarray, off: float) -> np.ndarray:
        """Never lower than the funnel allows: away from the object the hand first rises, then crosses."""
        floor = min(HOVER, grasp[2] + FUNNEL * max(off - NARROW, 0))
        if self._opening() < OPENED:
            floor = max(floor, grasp[2] + CLEAR)
        goal = np.array([*grasp[:2], floor])
        if hand[2] < floor - 0.02:  # too low for this distance: up before across
            goal[:2] = hand[:2]
        return goal

    def _action(self, way: np.ndarray, turn: np.ndarray) -> np.ndarray:
        move = GAIN * way / POSITION_SCALE
        move = move / max(1.0, float(np.abs(move).max()) / TOP_SPEED)  # saturate along the way, not per axis
        rotate = np.clip(turn / ROTATION_SCALE, -1, 1)
        grip = 1.0 if self._closing else -1.0
        return np.concatenate([move, rotate, [grip]]).astype(np.float32)
