"""Where things stand: cells of a grid, perturbed, until all are apart and the hand reaches what it must.

Everything here is metres and radians in the world frame (= robot base), and a pure function of its generator.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from posa_vla.errors import PosaError
from posa_vla.sim.conditions import Pair, Rng
from posa_vla.sim.objects import CATALOGUE
from posa_vla.sim.slots import Placed

GRID, SPACING, DISK = 5, 0.08, 0.015  # cells a side, m between their centres, m perturbation radius
WORKSPACE = (0.50, 0.0)  # m, the grid's centre
MAX_YAW = 0.5  # rad either way
GAP = 0.008  # m kept free between footprints
FINGER_ZONE = (0.015, 0.058)  # m, half extents (across, along the opening axis) of the open fingers
HAND_ZONE = (0.036, 0.110)  # m, the same of the hand above them
HAND_CLEARANCE = 0.022  # m from the grip site up to the hand's underside, with a margin
ATTEMPTS = 2000


@dataclass(frozen=True)
class Obstacle:
    """Something that objects stand clear of and that the hand may not hit.

    Args:
        points: (N, 2), its footprint is all that lies within `radius` of one of them.
        height: of its top above the table.
    """

    points: np.ndarray
    radius: float
    height: float


@dataclass(frozen=True)
class HandGoal:
    """Where the hand goes down: the grip site's (x, y) and height, and the hand's yaw."""

    position: tuple[float, float]
    height: float
    yaw: float


def grid_cells(rows: Iterable[float], columns: Iterable[float]) -> np.ndarray:
    """Centres (N, 2) of the cells at every x in `rows` and y in `columns`."""
    return np.array([(x, y) for x in rows for y in columns])


def grid_axis(count: int = GRID, centre: float = 0.0) -> np.ndarray:
    """`count` coordinates, `SPACING` apart, around `centre`."""
    return centre + SPACING * (np.arange(count) - (count - 1) / 2)


PICK_CELLS = grid_cells(WORKSPACE[0] + grid_axis(), WORKSPACE[1] + grid_axis())  # (25, 2)


def footprint(placed: Placed) -> Obstacle:
    """An object as something in another's way."""
    category = CATALOGUE[placed.category]
    top = placed.position[2] + category.size[2] / 2
    return Obstacle(np.array([placed.position[:2]]), category.radius, top)


def rectangle(centre: tuple[float, float], half: tuple[float, float], yaw: float, height: float) -> Obstacle:
    """A turned rectangle of half extents `half`, as points 2 cm apart."""
    axes = [np.linspace(-h, h, max(2, int(np.ceil(h / 0.01)))) for h in half]
    x, y = (grid.ravel() for grid in np.meshgrid(*axes))
    turned = np.stack([np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y], axis=1)
    return Obstacle(centre + turned, 0.0, height)


def place_objects(
    pairs: list[Pair],
    rng: Rng,
    cells: np.ndarray = PICK_CELLS,
    obstacles: Sequence[Obstacle] = (),
    goals: Sequence[HandGoal] = (),
    clear: Sequence[Obstacle] = (),
    fits: Callable[[tuple[Placed, ...]], bool] | None = None,
) -> tuple[Placed, ...]:
    """Distinct cells, perturbed, until footprints are apart and the hand can reach the target and the goals.

    Objects stand clear of `obstacles` and of `clear`; the hand keeps out of the former only. Where the hand does not
    come to grasp, `fits` says whether it reaches what it must.
    """
    if len(pairs) > len(cells) // 2:
        raise PosaError(f"{len(pairs)} objects do not fit on a grid of {len(cells)} cells: at most {len(cells) // 2}")
    for _ in range(ATTEMPTS):
        chosen = rng.permutation(len(cells))[: len(pairs)]
        placed = tuple(_perturbed(pair, cells[cell], rng) for pair, cell in zip(pairs, chosen, strict=True))
        if apart(placed, [*obstacles, *clear]) and (fits(placed) if fits else reachable(placed, obstacles, goals)):
            return placed
    raise PosaError(f"found no free layout for {len(pairs)} objects in {ATTEMPTS} attempts: use fewer objects")


def _perturbed(pair: Pair, cell: np.ndarray, rng: Rng) -> Placed:
    radius, angle = DISK * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    x, y = cell + radius * np.array([np.cos(angle), np.sin(angle)])
    category = CATALOGUE[pair[1]]
    return Placed(category.name, pair[0], (x, y, category.size[2] / 2), rng.uniform(-MAX_YAW, MAX_YAW))


def apart(placed: tuple[Placed, ...], obstacles: Sequence[Obstacle] = ()) -> bool:
    """Whether no footprint touches another or an obstacle."""
    xy = np.array([p.position[:2] for p in placed])
    radii = np.array([CATALOGUE[p.category].radius for p in placed])
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=-1) - radii[:, None] - radii[None]
    if not (distance[~np.eye(len(placed), dtype=bool)] > GAP).all():
        return False
    for obstacle in obstacles:
        gaps = np.linalg.norm(xy[:, None] - obstacle.points[None], axis=-1) - radii[:, None] - obstacle.radius
        if gaps.min() <= GAP:
            return False
    return True


def grasp_yaw(category: str, yaw: float) -> float:
    """Yaw (rad) at which the hand grasps an object of this yaw: the nearest to 0 that its symmetry allows."""
    period = CATALOGUE[category].yaw_period
    if period == 0:
        return 0.0
    return float((yaw + period / 2) % period - period / 2)


def grasp_goal(placed: Placed) -> HandGoal:
    """Where the hand goes to grasp an object."""
    category = CATALOGUE[placed.category]
    base = placed.position[2] - category.size[2] / 2
    return HandGoal(placed.position[:2], base + category.grasp_height, grasp_yaw(placed.category, placed.yaw))


def reachable(placed: tuple[Placed, ...], obstacles: Sequence[Obstacle] = (), goals: Sequence[HandGoal] = ()) -> bool:
    """Whether the hand gets down to the target, the first object, and with the target to every goal."""
    others = [*(footprint(other) for other in placed[1:]), *obstacles]
    return all(hand_fits(goal, others) for goal in (grasp_goal(placed[0]), *goals))


def hand_fits(goal: HandGoal, others: Sequence[Obstacle]) -> bool:
    """No obstacle where the open fingers go down, none tall enough where the hand above them goes."""
    cos, sin = np.cos(goal.yaw), np.sin(goal.yaw)
    for other in others:
        offset = other.points - goal.position
        local = np.abs(np.stack([offset @ (cos, sin), offset @ (-sin, cos)], axis=1))  # (N, 2)
        zones = [FINGER_ZONE, HAND_ZONE] if other.height > goal.height + HAND_CLEARANCE else [FINGER_ZONE]
        for zone in zones:
            if np.linalg.norm(np.maximum(local - zone, 0), axis=1).min() < other.radius + GAP / 2:
                return False
    return True
