"""The scripted expert of picking: over the object, down a funnel, close, lift, hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from posa_vla.sim.grasping import HOVER, Grasper, held, object_grip
from posa_vla.sim.objects import CATALOGUE
from posa_vla.sim.tabletop import LIFT_HEIGHT

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

LIFT_MARGIN = 0.025  # m above the height that counts


class Expert(Grasper):
    """`act()` reads the environment's present state and returns a clean action (7,), float32.

    Args:
        target: name of the object to pick; None picks the one that the sentence names.
        hover: see `Grasper`.
    """

    def __init__(self, env: TabletopEnv, target: str | None = None, hover: float = HOVER):
        super().__init__(env, hover)
        self.target = target

    def interaction(self) -> np.ndarray | None:
        """See `Grasper.interaction`: the grasp until the fingers close around the object this expert is after."""
        grip = object_grip(self.env, self._slot)
        return None if held(self.env, grip) else grip.position

    @property
    def _slot(self) -> int:
        return self.env.slot_of(self.target or self.env.target)

    def act(self) -> np.ndarray:
        slot = self._slot
        grip = object_grip(self.env, slot)
        reach = self.grasp(grip)
        if reach is not None:
            return reach
        hand, _ = self.env.ee_pose()
        goal = np.array([hand[0], hand[1], self._height(slot)])
        return self.action(goal - hand, self.turn_to(grip.yaw) * 0.3)

    def _height(self, slot: int) -> float:
        """Of the grip site when the object has been lifted."""
        assert self.env.episode is not None
        placed = self.env.episode.objects[slot]
        category = CATALOGUE[placed.category]
        stand = placed.position[2] - category.size[2] / 2
        return category.grasp_height + LIFT_HEIGHT + LIFT_MARGIN + stand
