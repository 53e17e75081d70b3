"""Where height matters: every object stands on a column of its own height, and the named one is to be picked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from posa_vla.sim.conditions import Pair, Rng
from posa_vla.sim.episode import Layout
from posa_vla.sim.families.family import Family, Goal
from posa_vla.sim.fixtures import COLUMN_RADIUS, add_columns
from posa_vla.sim.layout import GAP, PICK_CELLS, footprint, grasp_goal, hand_fits, place_objects
from posa_vla.sim.slots import Placed

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

HEIGHTS = (0.0, 0.12)  # m of a column's top above the table, uniform
HOVER = 0.25  # m, the grip site's height while the hand crosses: the fingers clear the tallest object on any column


class Stack(Family):
    """Pick up the named object from its column. The pixel alone does not tell where it is."""

    name, index = "stack", 4
    aim = "objects stand on columns of different heights; the arm has to lift that one by 10 cm and hold it"
    max_objects = 8
    fixtures = (add_columns,)

    def arrange(self, pairs: list[Pair], goal: Goal, rng: Rng) -> Layout:
        heights = rng.uniform(*HEIGHTS, len(pairs))
        objects = place_objects(pairs, rng, PICK_CELLS, fits=lambda placed: stands_free(raised(placed, heights)))
        columns = {
            f"column_{index}": (*placed.position[:2], float(height), 0.0)
            for index, (placed, height) in enumerate(zip(objects, heights, strict=True))
        }
        return Layout(raised(objects, heights), columns)

    def expert(self, env: TabletopEnv) -> Any:
        from posa_vla.sim.expert import Expert

        return Expert(env, hover=HOVER)


def raised(placed: tuple[Placed, ...], heights: np.ndarray) -> tuple[Placed, ...]:
    """The same objects, each higher by its height (m)."""
    return tuple(
        replace(one, position=(*one.position[:2], one.position[2] + float(height)))
        for one, height in zip(placed, heights, strict=True)
    )


def stands_free(placed: tuple[Placed, ...]) -> bool:
    """Whether the columns are apart, and the hand gets down to the target between the others and their columns."""
    xy = np.array([one.position[:2] for one in placed])
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + np.eye(len(placed))
    if distance.min() < 2 * COLUMN_RADIUS + GAP:
        return False
    others = [footprint(other) for other in placed[1:]]
    wide = [replace(other, radius=max(other.radius, COLUMN_RADIUS)) for other in others]
    return hand_fits(grasp_goal(placed[0]), wide)
