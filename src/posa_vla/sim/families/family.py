"""What a task family is: a scene, how its episodes are drawn, what counts as done, and who can do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import mujoco
import numpy as np

from posa_vla.sim.conditions import OCCLUSION, Pair, Rng, draw_look
from posa_vla.sim.episode import Episode, Layout, Options, choose_pairs, streams
from posa_vla.sim.grasping import held, object_grip
from posa_vla.sim.instructions import PICKING, Phrasings
from posa_vla.sim.layout import PICK_CELLS, place_objects
from posa_vla.sim.objects import CATEGORIES, COLOURS
from posa_vla.sim.screen import draw_screen

if TYPE_CHECKING:
    from posa_vla.sim.env import TabletopEnv

HOME_NOISE = 0.02  # rad, uniform, on every arm joint
IDS_PER_FAMILY = 1000


@dataclass(frozen=True)
class Goal:
    """What the sentence asks for.

    Args:
        pair: colour and category of the target.
        named: how the sentence names it.
        relation: "" or a side.
        task_id: equal for all sentences that ask for this, different between families.
    """

    pair: Pair
    named: str
    relation: str
    task_id: int


@dataclass(frozen=True)
class Focus:
    """What the hand acts on next.

    Args:
        geoms: ids of the model's geoms that it acts on.
        position: (3,) m, world: where the grip site will be when the fingers next close or open for good; where they
            stay closed, when the hand next touches the thing or brings it where it belongs.
    """

    geoms: list[int]
    position: np.ndarray


class Family:
    """The base, which is also most of `pick`: choose objects, put them on the grid, lift the named one.

    Class attributes:
        name, index: as options name it, and the block of task ids it owns.
        stages: what has to happen, in order; the last must also last (`env.HOLD_STEPS`).
        aim: ends the sentence "A sentence names one object among several; …".
        success: ends the sentence "Success: … and that for half a second".
        episode_length: control steps that an episode may take unless told otherwise.
        gripper_open: whether the hand starts open.
        contacts: whether its interactions are touches, so that `posa-vla record` records contact.
        targets: categories that may be named; None for all.
        max_objects: what the table holds.
        phrasings: the sentences.
        fixtures: functions that add the family's bodies to a scene.
    """

    name: ClassVar[str]
    index: ClassVar[int]
    stages: ClassVar[tuple[str, ...]] = ("picked",)
    aim: ClassVar[str] = "the arm has to lift that one by 10 cm and hold it"
    success: ClassVar[str] = "the named object is lifted by at least 10 cm"
    episode_length: ClassVar[int] = 150
    gripper_open: ClassVar[bool] = True
    contacts: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...] | None] = None
    max_objects: ClassVar[int] = 12
    phrasings: ClassVar[Phrasings] = PICKING
    fixtures: ClassVar[tuple[Callable[[mujoco.MjSpec], None], ...]] = ()

    def sample(self, options: Options, seed: int) -> Episode:
        """Equal options and seed give equal episodes."""
        what, where, look, words, robot, hiding = streams(options.split, seed)
        pairs, goal = self.choose(options, what)
        layout = self.arrange(pairs, goal, where)
        sentence, held_out = self.phrasings.draw(options.split, words, thing=goal.named, relation=goal.relation)
        noise = robot.uniform(-HOME_NOISE, HOME_NOISE, 7)
        look_of = draw_look(options.condition, look)
        screen = draw_screen(layout.objects[0].position, hiding) if options.condition == OCCLUSION else None
        return Episode(layout, sentence, held_out, goal.task_id, look_of, noise, goal.relation, screen)

    def choose(self, options: Options, rng: Rng) -> tuple[list[Pair], Goal]:
        """Which objects, the target first, and what is asked for."""
        pairs = choose_pairs(options, rng, self.targets, self.max_objects)
        return pairs, Goal(pairs[0], " ".join(pairs[0]), "", self.task_id(pairs[0]))

    def arrange(self, pairs: list[Pair], goal: Goal, rng: Rng) -> Layout:
        """Where everything stands."""
        return Layout(place_objects(pairs, rng, PICK_CELLS))

    def task_id(self, pair: Pair) -> int:
        colour, category = pair
        return self.index * IDS_PER_FAMILY + COLOURS.index(colour) * len(CATEGORIES) + CATEGORIES.index(category)

    def reached(self, env: TabletopEnv) -> dict[str, bool]:
        """Which stages hold in the environment's present state."""
        return {"picked": env.lifted() == env.target}

    def mistake(self, env: TabletopEnv) -> str:
        """What the policy did instead of what was asked, if it is one of the family's known mistakes, or ""."""
        return ""

    def focus(self, env: TabletopEnv) -> Focus | None:
        """What the hand acts on next; None when nothing is left to do."""
        return None if held(env, object_grip(env)) else object_focus(env)

    def expert(self, env: TabletopEnv) -> Any:
        """Someone who can do it: `reset()`, and `act()` -> action (7,) from the true state."""
        from posa_vla.sim.expert import Expert

        return Expert(env)


def object_focus(env: TabletopEnv) -> Focus:
    """The named object, to be grasped."""
    return Focus(env.object_geoms(0), object_grip(env).position)
