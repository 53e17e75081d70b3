"""Focal lengths, principal point and distortion from views of a board, by cv2.calibrateCamera."""

from dataclasses import dataclass

import cv2
import numpy as np

from posa_vla.calibration.boards import View
from posa_vla.errors import PosaError

DISTORTION_SIZE = 4
"""k1, k2, p1, p2: a fifth coefficient is not determined by the views that people take."""
WORST_VIEW = 3.0
"""Views whose error is so many times the median (and above a pixel) are left out."""
FOCAL_SHARE, BEGUN_SHARE = 0.02, 0.2
"""Largest standard deviation of the focal length, as a share of it: in the end, and from the pictures alone (the known
motion of the hand still adds to it)."""

LONGEST, OBLONG = 8.0, 1.1
"""Image widths of focal length, and ratio of fx to fy, beyond which a solution has run away: its own standard
deviation is then tiny, and means nothing."""
SQUASHED_SHARE = 0.05
"""Standard deviation, as a share, below which a believable focal length has another along the other axis because the
pictures were squashed: theirs are known to 1 or 2 %, those of views from one side only to 10 % and worse."""


@dataclass(frozen=True)
class Intrinsics:
    """Args:
    matrix: (3, 3) OpenCV's K, pixels.
    distortion: (4,) k1, k2, p1, p2.
    good: (V,) the views that were used.
    tilt: degrees, the largest angle between board and picture.
    """

    matrix: np.ndarray
    distortion: np.ndarray
    good: np.ndarray
    tilt: float = 0.0

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) m in camera axes -> pixels (N, 2), distorted."""
        return distorted(points, self.matrix, self.distortion)


def distorted(points: np.ndarray, matrix: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    zero = np.zeros(3)
    return cv2.projectPoints(np.ascontiguousarray(points), zero, zero, matrix, distortion)[0][:, 0]


def estimate_intrinsics(views: list[View], size: tuple[int, int]) -> Intrinsics:
    """From all views, bad ones left out; refuses where the board was seen too frontally to begin with."""
    good = np.ones(len(views), bool)
    flags = cv2.CALIB_FIX_K3
    while True:
        used = [view for view, is_good in zip(views, good, strict=True) if is_good]
        _, matrix, distortion, turns, _, deviations, _, errors = cv2.calibrateCameraExtended(  # type: ignore[call-overload]
            [view.corners.astype(np.float32) for view in used],
            [view.pixels.astype(np.float32) for view in used],
            size, None, None, flags=flags,
        )  # fmt: skip
        bad = errors.ravel() > max(WORST_VIEW * float(np.median(errors)), 1.0)
        if not bad.any() or good.sum() - bad.sum() < 5:
            break
        good[np.flatnonzero(good)[bad]] = False
    share = float((deviations[:2, 0] / np.diag(matrix)[:2]).max())
    _check_lens(matrix, share, size)
    tilts = [np.degrees(np.arccos(min(abs(cv2.Rodrigues(turn)[0][2, 2]), 1))) for turn in turns]
    check_focal(share, max(tilts), BEGUN_SHARE)
    return Intrinsics(matrix, distortion.ravel()[:DISTORTION_SIZE], good, max(tilts))


def _check_lens(matrix: np.ndarray, share: float, size: tuple[int, int]) -> None:
    """Refuses a lens (3, 3) px that has run away, or that sees squashed pictures.

    Args:
        share: standard deviation of the focal length, as a share of it.
    """
    longest, aspect = float(np.diag(matrix)[:2].max()), float(matrix[0, 0] / matrix[1, 1])
    runs_away, is_oblong = longest > LONGEST * max(size), not 1 / OBLONG < aspect < OBLONG
    if not (runs_away or is_oblong):
        return
    lens = f"fx {matrix[0, 0]:.0f}, fy {matrix[1, 1]:.0f} px for {size[0]}x{size[1]} pictures"
    keep = "take pictures whose proportions were kept when they were resized"
    if not runs_away and share < SQUASHED_SHARE:
        raise PosaError(
            f"the pictures seem squashed: {lens}, a ratio of {aspect:.2f} where a camera has 1: {keep}, and resize the "
            "dataset's in the same way"
        )
    raise PosaError(
        f"the views leave the focal length open ({lens}): the board was seen from the front; add views tilted by 20 to "
        f"50 degrees both ways, near and far{f', and {keep}' if is_oblong else ''}"
    )


def check_focal(share: float, tilt: float, largest: float = FOCAL_SHARE) -> None:
    """Refuses a focal length that is uncertain by a share of it, where the board was seen too frontally."""
    if not share < largest:
        raise PosaError(
            f"the views leave the focal length uncertain by {share:.0%}: the board was tilted against the picture by "
            f"at most {tilt:.0f} degrees; add views tilted by 20 to 50 degrees both ways, near and far"
        )


def distortion_reach(matrix: np.ndarray, distortion: np.ndarray, size: tuple[int, int]) -> float:
    """Pixels: the farthest that the lens moves a point inside the picture against a pinhole."""
    across, down = np.meshgrid(np.linspace(0, size[0] - 1, 33), np.linspace(0, size[1] - 1, 33))
    grid = np.stack([across.ravel(), down.ravel()], axis=1)
    ideal = cv2.undistortPoints(grid[:, None], matrix, distortion, P=matrix)[:, 0]
    return float(np.linalg.norm(ideal - grid, axis=1).max())


def board_pose(view: View, intrinsics: Intrinsics) -> np.ndarray:
    """cam_from_board (4, 4) of one view."""
    _, turn, shift = cv2.solvePnP(view.corners, view.pixels, intrinsics.matrix, intrinsics.distortion)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
    return pose
