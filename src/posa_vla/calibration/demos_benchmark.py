"""``posa-vla bench calibrate --part=demos``: cameras from marks on recorded trajectories, against the true ones."""

import contextlib
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.calibration.benchmark import CalibrateBenchmarkConfig
from posa_vla.calibration.clicks import DemoSetup, in_hand
from posa_vla.calibration.closes import read_closes
from posa_vla.calibration.demos import calibrate_demos
from posa_vla.calibration.intrinsics import distorted
from posa_vla.calibration.mark_command import RADIAN, farthest, grasp_rows
from posa_vla.calibration.marks import Marks
from posa_vla.calibration.poses import EpisodePoses, read_poses
from posa_vla.calibration.simulated import SIZE, Placement, placements, recorded
from posa_vla.errors import PosaError
from posa_vla.rigs import load_rig

EPISODES, PER_EPISODE = 5, 8
"""Resting points: one on the table is marked in so many frames of so many episodes."""
MINIMUM_DEPTH = 0.05
TURNING = (20.0, 20.0, 40.0)
"""Degrees about the hand's axes by which it turns in the trajectories where resting points are marked."""
PAGE = 200
"""Frames shown at most until enough are marked; those without the place in view are skipped."""


@dataclass(frozen=True)
class Truth:
    """Exact trajectories, and the row of the close after each row (`read_closes`)."""

    poses: EpisodePoses
    closes: np.ndarray


@dataclass(frozen=True)
class Sights:
    """What a camera sees of one place per frame, in the n frames that have it in the picture.

    Args:
        rows: (n,) of the dataset.
        places: (n, 3) m, world.
        landmark: (n,) number of the episode, or row of the close.
    """

    rows: np.ndarray
    places: np.ndarray
    landmark: np.ndarray


def demos_table(config: CalibrateBenchmarkConfig) -> None:
    rig, root = load_rig("tabletop"), config.dataset.folder()
    poses = read_poses(root, rig)
    truth = Truth(poses, read_closes(root, rig, poses))
    print(
        f"{'camera':<22}{'marks are':<11}{'focal':<7}{'wrong':>6}{'refused':>9}{'shown':>7}{'marks':>7}{'trusted':>9}"
        f"{'fit px':>8}{'promised px':>13}{'held-out px (bar 4)':>21}{'95 %':>7}{'worst':>7}"
    )
    for number, placement in enumerate(placements()):
        resting = placement.mount == "end_effector" and config.marks_are == "resting"
        for given in (False, True) if resting else (False,):
            for share in (0.0, 0.2):
                _demos_row(placement, number, truth, config, share, given)


def _demos_row(
    placement: Placement, number: int, truth: Truth, config: CalibrateBenchmarkConfig, share: float, given: bool
) -> None:
    """One line: the mean over the draws that were not refused (the largest error of all), and how many were."""
    rows: list[tuple[float, ...]] = []
    for repeat in range(config.repeats):
        rng = np.random.default_rng([config.seed + repeat, number])
        with contextlib.suppress(PosaError):
            rows.append(demos_case(placement, truth, config, share, given, rng))
    shown = "hand" if placement.mount == "world" else config.marks_are
    said = f"{placement.name:<22}{shown:<11}{'given' if given else 'found':<7}{share:>6.0%}"
    said += f"{config.repeats - len(rows):>9}"
    if rows:
        shown_frames, marks, trusted, fit, promised, held_out, most, _ = np.mean(rows, axis=0)
        said += (
            f"{shown_frames:>7.0f}{marks:>7.0f}{trusted:>9.1f}{fit:>8.2f}{promised:>13.2f}{held_out:>21.2f}{most:>7.2f}"
            f"{np.max(rows, axis=0)[-1]:>7.2f}"
        )
    print(said, flush=True)


def demos_case(
    placement: Placement,
    truth: Truth,
    config: CalibrateBenchmarkConfig,
    share: float,
    given: bool,
    rng: np.random.Generator,
) -> tuple[float, ...]:
    """Frames shown, marks, trusted ones, px of the fit, px promised, px held out (mean, 95 %, largest).

    Args:
        share: of wrong marks.
        given: whether the focal length is given.
    """
    focal = float(placement.lens.matrix[0, 0]) if given else None
    setup = DemoSetup(placement.mount, SIZE, focal=focal, height=0.0, marks_are=config.marks_are)  # type: ignore[arg-type]
    if setup.resting:
        truth = Truth(turning(truth.poses, rng), truth.closes)
    exact = truth.poses
    sights = _sights(placement, truth, setup)
    chosen, shown = _chosen(exact, truth.closes, sights, setup, config.marks)
    rows, places = sights.rows[chosen], sights.places[chosen]
    if setup.grasp:  # the place on an object is misjudged by the same amount in all frames before its grasp
        places = places + (config.object_sigma * rng.normal(size=(len(truth.closes), 3)))[sights.landmark[chosen]]
    marked = _seen(placement, exact, rows, places)[0] + rng.normal(size=(len(chosen), 2))
    wrong = rng.choice(len(chosen), round(share * len(chosen)), replace=False)
    marked[wrong] = rng.uniform((0, 0), SIZE, (len(wrong), 2))
    noisy = EpisodePoses(recorded(exact.world_from_ee, *config.pose_sigma, rng), exact.episodes)
    result = calibrate_demos(noisy, _marks(exact, rows, marked), setup, truth.closes)
    rest = np.setdiff1d(np.arange(len(sights.rows)), chosen)
    points = _in_mount(placement, exact, sights.rows[rest], sights.places[rest])
    pixels = _seen(placement, exact, sights.rows[rest], sights.places[rest])[0]
    errors = np.linalg.norm(result.estimate.camera.project(points) - pixels, axis=1)
    return (
        shown,
        len(chosen),
        int(result.estimate.trusted.sum()),
        result.estimate.rms(),
        float(np.median(result.predicted)),
        float(errors.mean()),
        float(np.quantile(errors, 0.95)),
        float(errors.max()),
    )


def turning(exact: EpisodePoses, rng: np.random.Generator) -> EpisodePoses:
    """The trajectories with a hand that tilts and turns on its way: the suite's hardly does, which is refused."""
    poses = exact.world_from_ee.copy()
    for episode in exact.episodes:
        steps = np.arange(episode.rows.stop - episode.rows.start)[:, None]
        waves = np.sin(2 * np.pi * (steps / rng.uniform(20, 40, 3) + rng.uniform(size=3)))
        turns = Rotation.from_rotvec(waves * np.radians(TURNING))
        poses[episode.rows, :3, :3] = poses[episode.rows, :3, :3] @ turns.as_matrix()
    return EpisodePoses(poses, exact.episodes)


def _marks(exact: EpisodePoses, rows: np.ndarray, pixels: np.ndarray) -> Marks:
    """As the page would save them: OpenCV's pixels (N, 2) -> pixels of the stored picture, inside it."""
    episodes = [exact.episode_of(row) for row in rows]
    numbers = np.array([item.number for item in episodes])
    frames = rows - np.array([item.rows.start for item in episodes])
    return Marks(numbers, frames, (pixels + 0.5).clip((0, 0), SIZE), np.array([""] * len(rows)))


def _sights(placement: Placement, truth: Truth, setup: DemoSetup) -> Sights:
    """A camera in the world sees the hand; one on the hand the place where it will close next or, for resting points,
    the place on the table above which it was lowest, until then."""
    exact = truth.poses
    rows: np.ndarray = np.arange(len(exact.world_from_ee))
    places, landmark = exact.world_from_ee[:, :3, 3], rows
    if setup.grasp:
        rows = np.flatnonzero(truth.closes >= 0)
        landmark = truth.closes[rows]
        places = places[landmark]
    elif setup.resting:
        lowest = [e.rows.start + int(places[e.rows, 2].argmin()) for e in exact.episodes]
        rows = np.concatenate([np.arange(e.rows.start, low) for e, low in zip(exact.episodes, lowest, strict=True)])
        until = [low - e.rows.start for e, low in zip(exact.episodes, lowest, strict=True)]
        landmark = np.repeat(np.arange(len(lowest)), until)
        places = places[np.asarray(lowest)[landmark]] * (1, 1, 0)
    seen = _seen(placement, exact, rows, places)[1]
    return Sights(rows[seen], places[seen], landmark[seen])


def _seen(
    placement: Placement, exact: EpisodePoses, rows: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exact pixels (n, 2) of places (n, 3) m in the world at their rows, and which of them lie in the picture."""
    matrix = placement.cam_from_mount
    local = _in_mount(placement, exact, rows, places) @ matrix[:3, :3].T + matrix[:3, 3]
    pixels = distorted(local, placement.lens.matrix, np.zeros(4))
    return pixels, (local[:, 2] > MINIMUM_DEPTH) & (pixels > 0).all(axis=1) & (pixels < SIZE).all(axis=1)


def _in_mount(placement: Placement, exact: EpisodePoses, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places (n, 3) m in the world, each at its row -> the camera's mount's frame."""
    return places if placement.mount == "world" else in_hand(exact.world_from_ee[rows], places)


def _chosen(
    exact: EpisodePoses, closes: np.ndarray, sights: Sights, setup: DemoSetup, count: int
) -> tuple[np.ndarray, int]:
    """Indices into the sights: the frames that ``posa-vla calibrate mark`` would choose among those in view; and how
    many frames it shows until so many were marked."""
    poses = exact.world_from_ee[sights.rows]
    if setup.mount == "world":
        return np.sort(farthest(poses[:, :3, 3], count)), count
    if setup.grasp:
        page = grasp_rows(exact, closes, setup.tool, PAGE)
        in_view = np.flatnonzero(np.isin(page, sights.rows))[:count]
        return np.searchsorted(sights.rows, page[in_view]), int(in_view[-1]) + 1
    numbers, sizes = np.unique(sights.landmark, return_counts=True)
    often = numbers[sizes >= 2 * PER_EPISODE]
    if len(often) < EPISODES:
        raise PosaError(f"the camera sees the table in only {len(often)} episodes: record more")
    chosen = []
    for number in often[np.linspace(0, len(often) - 1, EPISODES).astype(int)]:
        mine = np.flatnonzero(sights.landmark == number)
        features = np.concatenate([poses[mine, :3, 3], RADIAN * poses[mine, :3, 0]], axis=1)
        chosen.append(mine[farthest(features, count // EPISODES)])
    return np.concatenate(chosen), count


__all__ = ["Truth", "demos_case", "demos_table"]
