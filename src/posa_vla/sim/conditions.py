"""Test conditions, splits, and which colour × category pairs belong to which.

The conditions change one thing each; everything else of an episode comes from the same random streams, so
the same seed gives `basic`, `background`, `lights` and `occlusion` the same objects at the same places.
"""

from dataclasses import dataclass

import numpy as np

from posa_vla.errors import PosaError, unknown_name
from posa_vla.sim.objects import CATEGORIES, COLOURS
from posa_vla.sim.textures import (
    TRAINING_TABLES,
    TRAINING_WALLS,
    randomised_surface,
    training_surface,
    unseen_surface,
)

OBJECTS = "objects"
"""Its targets are pairs of colour and category that a recording of the same choice of objects never shows."""
CONDITIONS = ("basic", "background", "lights", "distractors", OBJECTS)
"""What evaluation and benchmarks run unless told otherwise; the paper's four and a plain one."""
OCCLUSION = "occlusion"
"""A screen hides the target from the head camera for part of the episode (`sim.screen`). Only when asked for."""
TESTS = (*CONDITIONS, OCCLUSION)
RANDOMISED = "randomised"
"""Not a test: training scenes with other looks and more clutter. Disjoint from the test conditions: surfaces of
other patterns, a lamp that stands higher and is neither dim nor glaring, further objects of seen pairs only."""
RANDOMISED_SHARE = 0.7  # of the scenes in which table, wall or lamp are not those of `basic`; each on its own
SPLITS = ("train", "val", "eval")
SEEDS_PER_SPLIT = 2**32
EXTRA_DISTRACTORS = (2, 4)  # further objects in `distractors`, fewest and most: 6 to 8 where others have 4

Pair = tuple[str, str]  # (colour, category)
Rng = np.random.Generator


@dataclass(frozen=True)
class Look:
    """Surfaces, uint8 (S, S, 3), and the one lamp: direction (3,), diffuse and ambient light (3,) in RGB."""

    table: np.ndarray
    wall: np.ndarray
    lamp_direction: np.ndarray
    lamp_diffuse: np.ndarray
    ambient: np.ndarray


def check_condition(condition: str) -> str:
    if condition not in (*TESTS, RANDOMISED):
        raise unknown_name("condition", condition, (*TESTS, RANDOMISED))
    return condition


def check_names(kind: str, chosen: tuple[str, ...] | None, valid: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen names in the suite's own order; None chooses all."""
    for name in chosen or ():
        if name not in valid:
            raise unknown_name(kind, name, valid)
    return valid if not chosen else tuple(name for name in valid if name in chosen)


def check_numbers(image_size: int, num_distractors: int, episode_length: int | None) -> None:
    """Raise PosaError on a number that no scene can have."""
    if not 16 <= image_size <= 2048:
        raise PosaError(f"image_size must lie in 16 … 2048 pixels, found {image_size}")
    for name, value, low in (("num_distractors", num_distractors, 0), ("episode_length", episode_length, 1)):
        if value is not None and value < low:
            raise PosaError(f"expected {name} of at least {low}, found {value}")


def episode_seed(split: str, seed: int) -> int:
    """Map a seed into its split's own range, so that no split can produce another's scenes."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if not 0 <= seed < SEEDS_PER_SPLIT:
        raise PosaError(f"the seed must lie in 0 … {SEEDS_PER_SPLIT - 1}, found {seed}")
    return SPLITS.index(split) * SEEDS_PER_SPLIT + int(seed)


@dataclass(frozen=True)
class Pairs:
    """Colour × category pairs that training may name, and those only the `objects` condition names."""

    seen: tuple[Pair, ...]
    held_out: tuple[Pair, ...]


def split_pairs(
    categories: tuple[str, ...] = CATEGORIES,
    colours: tuple[str, ...] = COLOURS,
    held_out: tuple[str, ...] | None = None,
) -> Pairs:
    """Hold out the named pairs ("cyan cube"), or else a diagonal of the table categories × colours.

    Every category and every colour of the diagonal stays in the seen pairs, so that a held-out pair is a new
    combination of known words. With fewer than two of either there is no such combination and nothing is held out.
    """
    if held_out is not None:
        return _without(held_out, [(colour, category) for category in categories for colour in colours])
    table = [(i, j) for i in range(len(categories)) for j in range(len(colours))]
    enough = min(len(categories), len(colours)) >= 2
    period = max(len(colours), 3)
    out = [(i, j) for i, j in table if enough and (i + j + 1) % period == 0]
    seen = [cell for cell in table if cell not in out]
    return Pairs(*(tuple((colours[j], categories[i]) for i, j in cells) for cells in (seen, out)))


def chosen_pairs(
    categories: tuple[str, ...] | None, colours: tuple[str, ...] | None, held_out: tuple[str, ...] | None
) -> Pairs:
    """`split_pairs` of names as a user chooses them, None for all; raises on a name that the suite does not have."""
    kinds = check_names("category", categories, CATEGORIES)
    return split_pairs(kinds, check_names("colour", colours, COLOURS), held_out)


def _without(held_out: tuple[str, ...], pairs: list[Pair]) -> Pairs:
    """The pairs without those named, and those named; raises where one is not among them or none is left."""
    by_name = {" ".join(pair): pair for pair in pairs}
    for name in held_out:
        if name not in by_name:
            raise unknown_name("pair to hold out", name, tuple(by_name))
    seen = tuple(pair for name, pair in by_name.items() if name not in held_out)
    if not seen:
        raise PosaError("every pair of the chosen categories and colours is held out: name fewer")
    return Pairs(seen, tuple(pair for name, pair in by_name.items() if name in held_out))


def draw_look(condition: str, rng: Rng) -> Look:
    """Surfaces and light. Training sees a small set of surfaces and a nearly constant white lamp."""
    table = training_surface(TRAINING_TABLES[rng.integers(len(TRAINING_TABLES))])
    wall = training_surface(TRAINING_WALLS[rng.integers(len(TRAINING_WALLS))])
    direction = np.array([-0.25, 0.45, -1.0]) + rng.uniform(-0.1, 0.1, 3)
    diffuse = np.full(3, rng.uniform(0.60, 0.70))
    ambient = np.full(3, rng.uniform(0.36, 0.42))
    if condition == "background":
        table, wall = unseen_surface(rng), unseen_surface(rng)
    elif condition == "lights":
        direction, diffuse, ambient = _unseen_light(rng)
    elif condition == RANDOMISED:
        table = randomised_surface(rng) if rng.random() < RANDOMISED_SHARE else table
        wall = randomised_surface(rng) if rng.random() < RANDOMISED_SHARE else wall
        if rng.random() < RANDOMISED_SHARE:
            direction, diffuse, ambient = _randomised_light(rng)
    return Look(table, wall, direction, diffuse, ambient)


def _unseen_light(rng: Rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A lamp from a low side, dim or glaring, tinted; the tint leaves the six colours distinguishable."""
    direction = _shining_from(rng.uniform(0, 2 * np.pi), rng.uniform(np.radians(20), np.radians(60)))
    tint = rng.uniform(0.70, 1.0, 3)
    strength = rng.choice([rng.uniform(0.25, 0.45), rng.uniform(0.85, 1.1)])
    return direction, tint * strength, tint * rng.uniform(0.18, 0.50)


def _randomised_light(rng: Rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A lamp from above 62 degrees, of a strength between the dim and the glaring ones, hardly tinted."""
    direction = _shining_from(rng.uniform(0, 2 * np.pi), rng.uniform(np.radians(62), np.radians(88)))
    tint = rng.uniform(0.92, 1.0, 3)
    return direction, tint * rng.uniform(0.50, 0.80), tint * rng.uniform(0.25, 0.50)


def _shining_from(azimuth: float, elevation: float) -> np.ndarray:
    """Direction (3,) of the light of a lamp seen at these angles (rad)."""
    flat = np.cos(elevation)
    return -np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation)])
