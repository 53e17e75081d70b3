"""Spatial instructions (the paper's App. 11): put the named object to the left or to the right of a plate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from posa_vla.sim.conditions import Pair, Rng
from posa_vla.sim.episode import Layout, Options
from posa_vla.sim.families.family import Family, Focus, Goal, object_focus
from posa_vla.sim.fixtures import PLATE_HEIGHT, PLATE_RADIUS, add_plate
from posa_vla.sim.grasping import Grip, held, object_grip
from posa_vla.sim.instructions import Phrasings
from posa_vla.sim.layout import HandGoal, Obstacle, grid_axis, grid_cells, place_objects
from posa_vla.sim.objects import CATALOGUE, CATEGORIES, COLOURS
from posa_vla.sim.transfer import Transfer

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

SIDES = {"left": 1, "right": -1}  # sign of y: the robot's own left and right
PLATE_ROWS = ((0.39, (0.50, 0.58, 0.66)), (0.61, (0.34, 0.42, 0.50)))  # m: x of the plate, x of the objects' rows
PLATE_JITTER = (0.012, 0.020)  # m, either way in x and y
BESIDE = 0.13  # m from the plate's centre to where the expert puts things: its open fingers clear the plate
SPOT_RADIUS = 0.045  # m kept free there, on both sides: the table does not tell which side is asked for
REGION = (0.075, 0.200, 0.070)  # m: nearest and farthest to the side of the plate's centre, farthest before or behind
STANDS = 0.012  # m, of its height on the table: not on top of something; on its side where that is as high
SET_DOWN = 0.003  # m above the table at which the expert lets go


class Place(Family):
    """Put the named object on the named side of the plate, as the robot sees it.

    Stages: `picked`, the object was lifted by 10 cm; `placed`, it stands in the region on the named side
    (`REGION`) and the hand has left it. Standing so on the other side is a mistake that is counted.
    """

    name, index = "place", 2
    stages = ("picked", "placed")
    aim = "the arm has to put that one to the named side of a plate, left or right as the robot sees it"
    success = (
        "the named object stands {:.1f} to {:.0f} cm to the named side of the plate's centre, at most {:.0f} cm before "
        "or behind it, and the hand has let it go"
    ).format(*(100 * limit for limit in REGION))
    episode_length = 250
    max_objects = 7
    fixtures = (add_plate,)
    phrasings = Phrasings(
        training=(
            "put the {thing} to the {relation} of the plate",
            "place the {thing} to the {relation} of the plate",
            "put the {thing} on the {relation} side of the plate",
            "move the {thing} to the {relation} of the plate",
        ),
        held_out=(
            "the {thing} goes to the {relation} of the plate",
            "set the {thing} down on the {relation} side of the plate",
        ),
    )

    def choose(self, options: Options, rng: Rng) -> tuple[list[Pair], Goal]:
        pairs, goal = super().choose(options, rng)
        relation = tuple(SIDES)[rng.integers(len(SIDES))]
        task_id = goal.task_id + tuple(SIDES).index(relation) * len(COLOURS) * len(CATEGORIES)
        return pairs, Goal(goal.pair, goal.named, relation, task_id)

    def arrange(self, pairs: list[Pair], goal: Goal, rng: Rng) -> Layout:
        plate_x, rows = PLATE_ROWS[rng.integers(len(PLATE_ROWS))]
        x, y = np.array([plate_x, 0.0]) + rng.uniform(-1, 1, 2) * PLATE_JITTER
        spots = {side: (x, y + sign * BESIDE) for side, sign in SIDES.items()}
        plate = Obstacle(np.array([(x, y)]), PLATE_RADIUS, PLATE_HEIGHT)
        free = Obstacle(np.array(list(spots.values())), SPOT_RADIUS, 0.0)
        height = CATALOGUE[goal.pair[1]].grasp_height
        ways_down = [HandGoal(spot, height, 0.0) for spot in spots.values()]
        cells = grid_cells(rows, grid_axis())
        objects = place_objects(pairs, rng, cells, (plate,), ways_down, (free,))
        return Layout(objects, {"plate": (x, y, 0.0, 0.0)}, spots[goal.relation])

    def reached(self, env: TabletopEnv) -> dict[str, bool]:
        return {"picked": env.lifted() == env.target, "placed": stands_beside(env, side_of(env)) and env.left(0)}

    def mistake(self, env: TabletopEnv) -> str:
        other = stands_beside(env, -side_of(env)) and env.left(0)
        return "put it on the other side" if other else ""

    def focus(self, env: TabletopEnv) -> Focus | None:
        if held(env, object_grip(env)):
            return Focus(env.fixtures.geoms("plate"), place_goal(env).position)
        return None if stands_beside(env, side_of(env)) else object_focus(env)

    def expert(self, env: TabletopEnv) -> Any:
        return PlaceExpert(env)


def side_of(env: TabletopEnv) -> int:
    """+1 where the sentence says left, -1 where it says right."""
    assert env.episode is not None
    return SIDES[env.episode.relation]


def stands_beside(env: TabletopEnv, side: int) -> bool:
    """Whether the named object stands in the region on this side of the plate."""
    position, _ = env.object_pose(0)
    plate, _ = env.fixture_pose("plate")
    before, aside = np.abs(position[0] - plate[0]), side * (position[1] - plate[1])
    nearest, farthest, deepest = REGION
    return bool(nearest < aside < farthest and before < deepest and abs(env.rise(0)) < STANDS)


def place_goal(env: TabletopEnv) -> Grip:
    """Beside the plate, on the side that the sentence names."""
    assert env.episode is not None and env.episode.layout.spot is not None
    grip = object_grip(env)
    return Grip(np.array([*env.episode.layout.spot, grip.below + SET_DOWN]), 0.0, grip.below)


class PlaceExpert(Transfer):
    """Take it, put it down where it belongs, leave it alone."""

    def act(self) -> np.ndarray:
        if stands_beside(self.env, side_of(self.env)) and not self.holding:
            return self.withdraw()
        return self.carry(object_grip(self.env), place_goal(self.env))
