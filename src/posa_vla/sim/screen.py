"""The `occlusion` condition: a screen is put before the target, as the head camera sees it, and taken away.

It stands a third of the way from the camera to the target, beyond the hand's reach (x <= 0.80 m), and nothing can
touch it. The wrist camera's view stays free. Sometimes it comes after the first frames, sometimes it is there at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from posa_vla.sim.scene import HEAD_POSITION

FixturePose = tuple[float, float, float, float]
"""x, y, z (m) and yaw (rad), world frame."""
PARKED: FixturePose = (0.0, 3.0, -1.0, 0.0)  # out of every camera's sight

NEARNESS = 0.33  # of the way from the camera to the target
HIDES_AFTER, HIDES_FOR = (0, 6), (10, 24)  # control steps, fewest and most; experts grasp after about 15


@dataclass(frozen=True)
class Screen:
    """Where the screen stands, and during which control steps: `first` … `last` - 1 since reset."""

    place: FixturePose
    first: int
    last: int

    def pose(self, step: int) -> FixturePose:
        """world_from_screen after `step` control steps."""
        return self.place if self.first <= step < self.last else PARKED


def draw_screen(target: ArrayLike, rng: np.random.Generator) -> Screen:
    """A screen before the point `target`, (3,) m in the world."""
    head = np.array(HEAD_POSITION)
    x, y, z = head + NEARNESS * (np.asarray(target) - head)
    first = int(rng.integers(HIDES_AFTER[0], HIDES_AFTER[1] + 1))
    last = first + int(rng.integers(HIDES_FOR[0], HIDES_FOR[1] + 1))
    return Screen((float(x), float(y), float(z), 0.0), first, last)
