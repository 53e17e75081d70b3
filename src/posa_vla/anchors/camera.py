"""Pinhole cameras: points in the world frame to places in the image as it is stored (method, section 2)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from posa_vla.anchors.pose import EE, WORLD, Transform, expect_frames
from posa_vla.errors import PosaError, unknown_name

Mount = Literal["world", "end_effector"]
MOUNT_FRAMES = {"world": WORLD, "end_effector": EE}
NEAREST_DEPTH = 1e-6
"""Metres. A point closer to the camera's plane counts as behind it: its image would be no finite float32."""


@dataclass(frozen=True)
class Camera:
    """One calibrated camera of a rig.

    Args:
        name: the ``<name>`` of ``observation.images.<name>``.
        width: W, pixels of the image the intrinsics belong to.
        height: H, pixels.
        fx: focal length along x in pixels, OpenCV's K for the unflipped image.
        fy: focal length along y in pixels.
        cx: principal point x in pixels, OpenCV's convention: the centre of pixel k is at k.
        cy: principal point y in pixels.
        mount: 'world' (fixed in the world) or 'end_effector' (fixed to the hand).
        cam_from_mount: (4, 4), mount frame -> camera frame (OpenCV axes: x right, y down, z forward), metres.
        flip_horizontal: the stored image is mirrored left-right against the unflipped one.
        flip_vertical: the stored image is mirrored top-bottom.
    """

    name: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    mount: Mount
    cam_from_mount: np.ndarray
    flip_horizontal: bool = False
    flip_vertical: bool = False

    def __post_init__(self) -> None:
        if self.mount not in MOUNT_FRAMES:
            raise unknown_name(f"mount of camera {self.name!r}:", str(self.mount), MOUNT_FRAMES)
        if min(self.width, self.height, self.fx, self.fy) <= 0:
            raise PosaError(
                f"camera {self.name!r}: width, height, fx and fy must be positive, "
                f"got {self.width}, {self.height}, {self.fx}, {self.fy}"
            )
        matrix = np.asarray(self.cam_from_mount, dtype=np.float64)
        if matrix.shape != (4, 4) or not _is_rigid(matrix):
            raise PosaError(
                f"camera {self.name!r}: cam_from_mount must be a rigid 4x4 matrix (orthonormal rotation with "
                f"determinant +1, last row 0 0 0 1), got {matrix.tolist()}"
            )
        object.__setattr__(self, "cam_from_mount", matrix)

    @property
    def matrix(self) -> np.ndarray:
        """OpenCV's K, (3, 3), pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def cam_from_world(self, world_from_ee: Transform | np.ndarray | None = None) -> Transform:
        """World -> camera, (..., 4, 4). A hand camera needs the EE pose of each frame; a fixed one ignores it."""
        cam_from_mount = Transform(self.name, MOUNT_FRAMES[self.mount], self.cam_from_mount)
        if self.mount == "world":
            return cam_from_mount
        if world_from_ee is None:
            raise PosaError(f"camera {self.name!r} is mounted on the end effector: pass world_from_ee")
        if isinstance(world_from_ee, np.ndarray):
            world_from_ee = Transform(WORLD, EE, world_from_ee)
        return cam_from_mount @ expect_frames(world_from_ee, WORLD, EE).inverse()

    def project(self, points_world: np.ndarray, world_from_ee: Transform | np.ndarray | None = None) -> np.ndarray:
        """Points (..., 3), world frame, metres -> (..., 3): u, v, depth.

        u, v are fractions of the stored (flipped) image's width and height: 0 is the left/top edge, 1 the
        right/bottom one; unclamped. Depth is in metres along the optical axis. A point behind the camera is
        (-1, -1, depth <= 0). ``world_from_ee`` (..., 4, 4) broadcasts against the points.
        """
        return self.image_from_camera(self.cam_from_world(world_from_ee).apply(points_world))

    def image_from_camera(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in this camera's frame, metres -> (..., 3): u, v, depth as in `project`."""
        depth = points[..., 2]
        behind = depth < NEAREST_DEPTH
        safe = np.where(behind, 1.0, depth)
        # The one place where OpenCV's pixel-centres-at-integers become edges-at-integers.
        u = (self.fx * points[..., 0] / safe + self.cx + 0.5) / self.width
        v = (self.fy * points[..., 1] / safe + self.cy + 0.5) / self.height
        u = 1 - u if self.flip_horizontal else u
        v = 1 - v if self.flip_vertical else v
        return np.stack(
            [
                np.where(behind, -1.0, u),
                np.where(behind, -1.0, v),
                np.where(behind, np.minimum(depth, 0.0), depth),
            ],
            axis=-1,
        )

    def unproject(self, uvd: np.ndarray, world_from_ee: Transform | np.ndarray | None = None) -> np.ndarray:
        """The inverse of `project` for points in front of the camera: (..., 3) u, v, depth -> world, metres."""
        u, v, depth = np.moveaxis(np.asarray(uvd, dtype=np.float64), -1, 0)
        if (depth <= 0).any():
            raise ValueError(f"camera {self.name!r}: a point behind the camera has no image to unproject")
        u = 1 - u if self.flip_horizontal else u
        v = 1 - v if self.flip_vertical else v
        x = (u * self.width - 0.5 - self.cx) / self.fx * depth
        y = (v * self.height - 0.5 - self.cy) / self.fy * depth
        return self.cam_from_world(world_from_ee).inverse().apply(np.stack([x, y, depth], axis=-1))


def _is_rigid(matrix: np.ndarray) -> bool:
    """Rotation orthonormal to 1e-4 with determinant +1, last row (0, 0, 0, 1)."""
    rotation = matrix[:3, :3]
    return bool(
        np.isfinite(matrix).all()
        and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
        and np.linalg.det(rotation) > 0
        and np.array_equal(matrix[3], [0, 0, 0, 1])
    )
