"""Cameras and sightings whose truth is known, with noise and mistakes as asked."""

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.anchors.pose import homogeneous
from posa_vla.calibration.adjustment import Estimate, Sightings
from posa_vla.calibration.fixed import fit_known
from posa_vla.calibration.pinhole import Pinhole, image_centre

SIZE = (640, 480)
LOW, HIGH = np.array([0.30, -0.30, 0.02]), np.array([0.65, 0.30, 0.30])
"""Metres: the box that the hand moves in."""


def fit_fixed(points, pixels, size, focal=None) -> Estimate | None:
    """The camera from points (N, 3) m in its mount's frame and their OpenCV pixels (N, 2)."""
    frames = np.broadcast_to(np.eye(4), (len(points), 4, 4))
    return fit_known(Sightings(pixels, frames, np.arange(len(points)), known=points), size, focal)


def looking(position, target, focal, size=SIZE) -> Pinhole:
    """A camera in the world that looks at a target, upright."""
    forward = np.subtract(target, position) / np.linalg.norm(np.subtract(target, position))
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return Pinhole(rotation, np.asarray(position, float), focal, image_centre(size))


def hand_camera(rng, focal=420.0) -> Pinhole:
    """A camera beside the fingers that looks along the hand, tilted."""
    turn = Rotation.from_euler("zx", [rng.uniform(-180, 180), rng.uniform(-25, 25)], degrees=True)
    return Pinhole(turn.as_matrix(), np.array([0.06, -0.02, -0.06]), focal, image_centre(SIZE))


def hand_views(rng, camera, points=4, per_point=10, tilt=0.3, height=0.03):
    """(world_from_ee (N, 4, 4), exact pixels (N, 2), landmark (N,), landmarks (K, 3)), all in view."""
    down = Rotation.from_euler("x", 180, degrees=True)
    poses, pixels, landmark, places = [], [], [], []
    for k in range(points):
        places.append(np.array([rng.uniform(0.35, 0.6), rng.uniform(-0.2, 0.2), height]))
        while len(poses) < (k + 1) * per_point:
            turn = Rotation.from_rotvec([*rng.normal(size=2) * tilt, rng.uniform(-1, 1)]) * down
            pose = homogeneous(turn.as_matrix(), places[k] + rng.uniform([-0.2, -0.2, 0.08], [0.2, 0.2, 0.3]))
            local = np.linalg.inv(pose)[:3] @ [*places[k], 1]
            pixel = camera.project(local)
            if camera.in_camera(local)[2] > 0.05 and (pixel > 0).all() and (pixel < SIZE).all():
                poses.append(pose)
                pixels.append(pixel)
                landmark.append(k)
    return np.array(poses), np.array(pixels), np.array(landmark), np.array(places)


def spoiled(rng, pixels, share=0.2, sigma=1.0, size=SIZE):
    """Pixels with noise, a share of them replaced by any pixel of the image; and which."""
    noisy = pixels + rng.normal(size=pixels.shape) * sigma
    wrong = rng.choice(len(pixels), round(share * len(pixels)), replace=False)
    noisy[wrong] = rng.uniform((0, 0), size, (len(wrong), 2))
    return noisy, wrong


def shaken(rng, poses, metres=0.002, degrees=0.2):
    """Poses (N, 4, 4) with noise in position and rotation."""
    noisy = poses.copy()
    noisy[:, :3, 3] += rng.normal(size=(len(poses), 3)) * metres
    turns = Rotation.from_rotvec(rng.normal(size=(len(poses), 3)) * degrees, degrees=True)
    noisy[:, :3, :3] = turns.as_matrix() @ noisy[:, :3, :3]
    return noisy
