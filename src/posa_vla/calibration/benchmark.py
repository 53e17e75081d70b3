"""``posa-vla bench calibrate``: how far calibrated cameras are from the true ones, with and without a board."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import draccus
import numpy as np

from posa_vla.calibration.board import BoardCalibration, calibrate_board
from posa_vla.calibration.boards import Board, View, detect, parse_board
from posa_vla.calibration.clicks import MARKS_ARE
from posa_vla.calibration.drawing import draw
from posa_vla.calibration.intrinsics import distorted, distortion_reach
from posa_vla.calibration.simulated import SIZE, Placement, placements, recorded, show
from posa_vla.data.labelling import DatasetArgs
from posa_vla.errors import unknown_name

PARTS = ("board", "demos")
WRONG_METRES, WRONG_DEGREES = 0.05, 10.0
"""Size of a wrong pose: the arm still moved, or another row of the table."""
HELD_OUT = 100
"""Further views of the board, never used, whose exact corners are compared."""


@dataclass
class CalibrateBenchmarkConfig:
    """posa-vla bench calibrate: three cameras around a table and three on a hand, whose truth is known.

    Args:
        part: board (pictures are drawn) or demos (marks on the trajectories of a recorded dataset).
        dataset: demos: a dataset of the tabletop suite (posa-vla record).
        board: board: its description.
        pictures: board: how many.
        marks: demos: how many frames are marked.
        marks_are: demos: what the marks of a camera on the hand show, grasp or resting.
        object_sigma: demos: metres along each axis from where the gripper closes to the place that is marked instead.
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
    marks_are: str = "grasp"
    object_sigma: float = 0.0
    pose_sigma: tuple[float, float] = (0.002, 0.2)
    repeats: int = 3
    seed: int = 0
    save: Path | None = None


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=CalibrateBenchmarkConfig, args=argv)
    if config.part not in PARTS:
        raise unknown_name("part", config.part, PARTS)
    if config.marks_are not in MARKS_ARE:
        raise unknown_name("meaning of the marks", config.marks_are, MARKS_ARE)
    if config.part == "board":
        board_table(config)
    else:
        from posa_vla.calibration.demos_benchmark import demos_table

        demos_table(config)
    return 0


def board_table(config: CalibrateBenchmarkConfig) -> None:
    print(
        f"{'camera':<22}{'mount':<14}{'corners':<10}{'wrong':>6}{'used':>6}{'reprojection px (bar 1)':>25}"
        f"{'left one out mm':>17}{'degrees':>9}{'held-out px':>13}{'place mm (bar 3)':>18}{'lens px':>9}"
    )
    board = parse_board(config.board)
    for number, placement in enumerate(placements()):
        rng = np.random.default_rng([config.seed, number])
        reach = distortion_reach(placement.lens.matrix, placement.lens.distortion, SIZE)
        session = show(placement, board, config.pictures, rng)
        drawn = drawn_views(placement, board, session.cam_from_board, rng, config.save)
        poses = recorded(session.world_from_ee, *config.pose_sigma, rng)
        for said, noise, wrong in (("drawn", 0.0, 0), ("+ 1 px", 1.0, 0), ("+ 1 px", 1.0, config.pictures // 10)):
            views = [view and shaken(view, noise, rng) for view in drawn]
            result = calibrate_board(views, SIZE, misplaced(poses, wrong, rng), placement.mount)
            pixels, metres = board_truth(result, placement, board, rng)
            print(
                f"{placement.name:<22}{placement.mount:<14}{said:<10}{wrong:>6}{int(result.used.sum()):>6}"
                f"{result.reprojection:>25.2f}{1000 * np.median(result.metres):>17.1f}{np.median(result.degrees):>9.2f}"
                f"{pixels:>13.2f}{1000 * metres:>18.1f}{reach:>9.1f}",
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
    """Root mean square px of exact corners in views that were not used, and m between true and found camera.

    Seen through the found lens with its distortion, which a rig does not hold.
    """
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


__all__ = ["CalibrateBenchmarkConfig", "board_truth", "main"]
