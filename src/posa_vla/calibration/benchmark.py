"""``posa-vla bench calibrate``: how far calibrated cameras are from the true ones, with and without a board."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import draccus
import numpy as np

from posa_vla.calibration.board import BoardCalibration, calibrate_board
from posa_vla.calibration.boards import Board, View, detect, parse_board
from posa_vla.calibration.demos import DemoSetup, calibrate_demos
from posa_vla.calibration.drawing import draw
from posa_vla.calibration.intrinsics import distorted
from posa_vla.calibration.mark_command import RADIAN, farthest
from posa_vla.calibration.marks import Marks
from posa_vla.calibration.poses import EpisodePoses, read_poses
from posa_vla.calibration.simulated import SIZE, Placement, placements, recorded, show
from posa_vla.data.labelling import DatasetArgs
from posa_vla.errors import PosaError, unknown_name
from posa_vla.rigs import load_rig

PARTS = ("board", "demos")
WRONG_METRES, WRONG_DEGREES = 0.05, 10.0
"""Size of a wrong pose: the arm still moved, or another row of the table."""
HELD_OUT = 100
"""Further views of the board, never used, whose exact corners are compared."""
EPISODES, PER_EPISODE = 5, 8
"""Of a camera on the hand: one point on the table is marked in so many frames of so many episodes."""
MINIMUM_DEPTH = 0.05


@dataclass
class CalibrateBenchmarkConfig:
    """posa-vla bench calibrate: three cameras around a table and three on a hand, whose truth is known.

    Args:
        part: board (pictures are drawn) or demos (marks on the trajectories of a recorded dataset).
        dataset: demos: a dataset of the tabletop suite (posa-vla record).
        board: board: its description.
        pictures: board: how many.
        marks: demos: how many frames are marked.
        pose_sigma: errors of the recorded hand pose along each axis, metres and degrees.
        repeats: demos: draws of the noise for each camera.
        seed: of the first draw.
        save: board: folder for the first picture of each camera; None writes none.
    """

    part: str = "board"
    dataset: DatasetArgs = field(default_factory=DatasetArgs)
    board: str = "charuco:7x5:30mm:22mm:5x5_100"
    pictures: int = 30
    marks: int = 40
    pose_sigma: tuple[float, float] = (0.002, 0.2)
    repeats: int = 3
    seed: int = 0
    save: Path | None = None


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=CalibrateBenchmarkConfig, args=argv)
    if config.part not in PARTS:
        raise unknown_name("part", config.part, PARTS)
    if config.part == "board":
        board_table(config)
    else:
        demos_table(config)
    return 0


def board_table(config: CalibrateBenchmarkConfig) -> None:
    print(
        f"{'camera':<22}{'mount':<14}{'corners':<10}{'wrong':>6}{'used':>6}{'reproj. px':>12}{'left out mm':>13}"
        f"{'deg':>6}{'held-out px':>13}{'place mm':>10}{'bars':>14}"
    )
    board = parse_board(config.board)
    for number, placement in enumerate(placements()):
        rng = np.random.default_rng([config.seed, number])
        session = show(placement, board, config.pictures, rng)
        drawn = drawn_views(placement, board, session.cam_from_board, rng, config.save)
        poses = recorded(session.world_from_ee, *config.pose_sigma, rng)
        for said, noise, wrong in (("drawn", 0.0, 0), ("+ 1 px", 1.0, 0), ("+ 1 px", 1.0, config.pictures // 10)):
            views = [view and shaken(view, noise, rng) for view in drawn]
            result = calibrate_board(views, SIZE, misplaced(poses, wrong, rng), placement.mount)
            pixels, metres = board_truth(result, placement, board, rng)
            print(
                f"{placement.name:<22}{placement.mount:<14}{said:<10}{wrong:>6}{int(result.used.sum()):>6}"
                f"{result.reprojection:>12.2f}{1000 * np.median(result.metres):>13.1f}{np.median(result.degrees):>6.2f}"
                f"{pixels:>13.2f}{1000 * metres:>10.1f}{'1 px, 3 mm':>14}",
                flush=True,
            )


def drawn_views(
    placement: Placement, board: Board, cam_from_board: np.ndarray, rng: np.random.Generator, save: Path | None
) -> list[View | None]:
    """What the detector finds in pictures that are drawn with blur and grey noise."""
    rays = placement.lens.rays()
    views = []
    for number, pose in enumerate(cam_from_board):
        picture = draw(board, rays, pose, rng)
        views.append(detect(board, picture, f"{number:02}.png"))
        if save is not None and number == 0:
            import cv2

            save.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(save / f"{placement.name.replace(', ', '_').replace(' ', '_')}.png"), picture)
    return views


def shaken(view: View, pixels: float, rng: np.random.Generator) -> View:
    """Its corners moved at random by a root mean square length in pixels."""
    return replace(view, pixels=view.pixels + rng.normal(size=view.pixels.shape) * pixels / np.sqrt(2))


def misplaced(poses: np.ndarray, wrong: int, rng: np.random.Generator) -> np.ndarray:
    """Poses (V, 4, 4), some of them far off."""
    chosen = rng.choice(len(poses), wrong, replace=False)
    spoilt = poses.copy()
    spoilt[chosen] = recorded(poses[chosen], WRONG_METRES, WRONG_DEGREES, rng)
    return spoilt


def board_truth(
    result: BoardCalibration, placement: Placement, board: Board, rng: np.random.Generator
) -> tuple[float, float]:
    """Root mean square px of exact corners in views that were not used, and m between true and found camera."""
    chain, lens = result.chain, placement.lens
    mount_from_cam = np.linalg.inv(placement.cam_from_mount)
    points = np.concatenate(
        [
            board.corners() @ pose[:3, :3].T + pose[:3, 3]
            for pose in show(placement, board, HELD_OUT, rng).cam_from_board
        ]
    )
    cam_from_cam = chain.first @ mount_from_cam
    found = distorted(points @ cam_from_cam[:3, :3].T + cam_from_cam[:3, 3], chain.matrix, chain.distortion)
    errors = np.linalg.norm(found - distorted(points, lens.matrix, lens.distortion), axis=1)
    metres = np.linalg.norm(np.linalg.inv(chain.first)[:3, 3] - mount_from_cam[:3, 3])
    return float(np.sqrt((errors**2).mean())), float(metres)


def demos_table(config: CalibrateBenchmarkConfig) -> None:
    rig = load_rig("tabletop")
    exact = read_poses(config.dataset.folder(), rig)
    print(
        f"{'camera':<22}{'mount':<14}{'marks':>6}{'wrong':>6}{'trusted':>9}{'fit px':>8}{'promised px':>13}"
        f"{'held-out px':>13}{'95 %':>7}{'worst':>7}{'bar':>7}"
    )
    for number, placement in enumerate(placements()):
        for share in (0.0, 0.2):
            rows = []
            for repeat in range(config.repeats):
                rng = np.random.default_rng([config.seed + repeat, number])
                rows.append(demos_case(placement, exact, config, share, rng))
            marks, wrong, trusted, fit, promised, held_out, most, _ = np.mean(rows, axis=0)
            print(
                f"{placement.name:<22}{placement.mount:<14}{marks:>6.0f}{wrong:>6.0f}{trusted:>9.1f}{fit:>8.2f}"
                f"{promised:>13.2f}{held_out:>13.2f}{most:>7.2f}{np.max(rows, axis=0)[-1]:>7.2f}{'4 px':>7}",
                flush=True,
            )


def demos_case(
    placement: Placement, exact: EpisodePoses, config: CalibrateBenchmarkConfig, share: float, rng: np.random.Generator
) -> tuple[float, ...]:
    """Marks, wrong ones, trusted ones, px of the fit, px promised, px held out (mean, 95 %, largest)."""
    sights = list(_sights(placement, exact))
    rows, points, pixels, landmark = (np.concatenate(part) for part in zip(*sights, strict=True))
    chosen = _chosen(placement, exact, rows, landmark, config.marks)
    marked = pixels[chosen] + rng.normal(size=(len(chosen), 2))
    wrong = rng.choice(len(chosen), round(share * len(chosen)), replace=False)
    marked[wrong] = rng.uniform((0, 0), SIZE, (len(wrong), 2))
    noisy = EpisodePoses(recorded(exact.world_from_ee, *config.pose_sigma, rng), exact.episodes)
    episode = np.array([_episode(exact, row) for row in rows[chosen]])
    frame = rows[chosen] - np.array([exact.episodes[index].rows.start for index in episode])
    numbers = np.array([exact.episodes[index].number for index in episode])
    marks = Marks(numbers, frame, (marked + 0.5).clip((0, 0), SIZE), np.array([""] * len(chosen)))
    setup = DemoSetup(placement.mount, SIZE)
    if placement.mount == "end_effector":
        # The suite's hand hardly tilts, which leaves the focal length open (and is refused): it is given here.
        setup = replace(setup, height=float(points[0, 2]), focal=float(placement.lens.matrix[0, 0]))
    result = calibrate_demos(noisy, marks, setup)
    held_out = np.setdiff1d(np.arange(len(rows)), chosen)
    seen = result.estimate.camera.project(_in_mount(placement, exact, rows[held_out], points[held_out]))
    errors = np.linalg.norm(seen - pixels[held_out], axis=1)
    return (
        len(chosen),
        len(wrong),
        int(result.estimate.trusted.sum()),
        result.estimate.rms(),
        float(np.median(result.predicted)),
        float(errors.mean()),
        float(np.quantile(errors, 0.95)),
        float(errors.max()),
    )


def _sights(
    placement: Placement, exact: EpisodePoses
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each episode, what the camera sees of it: rows, points (n, 3) m in the world, exact pixels, episode number.

    A camera in the world sees the hand; one on the hand sees the place on the table above which the hand was lowest,
    until then.
    """
    for number, episode in enumerate(exact.episodes):
        rows = np.arange(episode.rows.start, episode.rows.stop)
        places = exact.world_from_ee[rows, :3, 3]
        if placement.mount == "end_effector":
            lowest = int(places[:, 2].argmin())
            rows, places = rows[:lowest], np.tile([*places[lowest, :2], 0.0], (lowest, 1))
        local = _in_mount(placement, exact, rows, places) @ placement.cam_from_mount[:3, :3].T
        local += placement.cam_from_mount[:3, 3]
        pixels = distorted(local, placement.lens.matrix, np.zeros(4)) if len(rows) else np.empty((0, 2))
        seen = (local[:, 2] > MINIMUM_DEPTH) & (pixels > 0).all(axis=1) & (pixels < SIZE).all(axis=1)
        yield rows[seen], places[seen], pixels[seen], np.full(int(seen.sum()), number)


def _in_mount(placement: Placement, exact: EpisodePoses, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) m in the world, each at its row -> the camera's mount's frame."""
    if placement.mount == "world":
        return points
    poses = exact.world_from_ee[rows]
    return np.einsum("nji,nj->ni", poses[:, :3, :3], points - poses[:, :3, 3])


def _chosen(
    placement: Placement, exact: EpisodePoses, rows: np.ndarray, landmark: np.ndarray, count: int
) -> np.ndarray:
    """Indices into ``rows``: the frames that ``posa-vla calibrate mark`` would choose among those in view."""
    poses = exact.world_from_ee[rows]
    if placement.mount == "world":
        return np.sort(farthest(poses[:, :3, 3], count))
    numbers, sizes = np.unique(landmark, return_counts=True)
    often = numbers[sizes >= 2 * PER_EPISODE]
    if len(often) < EPISODES:
        raise PosaError(f"the camera {placement.name!r} sees the table in only {len(often)} episodes: record more")
    chosen = []
    for number in often[np.linspace(0, len(often) - 1, EPISODES).astype(int)]:
        mine = np.flatnonzero(landmark == number)
        features = np.concatenate([poses[mine, :3, 3], RADIAN * poses[mine, :3, 0]], axis=1)
        chosen.append(mine[farthest(features, count // EPISODES)])
    return np.concatenate(chosen)


def _episode(exact: EpisodePoses, row: int) -> int:
    return next(index for index, item in enumerate(exact.episodes) if row < item.rows.stop)


__all__ = ["CalibrateBenchmarkConfig", "board_truth", "demos_case", "main"]
