"""Take a thing, carry it over the others, put it down, let go, draw back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posa_vla.sim.grasping import FUNNEL, HOVER, NARROW, Grasper, Grip

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

CRUISE = 0.115  # m under a thing that is carried: above the tallest object, and enough to count as lifted
THERE = (0.010, 0.006)  # m off to the side and in height: near enough to let go
OPENING_STEPS = 3  # the fingers need as many to open


class Transfer(Grasper):
    """A hand that carries. Each method gives the next action (7,)."""

    def __init__(self, env: TabletopEnv, hover: float = HOVER):
        super().__init__(env, hover)

    def reset(self) -> None:
        super().reset()
        self._releasing = 0

    def carry(self, grip: Grip, goal: Grip) -> np.ndarray:
        """Towards the thing at `grip` standing where its grip is `goal`, whatever has to come first."""
        if self._releasing:
            return self._release()
        reach = self.grasp(grip)
        if reach is not None:
            return reach
        way = goal.position - grip.position  # of the thing, which may sit off the middle of the hand
        off = float(np.hypot(*way[:2]))
        if off < THERE[0] and abs(way[2]) < THERE[1]:
            self._closing, self._releasing = 0, OPENING_STEPS
            return self._release()
        floor = min(CRUISE + grip.below, goal.position[2] + FUNNEL * max(off - NARROW, 0))
        way[2] = floor - grip.position[2]
        if way[2] > 0.02:  # too low for this distance: up before across
            way[:2] = 0
        return self.action(way, self.turn_to(goal.yaw) * 0.3)

    def withdraw(self) -> np.ndarray:
        """Open, then straight up to the height at which the hand crosses the table."""
        self._closing = 0
        if self._releasing:
            return self._release()
        hand, _ = self.env.ee_pose()
        return self.action(np.array([0, 0, max(self.hover - hand[2], 0)]), np.zeros(3))

    def _release(self) -> np.ndarray:
        self._releasing -= 1
        return self.action(np.zeros(3), np.zeros(3))
