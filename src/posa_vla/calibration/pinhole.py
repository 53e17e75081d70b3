"""The camera that is being estimated: a pinhole with square pixels, moved by small steps (no singular angles)."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.anchors.camera import Camera, Mount
from posa_vla.anchors.pose import homogeneous

POSE_SIZE = 6
"""Parameters of a step before the focal length: rotation (3, rad, camera axes) and position (3, m, mount axes)."""
NEAREST = 1e-3
"""Metres. Points behind the camera are projected as if they lay here: far off, but with a gradient."""


@dataclass(frozen=True)
class Pinhole:
    """A camera in its mount's frame (the world, or the hand).

    Args:
        rotation: (3, 3), mount frame -> camera axes (x right, y down, z forward).
        position: (3,) m, the optical centre in the mount's frame.
        focal: pixels, equal along x and y.
        principal: (cx, cy) in OpenCV's pixels (the centre of pixel k is at k).
    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    principal: tuple[float, float]

    def in_camera(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) m in the mount's frame -> camera axes."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) m in the mount's frame -> OpenCV pixels (..., 2) of the unflipped image."""
        local = self.in_camera(points)
        depth = np.maximum(local[..., 2:], NEAREST)
        return self.focal * local[..., :2] / depth + np.asarray(self.principal)

    def moved(self, step: np.ndarray) -> "Pinhole":
        """After a step of rotation (3,), position (3,) and, where present, log focal length (1,)."""
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        focal = self.focal * float(np.exp(step[POSE_SIZE])) if len(step) > POSE_SIZE else self.focal
        return Pinhole(turn @ self.rotation, self.position + step[3:6], focal, self.principal)

    def camera(
        self, name: str, size: tuple[int, int], mount: Mount, flips: tuple[bool, bool] = (False, False)
    ) -> Camera:
        """As a rig stores it; ``size`` is (width, height) in pixels, ``flips`` (horizontal, vertical)."""
        matrix = homogeneous(self.rotation, -self.rotation @ self.position)
        return Camera(name, *size, self.focal, self.focal, *self.principal, mount, matrix, *flips)


def image_centre(size: tuple[int, int]) -> tuple[float, float]:
    """The principal point nobody has measured: the middle of a (width, height) image in OpenCV's pixels."""
    return (size[0] - 1) / 2, (size[1] - 1) / 2
