"""Measure the anchor toolchain: projection against OpenCV, geometry speed, and the simulator's own pixels."""

import time
from dataclasses import replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.label import label_episode
from posa_vla.anchors.pose import homogeneous


def random_camera(rng: np.random.Generator) -> Camera:
    """Any resolution, aspect, off-centre principal point, mount pose and flips; fixed in the world."""
    width, height = (int(size) for size in rng.integers(32, 1281, 2))
    fx, fy = rng.uniform(0.4, 2.5, 2) * min(width, height)
    cx, cy = np.array([width, height]) * rng.uniform(0.3, 0.7, 2)
    pose = homogeneous(Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3))
    mirror, turn = (bool(draw < 0.5) for draw in rng.random(2))
    return Camera("any", width, height, fx, fy, cx, cy, "world", pose, mirror, turn)


def opencv_error(count: int, seed: int = 0) -> float:
    """Largest distance in pixels between `Camera.project` and cv2.projectPoints over ``count`` random cameras."""
    rng = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(count):
        camera = random_camera(rng)
        depth = rng.uniform(0.05, 5)
        in_camera = np.array([*rng.uniform(-1, 1, 2) * depth, depth])
        rotation, translation = camera.cam_from_mount[:3, :3], camera.cam_from_mount[:3, 3]
        point = rotation.T @ (in_camera - translation)
        expected, _ = cv2.projectPoints(point, cv2.Rodrigues(rotation)[0], translation, camera.matrix, None)
        worst = max(worst, float(np.abs(opencv_pixel(camera, point) - expected.ravel()).max()))
    return worst


def opencv_pixel(camera: Camera, point_world: np.ndarray) -> np.ndarray:
    """`Camera.project` of one point, taken back to OpenCV's pixel coordinates of the unflipped image, (2,)."""
    u, v, _ = camera.project(point_world)
    u = 1 - u if camera.flip_horizontal else u
    v = 1 - v if camera.flip_vertical else v
    return np.array([u * camera.width, v * camera.height]) - 0.5


def geometry_rate(seconds: float = 1.0, length: int = 80) -> float:
    """Frames per second of `label_episode` for a fixed and a hand camera, episodes of ``length`` frames."""
    rng = np.random.default_rng(0)
    head = random_camera(rng)
    cameras = [head, replace(random_camera(rng), mount="end_effector")]
    poses = np.concatenate([rng.normal(size=(length, 3)), Rotation.random(length, random_state=rng).as_quat()], axis=1)
    gripper = (np.arange(length) > length // 2).astype(np.float64)
    start, episodes = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        label_episode(poses, gripper, cameras, finger_width=1 - gripper * 0.5)
        episodes += 1
    return episodes * length / (time.perf_counter() - start)
