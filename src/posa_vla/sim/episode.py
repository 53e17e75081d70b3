"""One episode as data: which objects stand where, which one is named, how it looks. A pure function of seeds."""

from dataclasses import dataclass

import numpy as np

from posa_vla.errors import PosaError
from posa_vla.sim.conditions import EXTRA_DISTRACTORS, RANDOMISED, Look, Pair, Pairs, draw_look, episode_seed
from posa_vla.sim.instructions import instruction
from posa_vla.sim.objects import CATALOGUE, CATEGORIES, COLOURS, UNSEEN_CATEGORIES
from posa_vla.sim.slots import Placed

GRID, SPACING, DISK = 5, 0.08, 0.015  # cells a side, m between their centres, m perturbation radius
WORKSPACE = (0.50, 0.0)  # m, the grid's centre
MAX_YAW = 0.5  # rad either way
GAP = 0.008  # m kept free between footprints
FINGER_ZONE = (0.015, 0.058)  # m, half extents (across, along the opening axis) of the open fingers
HAND_ZONE = (0.036, 0.110)  # m, the same of the hand above them
HAND_CLEARANCE = 0.022  # m from the grip site up to the hand's underside, with a margin
ATTEMPTS = 2000
HOME_NOISE = 0.02  # rad, uniform, on every arm joint


@dataclass(frozen=True)
class Options:
    """What, besides the seed, decides an episode."""

    condition: str
    split: str
    pairs: Pairs
    num_distractors: int


@dataclass(frozen=True)
class Episode:
    """`objects[0]` is the target; `task_id` numbers the goal (colour × category), not the sentence."""

    objects: tuple[Placed, ...]
    instruction: str
    held_out_phrasing: bool
    task_id: int
    look: Look
    home_noise: np.ndarray

    @property
    def target(self) -> str:
        return f"{self.objects[0].colour} {self.objects[0].category}"


def sample_episode(options: Options, seed: int) -> Episode:
    """Equal options and seed give equal episodes; separate streams keep what a condition leaves alone."""
    entropy = episode_seed(options.split, seed)
    what, where, look, words, robot = (
        np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(stream,))) for stream in range(5)
    )
    pairs = _choose_pairs(options, what)
    objects = _place(pairs, where)
    colour, category = pairs[0]
    sentence, held_out = instruction(colour, category, options.split, words)
    task_id = COLOURS.index(colour) * len(CATEGORIES) + CATEGORIES.index(category)
    noise = robot.uniform(-HOME_NOISE, HOME_NOISE, 7)
    return Episode(objects, sentence, held_out, task_id, draw_look(options.condition, look), noise)


def _choose_pairs(options: Options, rng: np.random.Generator) -> list[Pair]:
    """The target first. Half the others share its colour or its category, so that the sentence is needed."""
    seen, held_out = list(options.pairs.seen), list(options.pairs.held_out)
    source = held_out if options.condition == "objects" else seen
    if not source:
        raise PosaError(
            "the condition 'objects' needs held-out colour × category pairs: give at least 2 categories and 2 colours"
        )
    target = source[rng.integers(len(source))]
    rest = [pair for pair in seen if pair != target]
    if len(rest) < options.num_distractors:
        raise PosaError(
            f"{options.num_distractors} other objects need as many other colour × category pairs, found "
            f"{len(rest)}: allow more categories or colours, or fewer objects"
        )
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
    return [target, *others]


def _unseen_pairs(rng: np.random.Generator) -> list[Pair]:
    low, high = EXTRA_DISTRACTORS
    kinds = rng.permutation(UNSEEN_CATEGORIES)[: rng.integers(low, high + 1)]
    return [(COLOURS[rng.integers(len(COLOURS))], str(kind)) for kind in kinds]


def _place(pairs: list[Pair], rng: np.random.Generator) -> tuple[Placed, ...]:
    """Distinct cells of the grid, perturbed, until footprints are apart and the hand can reach the target."""
    if len(pairs) > GRID * GRID // 2:
        raise PosaError(f"{len(pairs)} objects do not fit on the {GRID} × {GRID} grid: at most {GRID * GRID // 2}")
    for _ in range(ATTEMPTS):
        cells = rng.permutation(GRID * GRID)[: len(pairs)]
        placed = tuple(_perturbed(pair, int(cell), rng) for pair, cell in zip(pairs, cells, strict=True))
        if _apart(placed) and _reachable(placed):
            return placed
    raise PosaError(f"found no free layout for {len(pairs)} objects in {ATTEMPTS} attempts: use fewer objects")


def _perturbed(pair: Pair, cell: int, rng: np.random.Generator) -> Placed:
    radius, angle = DISK * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    offset = np.array([cell // GRID, cell % GRID]) - (GRID - 1) / 2
    x, y = WORKSPACE + SPACING * offset + radius * np.array([np.cos(angle), np.sin(angle)])
    category = CATALOGUE[pair[1]]
    return Placed(category.name, pair[0], (x, y, category.size[2] / 2), rng.uniform(-MAX_YAW, MAX_YAW))


def _apart(placed: tuple[Placed, ...]) -> bool:
    xy = np.array([p.position[:2] for p in placed])
    radii = np.array([CATALOGUE[p.category].radius for p in placed])
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) - radii[:, None] - radii[None]
    return bool((distance[~np.eye(len(placed), dtype=bool)] > GAP).all())


def grasp_yaw(category: str, yaw: float) -> float:
    """Yaw (rad) at which the hand grasps an object of this yaw: the nearest to 0 that its symmetry allows."""
    period = CATALOGUE[category].yaw_period
    if period == 0:
        return 0.0
    return float((yaw + period / 2) % period - period / 2)


def _reachable(placed: tuple[Placed, ...]) -> bool:
    """No other object where the open fingers go down, none tall enough where the hand above them goes."""
    target = placed[0]
    yaw = grasp_yaw(target.category, target.yaw)
    across, along = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    underside = CATALOGUE[target.category].grasp_height + HAND_CLEARANCE
    for other in placed[1:]:
        category = CATALOGUE[other.category]
        offset = np.subtract(other.position[:2], target.position[:2])
        local = np.abs([offset @ across, offset @ along])
        zones = [FINGER_ZONE, HAND_ZONE] if category.size[2] > underside else [FINGER_ZONE]
        for zone in zones:
            if np.linalg.norm(np.maximum(local - zone, 0)) < category.radius + GAP / 2:
                return False
    return True
