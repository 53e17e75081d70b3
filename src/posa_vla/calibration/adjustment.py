"""Robust bundle adjustment of one camera: pose, focal length and, for a camera on the hand, the points it saw.

A camera sees known points of its mount's frame (the hand's positions, or later grasps); one on the hand may also see
unknown points that rest in the world. Both are the same problem: landmarks, carried into the mount's frame by one
matrix per sighting.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import OptimizeResult, least_squares

from posa_vla.calibration.pinhole import POSE_SIZE, Pinhole

RAYLEIGH_MEDIAN = 1.1774
"""Median length of a two-dimensional Gaussian of unit standard deviation per axis."""
CUTOFF = 3.5
"""Standard deviations (of one axis) from which a mark is taken for a mistake: 0.2 % of the good ones are lost."""
SMALLEST_CUTOFF = 1.0
"""Expected standard deviations: no mark nearer than this is called a mistake, however well the others fit."""
MARK_SIGMA, POSE_SIGMA = 1.5, 0.002
"""Pixels and metres, expected errors of a mark and of the hand's position: near the camera the latter weighs more.
Only their ratio matters to the result; what the errors really are is taken from the residuals."""
MOST_EXPECTED = 8.0
"""Of `MARK_SIGMA`: a bound on the expected error; without it, a bad guess with all points near the lens is excused."""
NEAR = 1e-3
"""Metres in front of the camera: what lies closer or behind cannot have been seen."""
ROUNDS = 20
HEIGHT_SIGMA = 0.002
"""Metres: how well the height of marked points is taken to be known where the user gives it."""
TINY = 1e-9
"""Singular values below this share of the largest leave a direction open: its variance is made huge instead."""


@dataclass(frozen=True)
class Sightings:
    """N marks of K landmarks.

    Args:
        pixels: (N, 2), OpenCV's pixels of the unflipped image.
        mount_from_frame: (N, 4, 4), the landmarks' frame -> the camera's mount at that moment.
        landmark: (N,) which landmark each mark shows.
        known: (K, 3) m the landmarks, or None where they are to be found.
        known_sigma: m along each axis, how well they are known; None: exactly. A landmark's error is the same
            in all its marks.
        height: m, known world height of all the landmarks that are to be found; None leaves it open.
    """

    pixels: np.ndarray
    mount_from_frame: np.ndarray
    landmark: np.ndarray
    known: np.ndarray | None = None
    known_sigma: float | None = None
    height: float | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def in_mount(self, landmarks: np.ndarray) -> np.ndarray:
        """(N, 3) m: each mark's landmark in the mount's frame at that moment."""
        points = landmarks[self.landmark]
        return np.einsum("nij,nj->ni", self.mount_from_frame[:, :3, :3], points) + self.mount_from_frame[:, :3, 3]

    def chosen(self, which: np.ndarray) -> "Sightings":
        return replace(
            self,
            pixels=self.pixels[which],
            mount_from_frame=self.mount_from_frame[which],
            landmark=self.landmark[which],
        )


@dataclass(frozen=True)
class Estimate:
    """A camera with what is known about its errors.

    Args:
        camera: the result.
        landmarks: (K, 3) m; those of no trusted mark are NaN.
        errors: (N, 2) px, projected minus marked, of all marks; known landmarks where they are known to be.
        trusted: (N,) the marks that were used.
        expected: (N,) px, `expected_errors` of the marks.
        scale: the last adjustment's residuals over the expected ones, degrees of freedom counted.
        covariance: (7, 7) or, with a given focal length, (6, 6): rotation (rad, camera axes), position (m,
            mount axes), log focal length.
    """

    camera: Pinhole
    landmarks: np.ndarray
    errors: np.ndarray
    trusted: np.ndarray
    expected: np.ndarray
    scale: float
    covariance: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(N,) px, sizes of the errors."""
        return np.linalg.norm(self.errors, axis=1)

    def rms(self) -> float:
        """Pixels: root mean square length of the trusted marks' errors."""
        return float(np.sqrt((self.lengths[self.trusted] ** 2).mean()))

    def projection_sigma(self, points: np.ndarray) -> np.ndarray:
        """Points (M, 3) m in the mount's frame -> (M,) px: expected length of the error of their projection."""
        jacobian = projection_jacobian(self.camera, points, len(self.covariance))
        return np.sqrt(np.einsum("mij,jk,mik->m", jacobian, self.covariance, jacobian))


def projection_jacobian(camera: Pinhole, points: np.ndarray, parameters: int) -> np.ndarray:
    """Central differences of projected pixels by the camera's parameters, (M, 2, parameters)."""
    columns = []
    for index in range(parameters):
        step = np.zeros(parameters)
        step[index] = 1e-6
        columns.append((camera.moved(step).project(points) - camera.moved(-step).project(points)) / 2e-6)
    return np.stack(columns, axis=-1)


def fit(start: Pinhole, landmarks: np.ndarray, sightings: Sightings, focal_known: bool = False) -> Estimate:
    """Refines, tells mistakes from noise by their size, and repeats until the same marks are trusted.

    Which marks to trust is judged with known landmarks where they are known to be: one that may move would follow a
    lone wrong mark. The last adjustment then lets them move.
    """
    held = replace(sightings, known_sigma=None)
    trusted = trust(start, landmarks, sightings)
    camera = start
    for _ in range(ROUNDS):
        camera, landmarks, _ = adjust(camera, landmarks, held, trusted, focal_known, "soft_l1")
        before, trusted = trusted, trust(camera, landmarks, sightings)
        if np.array_equal(before, trusted):
            break
    camera, landmarks, solution = adjust(camera, landmarks, sightings, trusted, focal_known, "linear")
    points = sightings.in_mount(np.nan_to_num(landmarks) if sightings.known is None else sightings.known)
    errors, expected = camera.project(points) - sightings.pixels, expected_errors(camera, points)
    freedom = max(solution.jac.shape[0] - solution.jac.shape[1], 1)
    scale = float(np.sqrt((solution.fun**2).sum() / freedom))
    size = POSE_SIZE + (not focal_known)
    covariance = scale**2 * inverse_normal(solution.jac)[:size, :size]
    return Estimate(camera, landmarks, errors, trusted, expected, scale, covariance)


def expected_errors(camera: Pinhole, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) m in the mount's frame -> (N,) px: what mark and pose noise lead one to expect, along one axis."""
    depth = np.maximum(camera.in_camera(points)[:, 2], NEAR)
    return np.hypot(MARK_SIGMA, np.minimum(camera.focal * POSE_SIGMA / depth, MOST_EXPECTED * MARK_SIGMA))


def trust(camera: Pinhole, landmarks: np.ndarray, sightings: Sightings) -> np.ndarray:
    """(N,) the marks whose error is no larger than noise explains; a lone mark of a landmark is never trusted."""
    points = sightings.in_mount(np.nan_to_num(landmarks))
    lengths = np.linalg.norm(camera.project(points) - sightings.pixels, axis=1)
    lengths /= expected_errors(camera, points)
    sigma = float(np.median(lengths)) / RAYLEIGH_MEDIAN
    trusted = (lengths < max(CUTOFF * sigma, SMALLEST_CUTOFF)) & (camera.in_camera(points)[:, 2] > NEAR)
    if sightings.known is None:
        counts = np.bincount(sightings.landmark[trusted], minlength=len(landmarks))
        trusted &= counts[sightings.landmark] >= 2
    return trusted


def adjust(
    camera: Pinhole,
    landmarks: np.ndarray,
    sightings: Sightings,
    trusted: np.ndarray,
    focal_known: bool,
    loss: str,
    steps: int = 200,
) -> tuple[Pinhole, np.ndarray, OptimizeResult]:
    """Least squares over the trusted marks: camera, landmarks (unknown ones without a mark NaN), and SciPy's result.

    Its Jacobian's first columns are the camera's 7 (or 6) parameters, then 3 for each landmark in use.
    """
    used = sightings.chosen(trusted)
    size = POSE_SIZE + (not focal_known)
    is_free = sightings.known is None or sightings.known_sigma is not None
    free = np.unique(used.landmark) if is_free else np.empty(0, int)
    base = np.nan_to_num(landmarks)
    expected = expected_errors(camera, used.in_mount(base))[:, None]

    def unpack(x: np.ndarray) -> tuple[Pinhole, np.ndarray]:
        moved = base.copy()
        moved[free] += x[size:].reshape(-1, 3)
        return camera.moved(x[:size]), moved

    def residuals(x: np.ndarray) -> np.ndarray:
        moved, points = unpack(x)
        errors = ((moved.project(used.in_mount(points)) - used.pixels) / expected).ravel()
        if sightings.known is not None and sightings.known_sigma is not None:
            shifts = (points[free] - sightings.known[free]) / sightings.known_sigma
            return np.concatenate([errors, shifts.ravel()])
        if sightings.height is None:
            return errors
        return np.concatenate([errors, (points[free, 2] - sightings.height) / HEIGHT_SIGMA])

    solution = least_squares(residuals, np.zeros(size + 3 * len(free)), loss=loss, x_scale="jac", max_nfev=steps)
    camera, landmarks = unpack(solution.x)
    if sightings.known is None:
        landmarks[np.setdiff1d(np.arange(len(landmarks)), free)] = np.nan
    return camera, landmarks, solution


def inverse_normal(jacobian: np.ndarray) -> np.ndarray:
    """(JᵀJ)⁻¹, with an enormous variance along directions that the marks leave open."""
    scale = np.maximum(np.linalg.norm(jacobian, axis=0), 1e-12)
    _, values, rows = np.linalg.svd(jacobian / scale, full_matrices=False)
    inverse = rows.T / np.maximum(values, TINY * values[0]) / scale[:, None]
    return inverse @ inverse.T
