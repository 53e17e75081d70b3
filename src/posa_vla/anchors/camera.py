"""Pinhole cameras: points in the world frame to places in the image as it is stored."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from posa_vla.anchors.pose import EE, EE_POSITION, WORLD, Transform, expect_frames, without_rotation
from posa_vla.errors import PosaError, unknown_name

Mount = Literal["world", "end_effector", "end_effector_position"]
MOUNT_FRAMES = {"world": WORLD, "end_effector": EE, "end_effector_position": EE_POSITION}
NEAREST_DEPTH = 1e-6
"""Metres. A point closer to the camera's plane counts as behind it: its image would be no finite float32."""
FARTHEST_CAMERA = 10.0
"""Metres. A camera farther from the frame it is mounted in has its translation in millimetres."""
OFF_CENTRE = 0.23
"""Share of the image by which a principal point may miss the centre in *both* directions; intrinsics of an image
of twice or half the size miss it by 0.5 and 0.25, a crop moves it in one direction."""
OFF_ALIKE, ALIKE = 0.1, 0.04
"""The same where it misses the centre by the same factor in both directions, to within so much of the image: those of
an image of 4/3, 3/4 or 2/3 of the size lie at 0.67, 0.37 or 0.33 across and down. A lens's own offset is smaller."""
UNPLACED = np.full((4, 4), np.nan)


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
        mount: 'world' (fixed in the world), 'end_effector' (fixed to the hand), or 'end_effector_position' (follows
            the hand but keeps its direction in the world, as MuJoCo's tracking cameras and on a gantry).
        cam_from_mount: (4, 4), mount frame -> camera frame (OpenCV axes: x right, y down, z forward), metres.
            `UNPLACED` where it differs from scene to scene (posa_vla.rigs.Scene).
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
    cam_from_mount: np.ndarray = field(default_factory=lambda: UNPLACED)
    flip_horizontal: bool = False
    flip_vertical: bool = False

    def __post_init__(self) -> None:
        if self.mount not in MOUNT_FRAMES:
            raise unknown_name(f"mount of camera {self.name!r}:", str(self.mount), MOUNT_FRAMES)
        sizes = (self.width, self.height, self.fx, self.fy)
        if not all(0 < number < np.inf for number in sizes) or not np.isfinite([self.cx, self.cy]).all():
            raise PosaError(
                f"camera {self.name!r}: width, height, fx and fy must be positive and cx and cy finite, "
                f"got {', '.join(map(str, (*sizes, self.cx, self.cy)))}"
            )
        matrix = np.asarray(self.cam_from_mount, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isnan(matrix).all():
            problem = rigid_problem(matrix)
            if problem:
                raise PosaError(
                    f"camera {self.name!r}: cam_from_mount must be a rigid 4x4 matrix (orthonormal rotation with "
                    f"determinant +1, translation in metres, last row 0 0 0 1), but {problem}: {matrix.tolist()}"
                )
        object.__setattr__(self, "cam_from_mount", matrix)

    @property
    def is_placed(self) -> bool:
        """Whether cam_from_mount is known (it is not where scenes hold it)."""
        return not np.isnan(self.cam_from_mount).any()

    @property
    def matrix(self) -> np.ndarray:
        """OpenCV's K, (3, 3), pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def cam_from_world(self, world_from_ee: Transform | np.ndarray | None = None) -> Transform:
        """World -> camera, (..., 4, 4). A hand camera needs the EE pose of each frame; a fixed one ignores it."""
        if not self.is_placed:
            raise PosaError(f"camera {self.name!r} stands elsewhere in each scene: take it from Rig.in_scene(NAME)")
        cam_from_mount = Transform(self.name, MOUNT_FRAMES[self.mount], self.cam_from_mount)
        if self.mount == "world":
            return cam_from_mount
        if world_from_ee is None:
            raise PosaError(f"camera {self.name!r} is mounted on the end effector: pass world_from_ee")
        if isinstance(world_from_ee, np.ndarray):
            world_from_ee = Transform(WORLD, EE, world_from_ee)
        if self.mount == "end_effector_position":
            return cam_from_mount @ without_rotation(world_from_ee).inverse()
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


def check_principal_point(camera: Camera) -> None:
    """An error where the intrinsics seem to belong to images of another size.

    A crop from a corner in the picture's own proportions looks the same, and is refused too.
    """
    u, v = (camera.cx + 0.5) / camera.width, (camera.cy + 0.5) / camera.height
    off = min(abs(u - 0.5), abs(v - 0.5))
    if off > OFF_CENTRE or (off > OFF_ALIKE and abs(u - v) <= ALIKE):
        raise PosaError(
            f"camera {camera.name!r}: the principal point ({camera.cx:.0f}, {camera.cy:.0f}) lies far from the middle "
            f"of a {camera.width}x{camera.height} image, as if fx, fy, cx and cy belonged to images of "
            f"{2 * camera.cx + 1:.0f}x{2 * camera.cy + 1:.0f}: give the width and height they were calibrated at, or "
            "scale all four"
        )


def rigid_problem(matrix: np.ndarray) -> str | None:
    """What keeps a matrix from being a rigid transform in metres (orthonormal to 1e-4), or None."""
    if matrix.shape != (4, 4):
        return f"its shape is {'x'.join(map(str, matrix.shape))}"
    if not np.isfinite(matrix).all():
        return "it holds NaN or infinity"
    if not np.allclose(matrix[3], [0, 0, 0, 1], rtol=0, atol=1e-6):  # an inverted one is off by its last digits
        transposed = np.allclose(matrix[:, 3], [0, 0, 0, 1], rtol=0, atol=1e-6)
        return "it is transposed (the translation stands in its last row)" if transposed else "its last row is another"
    rotation = matrix[:3, :3]
    lengths = np.linalg.norm(rotation, axis=0)
    if not np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-4):
        scaled = np.allclose(rotation.T @ rotation, np.eye(3) * lengths[0] ** 2, rtol=1e-3, atol=1e-4 * lengths[0] ** 2)
        return f"its axes are {lengths[0]:.4g} long instead of 1" if scaled else "its axes are not orthonormal"
    if np.linalg.det(rotation) < 0:
        return "it mirrors (determinant -1): a mirrored picture belongs in flip_horizontal or flip_vertical"
    if np.linalg.norm(matrix[:3, 3]) > FARTHEST_CAMERA:
        return f"its translation is {np.linalg.norm(matrix[:3, 3]):.0f} m long, as if it were in millimetres"
    return None
