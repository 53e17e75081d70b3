"""A camera from marked demonstrations: fitted, doubted, and refused with the reason where the marks do not say."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.calibration.adjustment import Estimate, fit
from posa_vla.calibration.clicks import Clicks, DemoSetup, clicks_of, fingertips, in_hand
from posa_vla.calibration.fixed import fit_known
from posa_vla.calibration.hand import fit_hand
from posa_vla.calibration.marks import Marks
from posa_vla.calibration.poses import EpisodePoses, rotation_spread
from posa_vla.calibration.tool import ToolHint, find_tool
from posa_vla.errors import PosaError

FEWEST_MARKS = 10
FEWEST_GRASPS = 5
SPARE_EQUATIONS = 8
"""Two equations a mark, less the unknowns: fewer to spare, and no mistake among the marks would be noticed."""
AGREEING = 0.6
"""Share of the marks that a believable camera explains; up to a third may be mistakes."""
WORST_FIT, WORST_GRASP_FIT, WORST_PREDICTION = 0.02, 0.05, 0.02
"""Of the image's longer side: root mean square error of the trusted marks, which is larger for grasps, since from near
a millimetre is several pixels; and the expected error of projecting points of the workspace (95th percentile), beyond
which the marks do not determine the camera."""
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


def calibrate_demos(
    poses: EpisodePoses, marks: Marks, setup: DemoSetup, closes: np.ndarray | None = None
) -> DemoCalibration:
    """The camera of marked frames, or a `PosaError` that says why there is none.

    Args:
        closes: (all rows,) of `read_closes`; needed where the marks are grasps.
    """
    if len(marks) < FEWEST_MARKS:
        raise PosaError(
            f"expected at least {FEWEST_MARKS} marks, better 40, spread over the workspace, got {len(marks)}: mark more"
        )
    lagging = {lag: clicks_of(poses, marks, setup, closes, lag) for lag in (0, *LAGS)}
    clicks = lagging.pop(0)
    check_counts(clicks, setup)
    check_spread(clicks, setup)
    estimate = solve(clicks, setup)
    if not believable(estimate, setup):
        raise PosaError(_misfit(estimate, clicks, lagging, setup))
    assert estimate is not None
    check_mirror(estimate, clicks, setup)
    predicted = estimate.projection_sigma(workspace(poses, setup, estimate, closes))
    if np.quantile(predicted, 0.95) > WORST_PREDICTION * max(setup.size):
        raise PosaError(_undetermined(estimate, predicted, clicks, setup))
    lag, gain = find_lag(estimate, lagging, setup)
    return DemoCalibration(estimate, predicted, lag, gain, _other_tool(estimate, clicks, setup))


def _other_tool(estimate: Estimate, clicks: Clicks, setup: DemoSetup) -> tuple[ToolHint, str] | None:
    """A fixed camera fits a flange pose tolerably and any order of the quaternion; better with the tool it lacks."""
    if setup.mount != "world":
        return None
    tool, focal_known = np.asarray(setup.tool, dtype=float), setup.focal is not None
    orders = [(cause, changed) for cause, changed in _suspicions(clicks, setup) if "order" in cause]
    for cause, read in [("", clicks), *orders]:
        hint = find_tool(read.world_from_ee, clicks.pixels, estimate, tool, focal_known)
        if hint is not None:
            return hint, cause
    return None


def check_counts(clicks: Clicks, setup: DemoSetup) -> None:
    counts = np.unique(clicks.landmark, return_counts=True)[1]
    if setup.resting:
        unknown = 6 + (setup.focal is None) + (3 if setup.height is None else 2) * len(counts)
        if 2 * len(clicks.pixels) < unknown + SPARE_EQUATIONS or counts.max() < 3:
            raise PosaError(
                f"{len(clicks.pixels)} marks of {len(counts)} different points are too few to find the points and the "
                "camera: mark each resting point in at least six frames of its episode"
            )
    if setup.grasp and len(counts) < FEWEST_GRASPS:
        raise PosaError(
            f"the marks show {len(counts)} different grasps, and an error of one grasp moves all its marks: mark "
            f"frames before at least {FEWEST_GRASPS} grasps, better 20"
        )


def check_spread(clicks: Clicks, setup: DemoSetup) -> None:
    """Places on one line leave the camera's turning about that line open."""
    if setup.resting:
        return
    spread = _spread(clicks.points(setup))
    if spread[1] < LEAST_SPREAD:
        raise PosaError(
            f"the marked places {_seen_from(setup)} lie on a line (spread {spread[0]:.0f}, {spread[1]:.0f} and "
            f"{spread[2]:.0f} mm along their principal directions), which does not determine a camera: "
            f"{_further_places(setup)}"
        )


def _seen_from(setup: DemoSetup) -> str:
    return "of the hand" if setup.mount == "world" else "of the grasps, seen from the hand,"


def _further_places(setup: DemoSetup) -> str:
    if setup.mount == "world":
        return "mark frames near and far, left and right, high and low"
    return "mark frames that start further away, where the hand is still beside the object and not just above it"


def _spread(points: np.ndarray) -> np.ndarray:
    """(3,) mm: root mean square distances of points (N, 3) m along their principal directions, largest first."""
    return np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / np.sqrt(len(points)) * 1000


def solve(clicks: Clicks, setup: DemoSetup) -> Estimate | None:
    if setup.resting:
        return fit_hand(
            clicks.world_from_ee,
            clicks.pixels,
            clicks.landmark,
            setup.size,
            setup.focal,
            setup.principal,
            setup.height,
        )
    return fit_known(clicks.sightings(setup), setup.size, setup.focal, setup.principal)


def believable(estimate: Estimate | None, setup: DemoSetup) -> bool:
    if estimate is None:
        return False
    worst = WORST_GRASP_FIT if setup.grasp else WORST_FIT
    near = np.linalg.norm(estimate.camera.position) <= FARTHEST and estimate.camera.focal <= LONGEST * max(setup.size)
    return bool(near and estimate.trusted.mean() >= AGREEING and estimate.rms() <= worst * max(setup.size))


def check_mirror(estimate: Estimate, clicks: Clicks, setup: DemoSetup) -> None:
    """Seen from afar a scene and its mirror image nearly look alike: the better fit says which it is."""
    cause, mirrored = _suspicions(clicks, setup)[0]
    other = solve(mirrored, setup)
    if believable(other, setup):
        assert other is not None
        errors = [float(np.median(item.lengths)) for item in (estimate, other)]
        if errors[1] < MIRROR_GAIN * errors[0]:
            raise PosaError(f"the marks fit to {errors[0]:.1f} px, but to {errors[1]:.1f} px {cause}")


def workspace(poses: EpisodePoses, setup: DemoSetup, estimate: Estimate, closes: np.ndarray | None) -> np.ndarray:
    """(M, 3) m in the mount's frame: what labelling will project. Positions of the hand; for a camera on the hand, the
    next grasps or, if they are not known, later positions of the same episode, as far as they come into view."""
    rng = np.random.default_rng(0)
    rows = rng.choice(len(poses.world_from_ee), min(SAMPLES, len(poses.world_from_ee)), replace=False)
    if setup.mount == "world":
        return fingertips(poses.world_from_ee[rows], setup.tool)
    if setup.grasp and closes is not None:
        rows = np.flatnonzero(closes >= 0)
        later = closes[rows]
    else:
        later = rng.integers(rows, poses.bounds()[1][rows] + 1)
    points = in_hand(poses.world_from_ee[rows], fingertips(poses.world_from_ee[later], setup.tool))
    pixels = estimate.camera.project(points)
    depth = estimate.camera.in_camera(points)[:, 2]
    seen = (depth > 0.05) & (pixels > 0).all(axis=1) & (pixels < setup.size).all(axis=1)
    return points[seen] if seen.any() else points


def find_lag(estimate: Estimate, lagging: dict[int, Clicks], setup: DemoSetup) -> tuple[int, float]:
    """Whether poses of a few frames earlier or later fit the marks clearly better: a recorder out of step."""
    reference = float(np.median(estimate.lengths / estimate.expected))
    best, gain = 0, 1.0
    for lag, clicks in lagging.items():
        sightings = clicks.sightings(setup)
        landmarks = estimate.landmarks if sightings.known is None else sightings.known
        other = fit(estimate.camera, landmarks, sightings, setup.focal is not None)
        ratio = float(np.median(other.lengths / other.expected)) / max(reference, 1e-9)
        if ratio < min(gain, LAG_GAIN):
            best, gain = lag, ratio
    return best, gain


def _misfit(estimate: Estimate | None, clicks: Clicks, lagging: dict[int, Clicks], setup: DemoSetup) -> str:
    """Says that nothing fits, and what would."""
    said = f"no camera explains the {len(clicks.pixels)} marks"
    if estimate is not None:
        said += f" (the best leaves {estimate.rms():.1f} px for {int(estimate.trusted.sum())} of them)"
    shifts = [
        (f"if poses of {abs(lag)} frames {'earlier' if lag < 0 else 'later'} are taken: mend the recording's clock",
         shifted)
        for lag, shifted in lagging.items()
    ]  # fmt: skip
    for cause, changed in [*_suspicions(clicks, setup), *shifts]:
        other = solve(changed, setup)
        if believable(other, setup):
            assert other is not None
            return f"{said}, but one does to {other.rms():.1f} px {cause}"
    shown = ", that they show where the gripper will close" if setup.grasp else ""
    return (
        f"{said}: check that the marks belong to this camera and mount{shown}, the pose column's frame and indices, "
        "and that the pictures were resized with their proportions kept, if at all"
    )


def _suspicions(clicks: Clicks, setup: DemoSetup) -> list[tuple[str, Clicks]]:
    """Usual mistakes: what to say, and the marks with the mistake undone; the mirror comes first."""
    mirrored = clicks.pixels * (-1, 1) + (setup.size[0] - 1, 0)
    flag = "false" if setup.flips[0] else "true"
    found = [
        (f"if the picture is mirrored: give --flip_horizontal={flag}", replace(clicks, pixels=mirrored)),
        ("if the poses are ee_from_world: the rig needs world_from_ee", clicks.with_poses(np.linalg.inv)),
    ]
    for name, order in (("w, x, y, z", (1, 2, 3, 0)), ("x, y, z, w", (3, 0, 1, 2))):
        turned = clicks.with_poses(lambda poses, order=order: _reordered(poses, order))  # type: ignore[misc]
        found.append((f"if the quaternions' order is {name}: correct the rotation_format", turned))
    return found


def _reordered(poses: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Poses (N, 4, 4) as they read with the quaternions' numbers in another order."""
    turned = poses.copy()
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()[:, order]
    turned[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
    return turned


def _undetermined(estimate: Estimate, predicted: np.ndarray, clicks: Clicks, setup: DemoSetup) -> str:
    said = (
        f"the marks do not determine the camera (expected error of a projection {np.quantile(predicted, 0.95):.0f} px "
        f"in the workspace)"
    )
    if not setup.resting:
        spread = _spread(clicks.points(setup)[estimate.trusted])
        return (
            f"{said}: the marked places {_seen_from(setup)} spread by {spread[0]:.0f}, {spread[1]:.0f} and "
            f"{spread[2]:.0f} mm along their principal directions; {_further_places(setup)}, or give --focal"
        )
    angles = rotation_spread(clicks.world_from_ee[estimate.trusted][:, :3, :3])
    advice = "mark frames in which the hand is tilted, or where the gripper will close (--marks_are=grasp)"
    if setup.height is None:
        advice += ", or points on the table and give their --point_height"
    if setup.focal is None:
        advice += ", or give --focal if it is known"
    return (
        f"{said}: between the marked frames the hand turned by {angles[0]:.0f}, {angles[1]:.0f} and {angles[2]:.0f} "
        f"degrees about its principal axes; {advice}"
    )


__all__ = ["LONGEST", "DemoCalibration", "DemoSetup", "calibrate_demos"]
