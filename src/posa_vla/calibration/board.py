"""A camera from pictures of a board and the hand's poses: solved, left one out, refused where it is not determined."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.anchors.camera import Camera, Mount
from posa_vla.calibration.adjustment import inverse_normal
from posa_vla.calibration.boards import View
from posa_vla.calibration.handeye import (
    INTRINSIC,
    SHARED,
    Chain,
    PoseNoise,
    Problem,
    Views,
    adjust,
    board_scale,
    outlying,
    pose_errors,
    start,
)
from posa_vla.calibration.intrinsics import (
    Intrinsics,
    board_pose,
    check_focal,
    distorted,
    distortion_reach,
    estimate_intrinsics,
)
from posa_vla.calibration.poses import rotation_spread
from posa_vla.errors import PosaError

FEWEST_VIEWS = 6
LEAST_TURN = 4.0
"""Degrees: the root mean square turning about the second axis, below which the rotations are all but parallel."""
WORST_METRES, WORST_DEGREES = 0.015, 3.0
"""Median pose error beyond which pictures and poses do not belong together."""
WORST_SIGMA = 0.02
"""Metres: largest standard deviation of the camera's position."""
WRONG_SCALE = 0.01
"""A board that is so much larger or smaller than described, and three standard deviations, is worth a remark."""
CLEARLY = 0.3
"""A usual mistake is named when undoing it brings the error below this share."""


@dataclass(frozen=True)
class BoardCalibration:
    """Args:
    chain: lens, camera pose, board pose, corrections of the recorded poses.
    used: (V,) the views that were used.
    reprojection: px, root mean square distance of detected from projected corners.
    metres, degrees: (U,) of each used view, how far the others' calibration misses it (leave-one-out).
    sigma_metres: (3,) of the camera's position in its mount's frame.
    sigma_degrees: of its orientation, length over the three axes.
    sigma_focal: px.
    reach: px, how far the lens moves a point of the picture against a pinhole.
    scale, sigma_scale: how many times as large as described the hand's motion makes the board.
    """

    chain: Chain
    used: np.ndarray
    reprojection: float
    metres: np.ndarray
    degrees: np.ndarray
    sigma_metres: np.ndarray
    sigma_degrees: float
    sigma_focal: float
    reach: float
    scale: float
    sigma_scale: float

    @property
    def is_scaled(self) -> bool:
        """Whether the board must be of another size than described."""
        return bool(abs(self.scale - 1) > max(WRONG_SCALE, 3 * self.sigma_scale))

    def camera(self, name: str, size: tuple[int, int], mount: Mount, flips: tuple[bool, bool]) -> Camera:
        """As a rig stores it, without the distortion."""
        k = self.chain.matrix
        return Camera(name, *size, k[0, 0], k[1, 1], k[0, 2], k[1, 2], mount, self.chain.first, *flips)


def calibrate_board(
    views: list[View | None],
    size: tuple[int, int],
    world_from_ee: np.ndarray,
    mount: Mount,
    noise: PoseNoise | None = None,
) -> BoardCalibration:
    """Views (None where no board was found) and the hand's poses (V, 4, 4) -> the camera, or why there is none."""
    noise = PoseNoise() if noise is None else noise
    found = [view for view in views if view is not None]
    if len(found) < FEWEST_VIEWS:
        where = "in none" if not found else f"in {len(found)}"
        raise PosaError(
            f"the board was found {where} of {len(views)} pictures, expected at least {FEWEST_VIEWS}, better 20: check "
            "the --board description, and take sharp pictures that show it whole"
        )
    used = np.array([view is not None for view in views])
    check_motion(world_from_ee[used], mount)
    intrinsics = estimate_intrinsics(found, size)
    used[np.flatnonzero(used)[~intrinsics.good]] = False
    while True:
        data = gather(views, world_from_ee, used, mount, noise)
        begun = start(data, intrinsics)
        check_fit(begun, data, intrinsics)
        chain, residuals, jacobian = adjust(begun, data)
        wrong = outlying(chain, noise)
        if not wrong.any():
            break
        used[np.flatnonzero(used)[wrong]] = False
        if used.sum() < FEWEST_VIEWS:
            raise PosaError(
                f"only {int(used.sum())} of {len(views)} pictures agree with their poses, expected at least "
                f"{FEWEST_VIEWS}: check that pictures and poses are in the same order and taken with the arm at rest"
            )
    check_motion(world_from_ee[used], mount)
    return _judged(chain, residuals, jacobian, data, used, size, intrinsics)


def gather(
    views: list[View | None], world_from_ee: np.ndarray, used: np.ndarray, mount: Mount, noise: PoseNoise
) -> Views:
    on_hand = mount == "end_effector"
    middle = np.linalg.inv(world_from_ee[used]) if on_hand else world_from_ee[used]
    chosen = [view for view, keep in zip(views, used, strict=True) if keep and view is not None]
    return Views(chosen, middle, on_hand, noise)


def check_motion(world_from_ee: np.ndarray, mount: Mount) -> None:
    """Turns about a single axis leave the camera's (or the board's) place along it open."""
    spread = rotation_spread(world_from_ee[:, :3, :3])
    if spread[1] < LEAST_TURN:
        place = "the camera's place" if mount == "end_effector" else "the place of the board, and the camera's with it,"
        raise PosaError(
            f"between the pictures the hand turned by {spread[0]:.1f}, {spread[1]:.1f} and {spread[2]:.1f} degrees "
            f"about its principal axes, so {place} along the first axis is not determined: turn the hand by 20 degrees "
            "and more about different axes"
        )


def check_fit(chain: Chain, data: Views, intrinsics: Intrinsics) -> None:
    """Refuses poses that have nothing to do with the pictures, and names the usual mistake that explains it."""
    seen = np.stack([board_pose(view, intrinsics) for view in data.views])
    metres, degrees = (float(np.median(errors)) for errors in pose_errors(data, chain, seen))
    if metres <= WORST_METRES and degrees <= WORST_DEGREES:
        return
    said = f"the poses do not fit the pictures: typically {1000 * metres:.0f} mm and {degrees:.1f} degrees off"
    if rotation_spread(seen[:, :3, :3])[0] < LEAST_TURN:
        holder = "the world" if data.on_hand else "the hand"
        raise PosaError(
            f"{said}: the hand turned, but the board hardly did so in the pictures, as if it were fixed to the camera: "
            f"with --mount={'end_effector' if data.on_hand else 'world'} it belongs to {holder}"
        )
    for cause, other in _suspicions(data):
        better = [float(np.median(errors)) for errors in pose_errors(other, start(other, intrinsics), seen)]
        if better[0] < max(CLEARLY * metres, 0.004) and better[1] < max(CLEARLY * degrees, 0.5):
            raise PosaError(f"{said}, but only {1000 * better[0]:.0f} mm and {better[1]:.1f} degrees {cause}")
    scale, _ = board_scale(chain, data, seen)
    if scale > 0:
        seen[:, :3, 3] *= scale
        views = [replace(view, corners=scale * view.corners) for view in data.views]
        other = replace(data, views=views)
        better = [float(np.median(errors)) for errors in pose_errors(other, start(other, intrinsics), seen)]
        if better[0] < max(CLEARLY * metres, 0.004) and better[1] < WORST_DEGREES:
            raise PosaError(
                f"{said}, but only {1000 * better[0]:.0f} mm if the board is {scale:.3g} times as large as described: "
                "measure its squares, and give the poses in metres"
            )
    raise PosaError(f"{said}: check that they are world_from_ee in metres and in the order of the pictures")


def _suspicions(data: Views) -> Iterator[tuple[str, Views]]:
    """Usual mistakes: what to say, and the views with the mistake undone."""

    def with_middle(middle: np.ndarray, on_hand: bool) -> Views:
        return Views(data.views, middle, on_hand, data.noise)

    inverse = np.linalg.inv(data.middle)
    mount = "world" if data.on_hand else "end_effector"
    cause = f"if the camera's --mount is {mount} (or the poses are ee_from_world instead of world_from_ee)"
    yield cause, with_middle(inverse, not data.on_hand)
    recorded = inverse if data.on_hand else data.middle
    for said, order in (("w, x, y, z", (1, 2, 3, 0)), ("x, y, z, w", (3, 0, 1, 2))):
        turned = recorded.copy()
        quaternions = Rotation.from_matrix(recorded[:, :3, :3]).as_quat()[:, order]
        turned[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
        columns = "qw, qx, qy, qz" if said.startswith("w") else "qx, qy, qz, qw"
        middle = np.linalg.inv(turned) if data.on_hand else turned
        yield (
            f"if the quaternions' numbers are {said}: name their columns {columns} in this order",
            with_middle(middle, data.on_hand),
        )
    for step in (1, -1):
        middle = np.roll(data.middle, step, axis=0)
        yield (
            f"if each picture has its {'predecessor' if step > 0 else 'successor'}'s pose",
            with_middle(middle, data.on_hand),
        )


def _judged(
    chain: Chain,
    residuals: np.ndarray,
    jacobian: np.ndarray,
    data: Views,
    used: np.ndarray,
    size: tuple[int, int],
    begun: Intrinsics,
) -> BoardCalibration:
    scale = float((residuals**2).sum() / max(jacobian.shape[0] - jacobian.shape[1], 1))
    variance = scale * np.diag(inverse_normal(jacobian))[:SHARED]
    sigma_metres = np.sqrt(variance[INTRINSIC + 3 : INTRINSIC + 6])
    sigma_focal = float(np.sqrt(variance[:2].max()))
    check_focal(sigma_focal / chain.matrix[0, 0], begun.tilt)
    if not sigma_metres.max() < WORST_SIGMA:
        raise PosaError(
            f"the views leave the camera's position uncertain by {1000 * sigma_metres.max():.0f} mm: add views with "
            "the hand turned about different axes, and the board near and tilted"
        )
    metres, degrees = leave_one_out(chain, data, residuals, jacobian)
    errors = corner_errors(chain, data)
    seen = np.stack([board_pose(view, begun) for view in data.views])  # no lens that a wrong scale has bent
    return BoardCalibration(
        chain,
        used,
        float(np.sqrt((errors**2).sum(axis=1).mean())),
        metres,
        degrees,
        sigma_metres,
        float(np.degrees(np.sqrt(variance[INTRINSIC : INTRINSIC + 3].sum()))),
        sigma_focal,
        distortion_reach(chain.matrix, chain.distortion, size),
        *board_scale(chain, data, seen),
    )


def corner_errors(chain: Chain, data: Views) -> np.ndarray:
    """(M, 2) px: projected minus detected, of all corners, by the corrected hand poses."""
    errors = []
    for pose, view in zip(data.board_poses(chain), data.views, strict=True):
        points = view.corners @ pose[:3, :3].T + pose[:3, 3]
        errors.append(distorted(points, chain.matrix, chain.distortion) - view.pixels)
    return np.concatenate(errors)


def leave_one_out(
    chain: Chain, data: Views, residuals: np.ndarray, jacobian: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(V,) m and degrees: the board's pose in each view as the other views' calibration predicts it, against seen.

    The lens is kept; the others' calibration is one Gauss-Newton step from the common one. The prediction uses the
    recorded hand pose, so its own noise is part of the error.
    """
    intrinsics = Intrinsics(chain.matrix, chain.distortion, np.ones(len(data.views), bool))
    owner, size = Problem(chain, data).owner_of_row, jacobian.shape[1]
    owner_of_column = np.repeat(np.arange(-1, len(data.views)), [SHARED] + [6] * len(data.views))
    metres, degrees = [], []
    for left_out in range(len(data.views)):
        rows = owner != left_out
        columns = (owner_of_column != left_out) & (np.arange(size) >= INTRINSIC)
        step = np.zeros(size)
        step[columns] = np.linalg.lstsq(jacobian[np.ix_(rows, columns)], -residuals[rows], rcond=None)[0]
        alone = data.chosen(np.arange(len(data.views)) == left_out)
        distance, angle = pose_errors(alone, chain.moved(step), board_pose(alone.views[0], intrinsics)[None])
        metres.append(distance[0])
        degrees.append(angle[0])
    return np.array(metres), np.array(degrees)
