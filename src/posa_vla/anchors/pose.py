"""Rigid transforms that know their frames: ``a_from_b @ b_from_c`` is ``a_from_c``, anything else raises."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from posa_vla.errors import PosaError, unknown_name

WORLD, EE = "world", "ee"
EE_POSITION = "ee_position"
"""Origin at the end effector, axes of the world: all that is known of a hand whose rotation is not recorded."""
RotationFormat = Literal["quaternion_wxyz", "quaternion_xyzw", "axis_angle", "euler_xyz", "none"]
ROTATION_SIZES = {"quaternion_wxyz": 4, "quaternion_xyzw": 4, "axis_angle": 3, "euler_xyz": 3, "none": 0}
"""How many numbers a rotation is. euler_xyz: roll, pitch, yaw (rad), one turn after the other about the *fixed* axes
x, y, z, so that R = Rz(yaw) Ry(pitch) Rx(roll), as in URDF and ROS; angles about turning axes are others."""


class FrameError(PosaError, ValueError):
    """Two transforms were composed, or points transformed, over frames that do not meet."""


@dataclass(frozen=True)
class Transform:
    """dst_from_src: takes coordinates in frame ``src`` to coordinates in frame ``dst``.

    Args:
        dst: name of the frame it leads to.
        src: name of the frame it starts from.
        matrix: homogeneous, float64 (..., 4, 4), translation in metres; leading axes broadcast.
    """

    dst: str
    src: str
    matrix: np.ndarray

    def __post_init__(self) -> None:
        if self.matrix.shape[-2:] != (4, 4):
            raise ValueError(f"expected a matrix (..., 4, 4), got {self.matrix.shape}")

    @property
    def name(self) -> str:
        return f"{self.dst}_from_{self.src}"

    def __matmul__(self, other: "Transform") -> "Transform":
        if self.src != other.dst:
            raise FrameError(f"cannot compose {self.name} @ {other.name}: {self.src!r} is not {other.dst!r}")
        return Transform(self.dst, other.src, self.matrix @ other.matrix)

    def inverse(self) -> "Transform":
        """src_from_dst: (R, t) -> (Rᵀ, −Rᵀt)."""
        rotation = np.swapaxes(self.matrix[..., :3, :3], -1, -2)
        return Transform(self.src, self.dst, homogeneous(rotation, -(rotation @ self.matrix[..., :3, 3:])[..., 0]))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in frame ``src``, metres -> (..., 3) in frame ``dst``; leading axes broadcast."""
        return (self.matrix[..., :3, :3] @ points[..., None])[..., 0] + self.matrix[..., :3, 3]


def expect_frames(transform: Transform, dst: str, src: str) -> Transform:
    """The transform itself, or a `FrameError` where it does not lead from ``src`` to ``dst``."""
    if (transform.dst, transform.src) != (dst, src):
        raise FrameError(f"expected {dst}_from_{src}, got {transform.name}")
    return transform


def homogeneous(rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(..., 3, 3) and (..., 3) m -> (..., 4, 4)."""
    matrix = np.zeros((*rotation.shape[:-2], 4, 4))
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = position
    matrix[..., 3, 3] = 1
    return matrix


def rotation_matrix(rotation: np.ndarray, form: RotationFormat) -> np.ndarray:
    """Unit quaternions (..., 4), axis-angle vectors or Euler angles (..., 3) rad -> (..., 3, 3) float64.

    'none' gives identities.
    """
    if form not in ROTATION_SIZES:
        raise unknown_name("rotation format", form, ROTATION_SIZES)
    if rotation.shape[-1] != ROTATION_SIZES[form]:
        raise ValueError(f"expected {form} (..., {ROTATION_SIZES[form]}), got {rotation.shape}")
    rotation = rotation.astype(np.float64)
    if form == "none":
        return np.broadcast_to(np.eye(3), (*rotation.shape[:-1], 3, 3)).copy()
    if form == "axis_angle":
        rotation = quaternion_from_axis_angle(rotation)
    elif form == "euler_xyz":
        rotation = quaternion_from_euler(rotation)
    elif form == "quaternion_xyzw":
        rotation = np.roll(rotation, 1, axis=-1)
    w, x, y, z = np.moveaxis(rotation / np.linalg.norm(rotation, axis=-1, keepdims=True), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_axis_angle(vector: np.ndarray) -> np.ndarray:
    """Axis-angle (..., 3) rad -> unit quaternions (..., 4) as w, x, y, z; exact at angle 0."""
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    # sin(θ/2)/θ without a division by zero: numpy's sinc(x) is sin(πx)/(πx).
    return np.concatenate([np.cos(angle / 2), vector * np.sinc(angle / (2 * np.pi)) / 2], axis=-1)


def quaternion_from_euler(angles: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (..., 3) rad, see `ROTATION_SIZES` -> unit quaternions (..., 4) as w, x, y, z."""
    (cr, cp, cy), (sr, sp, sy) = (np.moveaxis(wave(angles / 2), -1, 0) for wave in (np.cos, np.sin))
    parts = (
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    )
    return np.stack(parts, axis=-1)


def world_from_ee(poses: np.ndarray, form: RotationFormat = "quaternion_wxyz") -> Transform:
    """EE poses (..., 3 + 4 or 3): position (m) and rotation, both in the world frame -> world_from_ee.

    Positions alone (form 'none', (..., 3)) give world_from_ee_position, which no camera that turns with the hand takes.
    """
    source = EE_POSITION if form == "none" else EE
    return Transform(WORLD, source, homogeneous(rotation_matrix(poses[..., 3:], form), poses[..., :3]))


def without_rotation(world_from_hand: Transform) -> Transform:
    """world_from_ee_position of world_from_ee (or of itself)."""
    if world_from_hand.src != EE_POSITION:
        expect_frames(world_from_hand, WORLD, EE)
    position = world_from_hand.matrix[..., :3, 3]
    return Transform(
        WORLD, EE_POSITION, homogeneous(np.broadcast_to(np.eye(3), (*position.shape[:-1], 3, 3)), position)
    )
