"""The long task (the paper's Table 2): open a box, put its lid down, put the named object in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from posa_vla.sim.conditions import Pair, Rng
from posa_vla.sim.episode import Layout
from posa_vla.sim.families.family import Family, Focus, Goal, object_focus
from posa_vla.sim.fixtures import (
    BOX_FLOOR,
    BOX_HALF,
    BOX_HEIGHT,
    BOX_INNER,
    LID_GRASP,
    LID_HALF,
    add_box,
    add_lid,
)
from posa_vla.sim.grasping import OPENED, Grip, held, object_grip
from posa_vla.sim.instructions import Phrasings
from posa_vla.sim.kinematics import tilt, yaw_of
from posa_vla.sim.layout import GRID, grid_axis, grid_cells, place_objects, rectangle
from posa_vla.sim.objects import CATALOGUE, Category
from posa_vla.sim.transfer import Transfer

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

ASIDE = 0.155  # m, the box's centre to the side of the robot's x axis
NEAR, FAR = 0.41, 0.59  # m, x of the box and of the place for its lid, or the other way round
JITTER = (0.012, 0.10)  # m and rad
OBJECTS_ASIDE = 0.09  # m, the objects' columns to the other side
FLAT = 0.15  # rad; a lid that leans on something is not down
OVER_RIM = 0.028  # m above the rim at which the hand lets go: its underside stays clear


class BoxTask(Family):
    """Open the box and put the named object in it. Box and objects stand on opposite sides.

    Stages: `opened`, the lid lies flat on the table and the hand has let it go; `picked`, the object was lifted
    by 10 cm; `placed`, the object is in the box and the hand has left it.
    """

    name, index = "box", 1
    stages = ("opened", "picked", "placed")
    aim = "the arm has to take the lid off a box, put it down, and put that one into the box"
    success = "the lid lies on the table, the named object was put into the box, and the hand has let it go"
    episode_length = 400
    max_objects = 7
    fixtures = (add_box, add_lid)
    phrasings = Phrasings(
        training=(
            "open the box and put the {thing} in it",
            "put the {thing} into the box",
            "take the lid off the box and put the {thing} inside",
            "open the box, then place the {thing} in it",
        ),
        held_out=(
            "the {thing} belongs in the box",
            "open the box and place the {thing} inside",
        ),
    )

    def arrange(self, pairs: list[Pair], goal: Goal, rng: Rng) -> Layout:
        side = 1 if rng.random() < 0.5 else -1
        ends = (NEAR, FAR) if rng.random() < 0.5 else (FAR, NEAR)
        spots = [np.array([x, side * ASIDE]) + rng.uniform(-JITTER[0], JITTER[0], 2) for x in ends]
        (box_x, box_y), (lid_x, lid_y) = spots
        yaw = float(rng.uniform(-JITTER[1], JITTER[1]))
        cells = grid_cells(0.50 + grid_axis(GRID), grid_axis(3, -side * OBJECTS_ASIDE))
        box = rectangle((box_x, box_y), (BOX_HALF, BOX_HALF), yaw, BOX_HEIGHT + LID_GRASP)
        lid = rectangle((lid_x, lid_y), (LID_HALF, LID_HALF), yaw, LID_GRASP)
        objects = place_objects(pairs, rng, cells, (box, lid))
        fixtures = {"box": (box_x, box_y, 0.0, yaw), "lid": (box_x, box_y, BOX_HEIGHT + 0.0005, yaw)}
        return Layout(objects, fixtures, (lid_x, lid_y))

    def reached(self, env: TabletopEnv) -> dict[str, bool]:
        return {
            "opened": lid_down(env) and env.robot.opening > OPENED,
            "picked": env.lifted() == env.target,
            "placed": in_box(env) and env.left(0),
        }

    def focus(self, env: TabletopEnv) -> Focus | None:
        let_go = not env.robot.told_to_close  # the fingers take some steps more to open
        if not (env.stages["opened"] or (lid_down(env) and let_go)):
            goal = lid_goal if held(env, lid_grip(env)) else lid_grip
            return Focus(env.fixtures.geoms("lid"), goal(env).position)
        if held(env, object_grip(env)):
            return Focus(env.fixtures.geoms("box"), box_goal(env).position)
        return None if over_box(env) and let_go else object_focus(env)  # also while it falls in

    def expert(self, env: TabletopEnv) -> Any:
        return BoxExpert(env)


def lid_down(env: TabletopEnv) -> bool:
    """Whether the lid lies flat on the table."""
    position, quaternion = env.fixture_pose("lid")
    return bool(-0.01 < position[2] < 0.006 and tilt(quaternion) < FLAT and env.over_table(position))


def in_box(env: TabletopEnv) -> bool:
    """Whether the named object's centre is between the walls and not above what lies on the floor."""
    lowest = BOX_FLOOR + max(target_category(env).size) / 2 + 0.015
    return bool(over_box(env) and env.object_pose(0)[0][2] < lowest)


def over_box(env: TabletopEnv) -> bool:
    """Whether the named object's centre is between the walls, at any height."""
    position, _ = env.object_pose(0)
    box, quaternion = env.fixture_pose("box")
    yaw = yaw_of(quaternion)
    across, along = (position - box)[:2] @ np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    return bool(max(abs(across), abs(along)) < BOX_INNER)


def target_category(env: TabletopEnv) -> Category:
    """What kind of object the sentence names."""
    assert env.episode is not None
    return CATALOGUE[env.episode.objects[0].category]


def lid_grip(env: TabletopEnv) -> Grip:
    """The lid's handle."""
    position, quaternion = env.fixture_pose("lid")
    yaw = (yaw_of(quaternion) + np.pi / 2) % np.pi - np.pi / 2
    return Grip(position + np.array([0, 0, LID_GRASP]), yaw, LID_GRASP)


def lid_goal(env: TabletopEnv) -> Grip:
    """Beside the box, where nothing stands."""
    assert env.episode is not None and env.episode.layout.spot is not None
    return Grip(np.array([*env.episode.layout.spot, LID_GRASP + 0.002]), lid_grip(env).yaw, LID_GRASP)


def box_goal(env: TabletopEnv) -> Grip:
    """Over the middle of the box, as low as the hand may go."""
    box, _ = env.fixture_pose("box")
    lowest = BOX_FLOOR + target_category(env).grasp_height + 0.010
    grip = object_grip(env)
    return Grip(np.array([*box[:2], max(lowest, BOX_HEIGHT + OVER_RIM)]), grip.yaw, grip.below)


class BoxExpert(Transfer):
    """First the lid, then the object; which of them follows from where they are."""

    def act(self) -> np.ndarray:
        env = self.env
        if not self.env.stages["opened"]:
            return self.carry(lid_grip(env), lid_goal(env))
        if in_box(env) and not self.holding:
            return self.withdraw()
        return self.carry(object_grip(env), box_goal(env))
