"""One episode as data: which objects stand where, which one is named, how it looks. A pure function of seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from posa_vla.errors import PosaError
from posa_vla.sim.conditions import EXTRA_DISTRACTORS, OBJECTS, RANDOMISED, Look, Pair, Pairs, Rng, episode_seed
from posa_vla.sim.objects import COLOURS, UNSEEN_CATEGORIES
from posa_vla.sim.screen import FixturePose, Screen
from posa_vla.sim.slots import Placed

STREAMS = 6  # what, where, look, words, robot, screen


@dataclass(frozen=True)
class Options:
    """What, besides the family and the seed, decides an episode."""

    condition: str
    split: str
    pairs: Pairs
    num_distractors: int


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Args:
        objects: the target first.
        fixtures: body name -> pose of what belongs to the family: box, plate, …
        spot: (x, y) where the expert puts something down; None where nothing is.
    """

    objects: tuple[Placed, ...]
    fixtures: Mapping[str, FixturePose] = field(default_factory=dict)
    spot: tuple[float, float] | None = None


@dataclass(frozen=True)
class Episode:
    """`layout.objects[0]` is the target; `task_id` numbers the goal, not the sentence; `relation`: "" or a side.

    `screen` is what hides the target in the condition `occlusion`; None in all others.
    """

    layout: Layout
    instruction: str
    held_out_phrasing: bool
    task_id: int
    look: Look
    home_noise: np.ndarray
    relation: str = ""
    screen: Screen | None = None

    @property
    def objects(self) -> tuple[Placed, ...]:
        return self.layout.objects

    @property
    def target(self) -> str:
        return f"{self.objects[0].colour} {self.objects[0].category}"


def streams(split: str, seed: int) -> list[Rng]:
    """Separate generators keep what a condition leaves alone."""
    entropy = episode_seed(split, seed)
    return [np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(s,))) for s in range(STREAMS)]


def choose_pairs(
    options: Options, rng: Rng, targets: tuple[str, ...] | None = None, max_objects: int = 12
) -> list[Pair]:
    """The target first. Half the others share its colour or its category, so that the sentence is needed.

    Args:
        targets: categories that may be the target; None for all.
        max_objects: what the table holds; a condition's further objects are left out beyond it.
    """
    seen, held_out = list(options.pairs.seen), list(options.pairs.held_out)
    source = held_out if options.condition == OBJECTS else seen
    if not source:
        raise PosaError(
            f"the condition {OBJECTS!r} needs held-out colour × category pairs: give at least 2 categories and 2 "
            "colours"
        )
    source = [pair for pair in source if targets is None or pair[1] in targets]
    if not source:
        chosen = "the held-out pairs of the chosen" if options.condition == OBJECTS else "the chosen"
        raise PosaError(f"no target among {chosen} categories and colours: allow more of {', '.join(targets or ())}")
    target = source[rng.integers(len(source))]
    rest = [pair for pair in seen if pair != target]
    if len(rest) < options.num_distractors:
        raise PosaError(
            f"{options.num_distractors} other objects need as many other colour × category pairs, found "
            f"{len(rest)}: allow more categories or colours, or fewer objects"
        )
    if options.num_distractors >= max_objects:
        raise PosaError(f"{options.num_distractors + 1} objects do not fit on the table: at most {max_objects}")
    others: list[Pair] = []
    for shared in range(options.num_distractors):
        # even: same colour, odd: same category, for the first half; then anything
        alike = [p for p in rest if p not in others and p[shared % 2] == target[shared % 2]]
        wanted = shared < max(2, options.num_distractors // 2) and alike
        pool = alike if wanted else [p for p in rest if p not in others]
        others.append(pool[rng.integers(len(pool))])
    if options.condition == "distractors":
        others += _unseen_pairs(rng)
    if options.condition == RANDOMISED:
        rest = [p for p in rest if p not in others]
        more = rng.permutation(len(rest))[: rng.integers(EXTRA_DISTRACTORS[1] + 1)]
        others += [rest[i] for i in more]
    return [target, *others][:max_objects]


def _unseen_pairs(rng: Rng) -> list[Pair]:
    low, high = EXTRA_DISTRACTORS
    kinds = rng.permutation(UNSEEN_CATEGORIES)[: rng.integers(low, high + 1)]
    return [(COLOURS[rng.integers(len(COLOURS))], str(kind)) for kind in kinds]
