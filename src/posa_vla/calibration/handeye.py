"""Hand–eye calibration: cam_from_board = X · A · Y in every view, for cameras in the world and on the hand alike.

A camera in the world sees a board on the hand: X = cam_from_world, A = world_from_ee, Y = ee_from_board. A camera
on the hand sees a board in the world: X = cam_from_ee, A = ee_from_world, Y = world_from_board. In both, X is the
rig's cam_from_mount. OpenCV's solvers give a start; then everything is adjusted together.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from posa_vla.anchors.pose import homogeneous
from posa_vla.calibration.adjustment import inverse_normal
from posa_vla.calibration.boards import View
from posa_vla.calibration.intrinsics import DISTORTION_SIZE, Intrinsics, board_pose, distorted
from posa_vla.errors import PosaError

SUBSET, SUBSETS = 6, 30
"""Views of a draw and draws: one wrong pose spoils a linear solution."""
PIXEL_SIGMA = 0.5
"""Expected error of a detected corner, pixels."""
OUTLYING = 3.0
"""A view is wrong when its pose must be corrected by so many times the usual (at least the expected) amount."""
EXPECTED_LENGTH = 2.3
"""Median length of a six-dimensional Gaussian of unit standard deviations."""
INTRINSIC = 4 + DISTORTION_SIZE
SHARED = INTRINSIC + 12


@dataclass(frozen=True)
class PoseNoise:
    """Expected errors of a recorded hand pose, one standard deviation along one axis.

    Args:
        metres: of the position.
        radians: of the rotation.
    """

    metres: float = 0.002
    radians: float = float(np.radians(0.3))


@dataclass(frozen=True)
class Chain:
    """One state of the calibration.

    Args:
        matrix: (3, 3) K.
        distortion: (4,).
        first: X, cam_from_mount (4, 4).
        last: Y (4, 4).
        corrections: (V, 6) rotation (rad) and translation (m) in the hand's frame that each recorded pose lacked.
    """

    matrix: np.ndarray
    distortion: np.ndarray
    first: np.ndarray
    last: np.ndarray
    corrections: np.ndarray

    def moved(self, step: np.ndarray) -> "Chain":
        """After a step of fx, fy, cx, cy (px), distortion, X (rotation, position of the camera), Y, corrections."""
        matrix = self.matrix.copy()
        matrix[[0, 1, 0, 1], [0, 1, 2, 2]] += step[:4]
        turn = _pose(step[INTRINSIC : INTRINSIC + 3])
        first = turn @ self.first @ _pose(shift=-step[INTRINSIC + 3 : INTRINSIC + 6])
        last = self.last @ _pose(step[INTRINSIC + 6 : INTRINSIC + 9], step[INTRINSIC + 9 : SHARED])
        corrections = self.corrections + step[SHARED:].reshape(-1, 6)
        return Chain(matrix, self.distortion + step[4:INTRINSIC], first, last, corrections)


@dataclass(frozen=True)
class Views:
    """V views of a board with the recorded poses.

    Args:
        views: corners and pixels.
        middle: A (V, 4, 4): world_from_ee for a camera in the world, ee_from_world for one on the hand.
        on_hand: which of the two.
        noise: of the recorded poses.
    """

    views: list[View]
    middle: np.ndarray
    on_hand: bool
    noise: PoseNoise

    def chosen(self, which: np.ndarray) -> "Views":
        views = [view for view, keep in zip(self.views, which, strict=True) if keep]
        return replace(self, views=views, middle=self.middle[which])

    def board_poses(self, chain: Chain) -> np.ndarray:
        """cam_from_board (V, 4, 4) with the corrected hand poses."""
        corrections = _poses(chain.corrections)
        middle = corrections @ self.middle if self.on_hand else self.middle @ corrections
        return chain.first @ middle @ chain.last


def start(data: Views, intrinsics: Intrinsics) -> Chain:
    """The best of OpenCV's linear solutions over subsets of the views."""
    seen = np.stack([board_pose(view, intrinsics) for view in data.views])
    rng = np.random.default_rng(0)
    count = len(data.views)
    best: tuple[float, Chain] | None = None
    for draw in range(SUBSETS):
        chosen = np.arange(count) if draw == 0 else rng.choice(count, min(SUBSET, count), replace=False)
        for first, last in _linear(seen[chosen], data.middle[chosen]):
            chain = Chain(intrinsics.matrix, intrinsics.distortion, first, last, np.zeros((count, 6)))
            metres, degrees = pose_errors(data, chain, seen)
            cost = float(np.median(metres / data.noise.metres + np.radians(degrees) / data.noise.radians))
            if best is None or cost < best[0]:
                best = cost, chain
    if best is None:
        raise PosaError("no camera explains the board's motion: check that pictures and poses belong together")
    return best[1]


def _linear(seen: np.ndarray, middle: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(X, Y) by OpenCV's simultaneous and separate solvers; what is no rotation, from degenerate draws, is left out."""
    found = []
    inverse = np.linalg.inv(middle)
    parts = (seen[:, :3, :3], seen[:, :3, 3], middle[:, :3, :3], middle[:, :3, 3])
    for method in (cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH, cv2.CALIB_ROBOT_WORLD_HAND_EYE_LI):
        try:
            turn_y, shift_y, turn_x, shift_x = cv2.calibrateRobotWorldHandEye(
                list(parts[0]), list(parts[1]), list(parts[2]), list(parts[3]), method=method
            )
        except cv2.error:
            continue
        if _is_rotation(turn_x) and _is_rotation(turn_y):
            found.append((_matrix(turn_x, shift_x), np.linalg.inv(_matrix(turn_y, shift_y))))
    for method in (cv2.CALIB_HAND_EYE_PARK, cv2.CALIB_HAND_EYE_DANIILIDIS):
        try:
            turn, shift = cv2.calibrateHandEye(
                list(inverse[:, :3, :3]), list(inverse[:, :3, 3]), list(parts[0]), list(parts[1]), method=method
            )
        except cv2.error:
            continue
        if _is_rotation(turn):
            lasts = inverse @ _matrix(turn, shift) @ seen
            mean = Rotation.from_matrix(lasts[:, :3, :3]).mean().as_matrix()
            found.append((np.linalg.inv(_matrix(turn, shift)), homogeneous(mean, np.median(lasts[:, :3, 3], axis=0))))
    return found


def _is_rotation(matrix: np.ndarray) -> bool:
    rigid = np.isfinite(matrix).all() and np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-4)
    return bool(rigid and np.linalg.det(matrix) > 0)


def adjust(chain: Chain, data: Views) -> tuple[Chain, np.ndarray, np.ndarray]:
    """Everything by reprojection, hand poses held by their expected noise: chain, residuals and their Jacobian.

    Residuals (R,) are errors over expected ones, robustly weighted; the Jacobian (R, SHARED + 6 V) is weighted alike.
    """
    problem = Problem(chain, data)
    zero = np.zeros(SHARED + 6 * len(data.views))
    solution = least_squares(
        problem.residuals, zero, problem.jacobian, loss="soft_l1", x_scale="jac", ftol=1e-6, xtol=1e-7, max_nfev=60
    )
    found = problem.state(solution.x)
    problem = Problem(found, data)
    residuals = problem.residuals(zero)
    weights = (1 + residuals**2) ** -0.25  # soft_l1's, square roots
    return found, weights * residuals, weights[:, None] * problem.jacobian(zero)


class Problem:
    """Residuals of a `Chain` moved by steps (SHARED + 6 V,): errors of corners, then corrections, over their noise."""

    def __init__(self, chain: Chain, data: Views) -> None:
        self.chain, self.data = chain, data
        self.corners = np.concatenate([view.corners for view in data.views])
        self.pixels = np.concatenate([view.pixels for view in data.views])
        self.owner = np.repeat(np.arange(len(data.views)), [len(view.corners) for view in data.views])
        self.owner_of_row = np.concatenate([np.repeat(self.owner, 2), np.repeat(np.arange(len(data.views)), 6)])
        self.prior = np.array([data.noise.radians] * 3 + [data.noise.metres] * 3)

    def state(self, x: np.ndarray) -> Chain:
        return self.chain.moved(x)

    def residuals(self, x: np.ndarray) -> np.ndarray:
        moved = self.state(x)
        poses = self.data.board_poses(moved)[self.owner]
        points = np.einsum("nij,nj->ni", poses[:, :3, :3], self.corners) + poses[:, :3, 3]
        points[:, 2] = np.maximum(points[:, 2], 1e-3)
        errors = (distorted(points, moved.matrix, moved.distortion) - self.pixels) / PIXEL_SIGMA
        return np.concatenate([errors.ravel(), (moved.corrections / self.prior).ravel()])

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """By forward differences; all views' corrections are moved at once, each acts on its own view only."""
        base = self.residuals(x)
        matrix = np.zeros((len(base), len(x)))
        for column in range(SHARED):
            step = np.zeros(len(x))
            step[column] = _STEPS[column]
            matrix[:, column] = (self.residuals(x + step) - base) / step[column]
        for part in range(6):
            step = np.zeros(len(x))
            step[SHARED + part :: 6] = 1e-6
            change = (self.residuals(x + step) - base) / 1e-6
            matrix[np.arange(len(base)), SHARED + 6 * self.owner_of_row + part] = change
        return matrix


_STEPS = np.array([1e-3] * 4 + [1e-6] * DISTORTION_SIZE + [1e-6] * 12)


def outlying(chain: Chain, noise: PoseNoise) -> np.ndarray:
    """(V,) views whose recorded pose cannot be right."""
    scaled = chain.corrections / ([noise.radians] * 3 + [noise.metres] * 3)
    lengths = np.linalg.norm(scaled, axis=1)
    return lengths > OUTLYING * max(float(np.median(lengths)), EXPECTED_LENGTH / 2)


def pose_errors(data: Views, chain: Chain, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V,) m and (V,) degrees between cam_from_board as recorded poses predict it and as seen (V, 4, 4).

    The distance is the board centre's.
    """
    predicted = chain.first @ data.middle @ chain.last
    centre = np.mean([view.corners.mean(axis=0) for view in data.views], axis=0)
    ours, theirs = (poses[:, :3, :3] @ centre + poses[:, :3, 3] for poses in (predicted, seen))
    turns = Rotation.from_matrix(np.swapaxes(predicted[:, :3, :3], 1, 2) @ seen[:, :3, :3])
    return np.linalg.norm(ours - theirs, axis=1), np.degrees(turns.magnitude())


def board_scale(chain: Chain, data: Views, seen: np.ndarray) -> tuple[float, float]:
    """How many times as large as described the hand's own motion makes the board, and one standard deviation.

    cam_from_board as seen (V, 4, 4) is right but for its length: scale · seen = X A Y, which is linear in the scale and
    the translations of X and Y once the rotations are known.
    """
    turn = chain.first[:3, :3] @ data.middle[:, :3, :3]
    design = np.concatenate([seen[:, :3, 3:], -turn, np.broadcast_to(-np.eye(3), turn.shape)], axis=2).reshape(-1, 7)
    target = (data.middle[:, :3, 3] @ chain.first[:3, :3].T).ravel()
    found = np.linalg.lstsq(design, target, rcond=None)[0]
    variance = ((design @ found - target) ** 2).sum() / max(len(target) - len(found), 1)
    return float(found[0]), float(np.sqrt(variance * inverse_normal(design)[0, 0]))


def _matrix(turn: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return homogeneous(np.asarray(turn), np.asarray(shift).ravel())


def _pose(turn: np.ndarray | None = None, shift: np.ndarray | None = None) -> np.ndarray:
    zero = np.zeros(3)
    return _poses(np.concatenate([zero if turn is None else turn, zero if shift is None else shift])[None])[0]


def _poses(steps: np.ndarray) -> np.ndarray:
    """(V, 6) rotation vectors and translations -> (V, 4, 4)."""
    return homogeneous(Rotation.from_rotvec(steps[:, :3]).as_matrix(), steps[:, 3:])
