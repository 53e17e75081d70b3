"""What a pushing hand does: come down behind a thing, rest, push it along a line, rest, draw back.

Like the grasping expert it looks at the true state; its memory is whether it is pushing, whether the thing has
arrived, and how long it has rested. It rests before the touch and at the end, as people do: without, a script shows
no dwell at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from posa_vla.sim.grasping import GAIN, HOVER, Grasper
from posa_vla.sim.kinematics import yaw_of
from posa_vla.sim.objects import CATALOGUE

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

PUSH_HEIGHT = 0.015  # m, of the grip site: the fingertips are 6 mm over the table, the hand 4.6 cm
FINGERS = (0.0105, 0.0264)  # m, half extents of the closed fingers across and along the opening axis
BEHIND = 0.012  # m between fingers and thing where the hand rests before it pushes
NARROW, FUNNEL = 0.005, 6.0  # m, m/m, as in `grasping`, steeper: the hand passes 1.2 cm from the thing
REST_STEPS = 8  # 0.4 s
STEP = 0.010  # m in a control step of pushing; friction stops the thing within 6 mm
ARRIVED, PASSED = 0.008, 0.018  # m from the mark's centre: there; as near as it gets once it is abreast of it
STEERING = 0.030  # m from the mark's centre up to which the line is corrected
THERE, LOW, SQUARE = 0.007, 0.006, 0.15  # m, m, rad: near enough to begin
ASTRAY, HIGH, LOST = 0.020, 0.015, 0.050  # m: off the line, too high, too far behind to go on pushing
AT_OBJECT = 0.006  # m of a gap that counts as none
CLEARED = 0.025  # m by which the hand draws back before it rises


@dataclass(frozen=True)
class PushNow:
    """A push as it stands; metres, world frame.

    Args:
        thing, mark: (2,), centres.
        direction: (2,), of length 1, in which to push.
        reach: from the grip site to the thing's centre at the touch.
        yaw: of the hand (rad), square to the direction.
        hand: (3,), the grip site.
    """

    thing: np.ndarray
    mark: np.ndarray
    direction: np.ndarray
    reach: float
    yaw: float
    hand: np.ndarray

    @property
    def left(self) -> np.ndarray:
        """(2,), from the thing to the mark."""
        return self.mark - self.thing

    @property
    def behind(self) -> float:
        """How far the hand is behind the place where it touches; negative where it is beyond it."""
        return float((self.thing - self.hand[:2]) @ self.direction) - self.reach

    @property
    def aside(self) -> np.ndarray:
        """(2,), from the hand to the line through the thing's centre."""
        way = self.thing - self.hand[:2]
        return way - (way @ self.direction) * self.direction

    @property
    def low(self) -> bool:
        return bool(self.hand[2] < PUSH_HEIGHT + HIGH)

    @property
    def at_object(self) -> bool:
        """Whether the hand is where it pushes from."""
        return self.low and self.behind < AT_OBJECT and float(np.linalg.norm(self.aside)) < ASTRAY

    @property
    def touch_point(self) -> np.ndarray:
        """(3,), the grip site at the touch."""
        return np.array([*(self.thing - self.reach * self.direction), PUSH_HEIGHT])

    @property
    def release_point(self) -> np.ndarray:
        """(3,), the grip site when the thing is on the mark."""
        return np.array([*(self.mark - self.reach * self.direction), PUSH_HEIGHT])


def square_yaw(direction: np.ndarray) -> float:
    """The hand's yaw (rad) nearest to 0 at which a face of its fingers is square to a direction (2,)."""
    angle = float(np.arctan2(direction[1], direction[0]))
    return (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4


def reach_of(category: str, yaw: float, direction: np.ndarray) -> float:
    """Metres from the grip site to an object's centre when the closed fingers touch it from behind.

    Args:
        category: of the object.
        yaw: of the object (rad).
        direction: (2,), in which it is pushed; the hand stands at `square_yaw` of it.
    """
    kind = CATALOGUE[category]
    angle = float(np.arctan2(direction[1], direction[0]))
    cos, sin = abs(np.cos(angle - yaw)), abs(np.sin(angle - yaw))
    half = kind.size[0] / 2 if kind.yaw_period == 0 else (cos * kind.size[0] + sin * kind.size[1]) / 2
    turned = angle - square_yaw(direction)  # a multiple of a quarter turn
    along_opening = abs(np.sin(turned)) > 0.5
    return float(half + FINGERS[along_opening])


def push_now(env: TabletopEnv) -> PushNow:
    """The push of the named object onto the mark, in the environment's present state."""
    assert env.episode is not None
    placed = env.episode.objects[0]
    position, quaternion = env.object_pose(0)
    thing, mark = position[:2], env.fixture_pose("mark")[0][:2]
    planned = mark - placed.position[:2]
    direction = planned / np.linalg.norm(planned)
    left = mark - thing
    distance = float(np.linalg.norm(left))
    if distance > STEERING or left @ direction <= -PASSED:
        direction = left / max(distance, 1e-6)
    reach = reach_of(placed.category, yaw_of(quaternion), direction)
    return PushNow(thing, mark, direction, reach, square_yaw(direction), env.ee_pose()[0])


class Pusher(Grasper):
    """The expert of pushing. `act()` -> action (7,), fingers closed."""

    def __init__(self, env: TabletopEnv, hover: float = HOVER):
        super().__init__(env, hover)

    def reset(self) -> None:
        super().reset()
        self._pushing = self._arrived = False
        self._rested = 0

    def act(self) -> np.ndarray:
        now = push_now(self.env)
        self._update(now)
        turn = self.turn_to(now.yaw)
        if self._arrived:
            way = np.zeros(3) if self._rested < REST_STEPS and now.low else self._away(now)
            self._rested += 1
            return self.action(way, np.zeros(3), closed=True)
        if self._pushing:
            return self.action(self._forward(now), turn, closed=True)
        return self.action(self._approach_from_behind(now, turn), turn, closed=True)

    def _update(self, now: PushNow) -> None:
        """Arrived things that were moved are pushed again; a hand that strayed comes down anew."""
        distance, to_go = float(np.linalg.norm(now.left)), float(now.left @ now.direction)
        if self._arrived:
            self._arrived = distance < PASSED + ARRIVED
        elif distance < ARRIVED or (distance < PASSED and to_go < ARRIVED / 2):
            self._arrived, self._rested = True, 0
        if self._pushing:
            astray = float(np.linalg.norm(now.aside)) > ASTRAY
            self._pushing = not (self._arrived or astray or not now.low or not -0.02 < now.behind < LOST)
            self._rested = self._rested if self._pushing or self._arrived else 0

    def _approach_from_behind(self, now: PushNow, turn: np.ndarray) -> np.ndarray:
        """Cross high, come down behind the thing, rest there."""
        goal = np.array([*(now.thing - (now.reach + BEHIND) * now.direction), PUSH_HEIGHT])
        off = float(np.linalg.norm(goal[:2] - now.hand[:2]))
        ready = off < THERE and abs(goal[2] - now.hand[2]) < LOW and float(np.linalg.norm(turn)) < SQUARE
        self._rested = self._rested + 1 if ready else 0
        self._pushing = self._rested > REST_STEPS
        goal[2] = min(self.hover, goal[2] + FUNNEL * max(off - NARROW, 0))
        if now.hand[2] < goal[2] - 0.02:  # too low for this distance: up before across
            goal[:2] = now.hand[:2]
        return goal - now.hand

    @staticmethod
    def _forward(now: PushNow) -> np.ndarray:
        """One step along the line, and back onto it."""
        ahead = min(max(float(now.left @ now.direction) + now.behind, 0.004), STEP)
        way = np.array([*(ahead * now.direction + 0.5 * now.aside), 0.5 * (PUSH_HEIGHT - now.hand[2])])
        return way / GAIN

    def _away(self, now: PushNow) -> np.ndarray:
        """Straight back from the thing, then up."""
        back = now.hand[:2] - now.thing
        far = float(np.linalg.norm(back))
        way = np.zeros(3)
        if far < now.reach + 2 * CLEARED:
            way[:2] = back / max(far, 1e-6) * (now.reach + 2 * CLEARED - far + 0.005)
        if far > now.reach + CLEARED:
            way[2] = max(self.hover - now.hand[2], 0)
        return way
