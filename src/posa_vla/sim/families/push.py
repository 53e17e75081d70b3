"""Interactions without a gripper: push the named object onto a mark, the fingers closed throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from posa_vla.sim.conditions import Pair, Rng
from posa_vla.sim.episode import Layout
from posa_vla.sim.families.family import Family, Focus, Goal
from posa_vla.sim.fixtures import MARK_INNER, MARK_RADIUS, add_mark, smooth_table
from posa_vla.sim.instructions import Phrasings
from posa_vla.sim.layout import GAP, HandGoal, footprint, hand_fits, place_objects
from posa_vla.sim.objects import CATALOGUE
from posa_vla.sim.pushing import Pusher, push_now, reach_of, square_yaw
from posa_vla.sim.slots import Placed

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

TOWARDS = (np.pi / 2, -np.pi / 2, 0.0)  # rad from the robot's x axis: to its left, to its right, away from it
SLANT = 0.15  # rad either way off the object's own faces
DISTANCE = (0.11, 0.17)  # m from the object to the mark
LANES = 6  # drawn for a table; the first that is free is taken
MARKS = ((0.37, 0.66), (-0.18, 0.18))  # m, x and y of the mark: on the table, in reach, in the head's picture
APPROACH = 0.02  # m behind the object that the hand comes down at
UNDER_HAND = 0.022  # m, of the grip site for `hand_fits`: what is lower than 4.4 cm passes under a pushing hand
AWAY = 0.07  # m from the object's centre at which the hand has drawn back
FLAT = 0.010  # m, of its height on the table: the object did not fall over
LIFTED = 0.020  # m above where it stood: no push raises an object by as much


class Push(Family):
    """Push the named object onto the mark with closed fingers. No gripper event ever happens.

    Stages: `touched`, the hand touched the object; `pushed`, its centre is on the light middle of the mark, it was
    never lifted and did not fall over, and the hand has drawn back and touches it no longer. Another object there is a
    mistake, and so is lifting.
    """

    name, index = "push", 3
    stages = ("touched", "pushed")
    aim = "the arm has to push that one onto a mark on the table with closed fingers"
    success = (
        f"the named object's centre is at most {100 * MARK_INNER:.1f} cm from the mark's, it was never lifted by "
        f"{100 * LIFTED:.0f} cm, and the hand has drawn back by {100 * AWAY:.0f} cm and touches it no longer"
    )
    episode_length = 200
    gripper_open = False
    contacts = True
    targets = ("cube", "bowl", "bread", "ring")
    max_objects = 7
    fixtures = (add_mark, smooth_table)
    phrasings = Phrasings(
        training=(
            "push the {thing} onto the mark",
            "slide the {thing} onto the mark",
            "push the {thing} to the mark",
            "move the {thing} onto the mark without grasping it",
        ),
        held_out=(
            "shove the {thing} onto the mark",
            "the {thing} belongs on the mark, push it there",
        ),
    )

    def arrange(self, pairs: list[Pair], goal: Goal, rng: Rng) -> Layout:
        lanes = [draw_lane(rng) for _ in range(LANES)]
        objects = place_objects(pairs, rng, fits=lambda placed: any(lane_is_free(placed, *lane) for lane in lanes))
        mark = mark_of(objects[0], *next(lane for lane in lanes if lane_is_free(objects, *lane)))
        return Layout(objects, {"mark": (*mark, 0.0, 0.0)}, mark)

    def reached(self, env: TabletopEnv) -> dict[str, bool]:
        pushed = on_mark(env, 0) and drawn_back(env) and env.peak < LIFTED
        return {"touched": env.touches(0), "pushed": pushed}

    def mistake(self, env: TabletopEnv) -> str:
        assert env.episode is not None
        if env.peak >= LIFTED:
            return "lifted it instead of pushing"
        wrong = any(on_mark(env, slot) for slot in range(1, len(env.episode.objects)))
        return "another object is on the mark" if wrong else ""

    def focus(self, env: TabletopEnv) -> Focus | None:
        """The object until the hand is at it, then the mark, until the object is there."""
        if on_mark(env, 0):
            return None
        now = push_now(env)
        if not now.at_object:
            return Focus(env.object_geoms(0), now.touch_point)
        return Focus(env.fixtures.geoms("mark"), now.release_point)

    def expert(self, env: TabletopEnv) -> Any:
        return Pusher(env)


def draw_lane(rng: Rng) -> tuple[float, float]:
    """Direction (rad, from the object's own) and distance (m) of a mark."""
    towards = TOWARDS[rng.integers(len(TOWARDS))] + float(rng.uniform(-SLANT, SLANT))
    return towards, float(rng.uniform(*DISTANCE))


def mark_of(placed: Placed, towards: float, distance: float) -> tuple[float, float]:
    """Where the mark lies, (x, y) m: `distance` from the object, `towards` (rad) turned with the object."""
    angle = placed.yaw + towards
    x, y, _ = placed.position
    return x + distance * float(np.cos(angle)), y + distance * float(np.sin(angle))


def lane_is_free(placed: tuple[Placed, ...], towards: float, distance: float) -> bool:
    """Whether object and hand get from where the target stands to the mark without touching anything."""
    target, others = placed[0], [footprint(other) for other in placed[1:]]
    mark = np.array(mark_of(target, towards, distance))
    if not all(low < value < high for value, (low, high) in zip(mark, MARKS, strict=True)):
        return False
    start = np.array(target.position[:2])
    direction = (mark - start) / distance
    radius = CATALOGUE[target.category].radius
    steps = np.linspace(start, mark, 9)  # (9, 2), 2 cm apart at most
    for other in others:
        gaps = np.linalg.norm(other.points[:, None] - steps, axis=-1) - other.radius  # (N, 9)
        if gaps.min() < radius + GAP or gaps[:, -1].min() < MARK_RADIUS + GAP:
            return False
    yaw = square_yaw(direction)
    reach = reach_of(target.category, target.yaw, direction)
    hands = [steps[0] - direction * (reach + APPROACH), *(steps - direction * reach)]
    return all(hand_fits(HandGoal((hand[0], hand[1]), UNDER_HAND, yaw), others) for hand in hands)


def on_mark(env: TabletopEnv, slot: int) -> bool:
    """Whether an object's centre is on the middle of the mark, and it has not fallen over."""
    position, _ = env.object_pose(slot)
    mark, _ = env.fixture_pose("mark")
    near = np.linalg.norm((position - mark)[:2]) < MARK_INNER
    return bool(near and abs(env.rise(slot)) < FLAT)


def drawn_back(env: TabletopEnv) -> bool:
    """Whether the hand is away from the named object."""
    distance = np.linalg.norm(env.ee_pose()[0] - env.object_pose(0)[0])
    return bool(distance > AWAY and not env.touches(0))
