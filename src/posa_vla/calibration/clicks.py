"""What marks mean: which place of the world, or of the hand, each of them shows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from posa_vla.anchors.camera import Mount
from posa_vla.calibration.adjustment import Sightings
from posa_vla.calibration.marks import Marks
from posa_vla.calibration.poses import EpisodePoses
from posa_vla.errors import PosaError

MarksAre = Literal["grasp", "resting"]
GRASP_SIGMA = 0.004
"""Metres along each axis from where a grasp is recorded to what was marked: of the pose, and of the eye."""
MARKS_ARE: tuple[MarksAre, ...] = ("grasp", "resting")


@dataclass(frozen=True)
class DemoSetup:
    """What is known about the camera beforehand.

    Args:
        mount: world or end_effector.
        size: (width, height) of the stored pictures, pixels.
        flips: (horizontal, vertical): the stored picture is mirrored.
        focal: pixels, or None to estimate it.
        principal: OpenCV pixels of the unflipped image, or None for its centre.
        tool: (3,) m in the EE frame, the rig's: the point between the fingertips, which labels project.
        height: m, known world height of the resting points.
        shared: equal names of resting points mean the same place in all episodes.
        marks_are: of a camera on the hand: grasp (where the gripper will close next) or resting (a point of unknown
            place that rests in the world).
    """

    mount: Mount
    size: tuple[int, int]
    flips: tuple[bool, bool] = (False, False)
    focal: float | None = None
    principal: tuple[float, float] | None = None
    tool: tuple[float, ...] = (0.0, 0.0, 0.0)
    height: float | None = None
    shared: bool = False
    marks_are: MarksAre = "grasp"

    @property
    def resting(self) -> bool:
        """Whether the marked places are unknown and have to be found with the camera."""
        return self.mount == "end_effector" and self.marks_are == "resting"

    @property
    def grasp(self) -> bool:
        return self.mount == "end_effector" and self.marks_are == "grasp"


@dataclass(frozen=True)
class Clicks:
    """N marks with the poses that say what they show.

    Args:
        pixels: (N, 2), OpenCV's pixels of the unflipped image.
        world_from_ee: (N, 4, 4) when the picture was taken.
        at_place: (N, 4, 4) world_from_ee when the fingertips are at the marked place: the same pose where the hand is
            marked, that of the close where a grasp is; None for resting points.
        landmark: (N,) number of the resting point, or of the grasp.
    """

    pixels: np.ndarray
    world_from_ee: np.ndarray
    at_place: np.ndarray | None
    landmark: np.ndarray

    def with_poses(self, change: Callable[[np.ndarray], np.ndarray]) -> "Clicks":
        """The same marks with all poses (N, 4, 4) changed."""
        at_place = None if self.at_place is None else change(self.at_place)
        return replace(self, world_from_ee=change(self.world_from_ee), at_place=at_place)

    def points(self, setup: DemoSetup) -> np.ndarray:
        """(N, 3) m in the mount's frame: the marked places, where they are known."""
        if self.at_place is None:
            raise ValueError("the places of resting points are not known")
        places = fingertips(self.at_place, setup.tool)
        return places if setup.mount == "world" else in_hand(self.world_from_ee, places)

    def sightings(self, setup: DemoSetup) -> Sightings:
        """For the adjustment: points in the world seen from the hand, or points of the hand seen from the world."""
        if setup.mount == "end_effector":
            ee_from_world = np.linalg.inv(self.world_from_ee)
            if self.at_place is None:
                return Sightings(self.pixels, ee_from_world, self.landmark, height=setup.height)
            _, first, landmark = np.unique(self.landmark, return_index=True, return_inverse=True)
            grasps = fingertips(self.at_place[first], setup.tool)
            return Sightings(self.pixels, ee_from_world, landmark, grasps, GRASP_SIGMA)
        frames = np.broadcast_to(np.eye(4), self.world_from_ee.shape)
        return Sightings(self.pixels, frames, np.arange(len(self.pixels)), self.points(setup))


def clicks_of(poses: EpisodePoses, marks: Marks, setup: DemoSetup, closes: np.ndarray | None, lag: int = 0) -> Clicks:
    """Marks with their poses.

    Args:
        closes: (all rows,) of `read_closes`; needed where the marks are grasps.
        lag: frames by which later poses of the same episode are taken for the pictures.

    Raises:
        PosaError: a mark of a grasp has no grasp after it.
    """
    rows, pixels = marks.rows(poses), marks.unflipped(setup.size, setup.flips)
    world_from_ee = _later(poses, rows, lag)
    if setup.mount == "world":
        return Clicks(pixels, world_from_ee, world_from_ee, rows)
    if setup.resting:
        return Clicks(pixels, world_from_ee, None, _landmark_numbers(marks, setup.shared))
    if closes is None:
        raise ValueError("marks of grasps need the rows at which the gripper closes")
    _check_grasps(marks, closes[rows])
    return Clicks(pixels, world_from_ee, poses.world_from_ee[closes[rows]], closes[rows])


def fingertips(world_from_ee: np.ndarray, tool: tuple[float, ...]) -> np.ndarray:
    """Poses (N, 4, 4) -> (N, 3) m, world: the point between the fingertips, which labels project."""
    return world_from_ee[:, :3, :3] @ np.asarray(tool, dtype=np.float64) + world_from_ee[:, :3, 3]


def in_hand(world_from_ee: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) m in the world -> the frame of the hand, each at its pose (N, 4, 4)."""
    return np.einsum("nji,nj->ni", world_from_ee[:, :3, :3], points - world_from_ee[:, :3, 3])


def _later(poses: EpisodePoses, rows: np.ndarray, lag: int) -> np.ndarray:
    """world_from_ee (N, 4, 4) of ``lag`` frames later, within the same episode."""
    first, last = poses.bounds()
    return poses.world_from_ee[np.clip(rows + lag, first[rows], last[rows])]


def _landmark_numbers(marks: Marks, shared: bool) -> np.ndarray:
    """(N,) number of the resting point that each mark shows."""
    names = [name if shared else f"{episode}/{name}" for episode, name in zip(marks.episode, marks.point, strict=True)]
    return np.unique(names, return_inverse=True)[1]


def _check_grasps(marks: Marks, closes: np.ndarray) -> None:
    if (marks.point != "").any():
        raise PosaError(
            "the marks name points, as marks of resting points do: give --marks_are=resting, or mark where the gripper "
            "will close and leave the column point out"
        )
    if (closes < 0).any():
        first = int(np.argmax(closes < 0))
        raise PosaError(
            f"the mark in episode {marks.episode[first]}, frame {marks.frame[first]} is not followed by a close of the "
            f"gripper on something ({int((closes < 0).sum())} marks in all): mark frames before a grasp, which "
            "`posa-vla calibrate mark` chooses"
        )
