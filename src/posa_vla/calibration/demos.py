"""A camera from marked demonstrations: fitted, doubted, and refused with the reason where the marks do not say."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.anchors.camera import Mount
from posa_vla.calibration.adjustment import Estimate, Sightings, fit
from posa_vla.calibration.fixed import fit_fixed
from posa_vla.calibration.hand import fit_hand
from posa_vla.calibration.marks import Marks
from posa_vla.calibration.poses import EpisodePoses, rotation_spread
from posa_vla.calibration.tool import ToolHint, find_tool
from posa_vla.errors import PosaError

FEWEST_MARKS = 10
SPARE_EQUATIONS = 8
"""Two equations a mark, less the unknowns: fewer to spare, and no mistake among the marks would be noticed."""
AGREEING = 0.6
"""Share of the marks that a believable camera explains; up to a third may be mistakes."""
WORST_FIT, WORST_PREDICTION = 0.02, 0.02
"""Of the image's longer side: root mean square error of the trusted marks; and the expected error of projecting
points of the workspace (95th percentile), beyond which the marks do not determine the camera."""
LEAST_SPREAD = 10.0
"""Millimetres across the line that the marked places lie along; the hand's positions are known to some 2 mm."""
FARTHEST, LONGEST = 10.0, 8.0
"""Metres from the robot, and image widths of focal length: beyond, the camera is a parallel projection that fits
something wrong, such as a mirrored picture."""
MIRROR_GAIN = 0.6
"""A mirrored picture is suspected where undoing it brings the error below this share."""
LAGS = (-3, -2, -1, 1, 2, 3)
LAG_GAIN = 0.75
"""A shift in time is reported when it brings the error below this share."""
SAMPLES = 1000


@dataclass(frozen=True)
class DemoSetup:
    """What is known about the camera beforehand.

    Args:
        mount: world or end_effector.
        size: (width, height) of the stored pictures, pixels.
        flips: (horizontal, vertical): the stored picture is mirrored.
        focal: pixels, or None to estimate it.
        principal: OpenCV pixels of the unflipped image, or None for its centre.
        tool: (3,) m in the EE frame, the rig's: the place on the hand that was marked, and that labels project.
        height: m, known world height of the points marked (hand cameras).
        shared: equal point names mean the same place in all episodes (hand cameras).
    """

    mount: Mount
    size: tuple[int, int]
    flips: tuple[bool, bool] = (False, False)
    focal: float | None = None
    principal: tuple[float, float] | None = None
    tool: tuple[float, ...] = (0.0, 0.0, 0.0)
    height: float | None = None
    shared: bool = False


@dataclass(frozen=True)
class DemoCalibration:
    """Args:
    estimate: camera, errors of all marks, covariance.
    predicted: (M,) px, expected error of projecting points of the workspace.
    lag: frames by which poses taken earlier (< 0) or later (> 0) fit clearly better; 0 where none does.
    lag_gain: error with the lag over error without.
    tool: where on the hand the marks fit far better, with the reading of the rotations (or "") that it takes.
    """

    estimate: Estimate
    predicted: np.ndarray
    lag: int
    lag_gain: float
    tool: tuple[ToolHint, str] | None = None


def calibrate_demos(poses: EpisodePoses, marks: Marks, setup: DemoSetup) -> DemoCalibration:
    """The camera of marked frames, or a `PosaError` that says why there is none."""
    rows = marks.rows(poses)
    pixels = marks.unflipped(setup.size, setup.flips)
    landmark = landmark_numbers(marks, setup.shared)
    check_counts(marks, landmark, setup)
    check_spread(poses.world_from_ee[rows], setup)
    estimate = solve(poses.world_from_ee[rows], pixels, landmark, setup)
    if not believable(estimate, setup.size):
        raise PosaError(_misfit(estimate, poses, rows, pixels, landmark, setup))
    assert estimate is not None
    check_mirror(estimate, poses.world_from_ee[rows], pixels, landmark, setup)
    predicted = estimate.projection_sigma(workspace(poses, setup, estimate))
    if np.quantile(predicted, 0.95) > WORST_PREDICTION * max(setup.size):
        raise PosaError(_undetermined(estimate, predicted, poses.world_from_ee[rows], setup))
    lag, gain = find_lag(estimate, poses, rows, pixels, landmark, setup)
    return DemoCalibration(
        estimate, predicted, lag, gain, _other_tool(estimate, poses.world_from_ee[rows], pixels, setup)
    )


def _other_tool(
    estimate: Estimate, world_from_ee: np.ndarray, pixels: np.ndarray, setup: DemoSetup
) -> tuple[ToolHint, str] | None:
    """A fixed camera fits a flange pose tolerably and any order of the quaternion; better with the tool it lacks."""
    if setup.mount != "world":
        return None
    orders = [(cause, poses) for cause, poses, _ in _suspicions(world_from_ee, pixels, setup) if "order" in cause]
    for cause, poses in [("", world_from_ee), *orders]:
        hint = find_tool(poses, pixels, estimate, np.asarray(setup.tool, dtype=float), setup.focal is not None)
        if hint is not None:
            return hint, cause
    return None


def landmark_numbers(marks: Marks, shared: bool) -> np.ndarray:
    """(N,) number of the resting point that each mark shows."""
    names = [name if shared else f"{episode}/{name}" for episode, name in zip(marks.episode, marks.point, strict=True)]
    return np.unique(names, return_inverse=True)[1]


def check_counts(marks: Marks, landmark: np.ndarray, setup: DemoSetup) -> None:
    if len(marks) < FEWEST_MARKS:
        raise PosaError(
            f"expected at least {FEWEST_MARKS} marks, better 40, spread over the workspace, got {len(marks)}: mark more"
        )
    if setup.mount == "end_effector":
        counts = np.bincount(landmark)
        unknown = 6 + (setup.focal is None) + (3 if setup.height is None else 2) * len(counts)
        if 2 * len(marks) < unknown + SPARE_EQUATIONS or counts.max() < 3:
            raise PosaError(
                f"{len(marks)} marks of {len(counts)} different points are too few to find the points and the camera: "
                "mark each resting point in at least six frames of its episode"
            )


def check_spread(world_from_ee: np.ndarray, setup: DemoSetup) -> None:
    """Places of the hand on one line leave the camera's turning about that line open."""
    spread = _spread(marked_points(world_from_ee, setup))
    if setup.mount == "world" and spread[1] < LEAST_SPREAD:
        raise PosaError(
            f"the marked places of the hand lie on a line (spread {spread[0]:.0f}, {spread[1]:.0f} and "
            f"{spread[2]:.0f} mm along their principal directions), which does not determine a camera: mark frames all "
            "over the workspace"
        )


def _spread(points: np.ndarray) -> np.ndarray:
    """(3,) mm: root mean square distances of points (N, 3) m along their principal directions, largest first."""
    return np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / np.sqrt(len(points)) * 1000


def solve(world_from_ee: np.ndarray, pixels: np.ndarray, landmark: np.ndarray, setup: DemoSetup) -> Estimate | None:
    if setup.mount == "world":
        points = marked_points(world_from_ee, setup)
        return fit_fixed(points, pixels, setup.size, setup.focal, setup.principal)
    return fit_hand(world_from_ee, pixels, landmark, setup.size, setup.focal, setup.principal, setup.height)


def marked_points(world_from_ee: np.ndarray, setup: DemoSetup) -> np.ndarray:
    """(N, 3) m, world: the place on the hand that marks of a fixed camera show and labels project."""
    return world_from_ee[:, :3, :3] @ np.asarray(setup.tool) + world_from_ee[:, :3, 3]


def believable(estimate: Estimate | None, size: tuple[int, int]) -> bool:
    if estimate is None:
        return False
    near = np.linalg.norm(estimate.camera.position) <= FARTHEST and estimate.camera.focal <= LONGEST * max(size)
    return bool(near and estimate.trusted.mean() >= AGREEING and estimate.rms() <= WORST_FIT * max(size))


def check_mirror(
    estimate: Estimate, world_from_ee: np.ndarray, pixels: np.ndarray, landmark: np.ndarray, setup: DemoSetup
) -> None:
    """Seen from afar a scene and its mirror image nearly look alike: the better fit says which it is."""
    cause, _, mirrored = _suspicions(world_from_ee, pixels, setup)[0]
    other = solve(world_from_ee, mirrored, landmark, setup)
    if believable(other, setup.size):
        assert other is not None
        errors = [float(np.median(item.lengths)) for item in (estimate, other)]
        if errors[1] < MIRROR_GAIN * errors[0]:
            raise PosaError(f"the marks fit to {errors[0]:.1f} px, but to {errors[1]:.1f} px {cause}")


def workspace(poses: EpisodePoses, setup: DemoSetup, estimate: Estimate) -> np.ndarray:
    """(M, 3) m in the mount's frame: what labelling will project. Positions of the hand, for a camera on the hand
    seen from earlier frames of the same episode, as far as they come into view."""
    rng = np.random.default_rng(0)
    rows = rng.choice(len(poses.world_from_ee), min(SAMPLES, len(poses.world_from_ee)), replace=False)
    if setup.mount == "world":
        return marked_points(poses.world_from_ee[rows], setup)
    last = np.zeros(len(poses.world_from_ee), int)
    for episode in poses.episodes:
        last[episode.rows] = episode.rows.stop - 1
    later = rng.integers(rows, last[rows] + 1)
    ee_from_world = np.linalg.inv(poses.world_from_ee[rows])
    places = marked_points(poses.world_from_ee[later], setup)
    points = np.einsum("nij,nj->ni", ee_from_world[:, :3, :3], places) + ee_from_world[:, :3, 3]
    pixels = estimate.camera.project(points)
    depth = estimate.camera.in_camera(points)[:, 2]
    seen = (depth > 0.05) & (pixels > 0).all(axis=1) & (pixels < setup.size).all(axis=1)
    return points[seen] if seen.any() else points


def find_lag(
    estimate: Estimate,
    poses: EpisodePoses,
    rows: np.ndarray,
    pixels: np.ndarray,
    landmark: np.ndarray,
    setup: DemoSetup,
) -> tuple[int, float]:
    """Whether poses of a few frames earlier or later fit the marks clearly better: a recorder out of step."""
    reference = float(np.median(estimate.lengths / estimate.expected))
    best, gain = 0, 1.0
    for lag in LAGS:
        sightings = sightings_of(_shifted(poses, rows, lag), pixels, landmark, setup)
        other = fit(estimate.camera, estimate.landmarks if sightings.known is None else sightings.known, sightings)
        ratio = float(np.median(other.lengths / other.expected)) / max(reference, 1e-9)
        if ratio < min(gain, LAG_GAIN):
            best, gain = lag, ratio
    return best, gain


def _shifted(poses: EpisodePoses, rows: np.ndarray, lag: int) -> np.ndarray:
    """world_from_ee (N, 4, 4) of ``lag`` frames later, within the same episode."""
    first, last = np.zeros(len(poses.world_from_ee), int), np.zeros(len(poses.world_from_ee), int)
    for episode in poses.episodes:
        first[episode.rows], last[episode.rows] = episode.rows.start, episode.rows.stop - 1
    return poses.world_from_ee[np.clip(rows + lag, first[rows], last[rows])]


def sightings_of(world_from_ee: np.ndarray, pixels: np.ndarray, landmark: np.ndarray, setup: DemoSetup) -> Sightings:
    if setup.mount == "world":
        points = marked_points(world_from_ee, setup)
        return Sightings(pixels, np.broadcast_to(np.eye(4), world_from_ee.shape), np.arange(len(pixels)), points)
    return Sightings(pixels, np.linalg.inv(world_from_ee), landmark, None, setup.height)


def _misfit(
    estimate: Estimate | None,
    poses: EpisodePoses,
    rows: np.ndarray,
    pixels: np.ndarray,
    landmark: np.ndarray,
    setup: DemoSetup,
) -> str:
    """Says that nothing fits, and what would."""
    said = f"no camera explains the {len(pixels)} marks"
    if estimate is not None:
        said += f" (the best leaves {estimate.rms():.1f} px for {int(estimate.trusted.sum())} of them)"
    shifts = [
        (f"if poses of {abs(lag)} frames {'earlier' if lag < 0 else 'later'} are taken: mend the recording's clock",
         _shifted(poses, rows, lag), pixels)
        for lag in LAGS
    ]  # fmt: skip
    for cause, world_from_ee, marked in [*_suspicions(poses.world_from_ee[rows], pixels, setup), *shifts]:
        other = solve(world_from_ee, marked, landmark, setup)
        if believable(other, setup.size):
            assert other is not None
            return f"{said}, but one does to {other.rms():.1f} px {cause}"
    return f"{said}: check that the marks belong to this camera and mount, and the pose column's frame and indices"


def _suspicions(
    world_from_ee: np.ndarray, pixels: np.ndarray, setup: DemoSetup
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Usual mistakes: what to say, and poses and pixels with the mistake undone; the mirror comes first."""
    mirrored = pixels * (-1, 1) + (setup.size[0] - 1, 0)
    flag = "false" if setup.flips[0] else "true"
    inverse = np.linalg.inv(world_from_ee)
    found = [
        (f"if the picture is mirrored: give --flip_horizontal={flag}", world_from_ee, mirrored),
        ("if the poses are ee_from_world: the rig needs world_from_ee", inverse, pixels),
    ]
    for name, order in (("w, x, y, z", (1, 2, 3, 0)), ("x, y, z, w", (3, 0, 1, 2))):
        turned = world_from_ee.copy()
        quaternions = Rotation.from_matrix(world_from_ee[:, :3, :3]).as_quat()[:, order]
        turned[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
        found.append((f"if the quaternions' order is {name}: correct the rotation_format", turned, pixels))
    return found


def _undetermined(estimate: Estimate, predicted: np.ndarray, world_from_ee: np.ndarray, setup: DemoSetup) -> str:
    said = (
        f"the marks do not determine the camera (expected error of a projection {np.quantile(predicted, 0.95):.0f} px "
        f"in the workspace)"
    )
    if setup.mount == "world":
        spread = _spread(marked_points(world_from_ee, setup)[estimate.trusted])
        return (
            f"{said}: the marked places of the hand spread by {spread[0]:.0f}, {spread[1]:.0f} and {spread[2]:.0f} mm "
            "along their principal directions; mark frames near and far, left and right, high and low, or give --focal"
        )
    angles = rotation_spread(world_from_ee[estimate.trusted][:, :3, :3])
    advice = "mark frames in which the hand is tilted"
    if setup.height is None:
        advice += ", or points on the table and give their --point_height"
    if setup.focal is None:
        advice += ", or give --focal if it is known"
    return (
        f"{said}: between the marked frames the hand turned by {angles[0]:.0f}, {angles[1]:.0f} and {angles[2]:.0f} "
        f"degrees about its principal axes; {advice}"
    )


__all__ = ["DemoCalibration", "DemoSetup", "calibrate_demos"]
