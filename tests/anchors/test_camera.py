"""Projection against OpenCV, and the conventions: half pixels, flips, mounts, behind the camera."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posa_vla.anchors.benchmark import opencv_error, random_camera
from posa_vla.anchors.camera import Camera
from posa_vla.anchors.pose import FrameError, Transform, homogeneous, world_from_ee
from posa_vla.errors import PosaError

PLAIN = Camera("front", 200, 100, 80.0, 80.0, 99.5, 49.5, "world", np.eye(4))


def random_hands(count: int, seed: int = 0) -> Transform:
    rng = np.random.default_rng(seed)
    return Transform("world", "ee", homogeneous(Rotation.random(count, rng).as_matrix(), rng.normal(size=(count, 3))))


def test_projection_agrees_with_opencv_on_10000_random_poses_and_cameras():
    assert opencv_error(10_000, seed=0) < 1e-3  # px; the bar


def test_opencv_agrees_through_the_hand_camera_too():
    rng = np.random.default_rng(1)
    hands = random_hands(50)
    for matrix in hands.matrix:
        camera = replace(random_camera(rng), mount="end_effector", flip_horizontal=False, flip_vertical=False)
        hand = Transform("world", "ee", matrix)
        extrinsic = camera.cam_from_mount @ np.linalg.inv(matrix)
        point = camera.unproject(np.array([0.3, 0.6, 0.7]), hand)
        pixel, _ = cv2.projectPoints(point, cv2.Rodrigues(extrinsic[:3, :3])[0], extrinsic[:3, 3], camera.matrix, None)
        expected = (pixel.ravel() + 0.5) / (camera.width, camera.height)
        np.testing.assert_allclose(camera.project(point, hand)[:2], expected, atol=1e-6)


def test_the_centre_of_pixel_k_is_k_plus_one_half():
    # K puts the principal point at OpenCV's 99.5, 49.5: the middle of 200 x 100 pixels.
    np.testing.assert_allclose(PLAIN.project(np.array([0, 0, 2.0])), [0.5, 0.5, 2.0])
    one_pixel_right = np.array([2.0 / 80, 0, 2.0])
    np.testing.assert_allclose(PLAIN.project(one_pixel_right)[0] * 200, 101)


def test_flips_mirror_the_image_after_projection():
    points = np.random.default_rng(2).uniform(-1, 1, (50, 3)) + np.array([0, 0, 3])
    u, v, depth = PLAIN.project(points).T
    flipped = replace(PLAIN, flip_horizontal=True, flip_vertical=True).project(points)
    np.testing.assert_allclose(flipped, np.stack([1 - u, 1 - v, depth], axis=1))
    image = np.zeros((100, 200))
    row, column = int(v[0] * 100), int(u[0] * 200)
    image[row, column] = 1
    mirrored = np.argwhere(image[::-1, ::-1])[0]
    assert mirrored.tolist() == [int(flipped[0, 1] * 100), int(flipped[0, 0] * 200)]


@pytest.mark.parametrize("mount", ["world", "end_effector"])
def test_unproject_undoes_project(mount):
    rng, hands = np.random.default_rng(3), random_hands(300)
    for _ in range(20):
        camera = replace(random_camera(rng), mount=mount)
        uvd = np.concatenate([rng.uniform(-0.5, 1.5, (300, 2)), rng.uniform(0.05, 5, (300, 1))], axis=1)
        points = camera.unproject(uvd, hands)
        np.testing.assert_allclose(camera.project(points, hands), uvd, atol=1e-9)


def test_the_hand_is_one_constant_pixel_of_its_own_camera():
    camera = replace(PLAIN, mount="end_effector", cam_from_mount=homogeneous(np.eye(3), np.array([0.02, 0, 0.1])))
    hands = random_hands(100)
    uvd = camera.project(hands.matrix[:, :3, 3], hands)
    np.testing.assert_allclose(uvd, np.broadcast_to(uvd[0], uvd.shape), atol=1e-9)
    np.testing.assert_allclose(uvd[0], [(0.02 / 0.1 * 80 + 100) / 200, 0.5, 0.1])


def test_behind_the_camera_is_minus_one_with_the_depth_kept():
    uvd = PLAIN.project(np.array([[0.1, 0.2, -1.5], [0.1, 0.2, 0.0], [0, 0, 1e-9]]))
    assert uvd[:, :2].tolist() == [[-1, -1]] * 3
    assert uvd[:, 2].tolist() == [-1.5, 0, 0]
    with pytest.raises(ValueError, match="behind"):
        PLAIN.unproject(uvd)


def test_frames_must_meet():
    camera = replace(PLAIN, mount="end_effector")
    with pytest.raises(PosaError, match="pass world_from_ee"):
        camera.project(np.zeros(3))
    with pytest.raises(FrameError, match="expected world_from_ee, got ee_from_world"):
        camera.project(np.zeros(3), random_hands(1).inverse())


def test_a_pose_row_becomes_world_from_ee():
    hand = world_from_ee(np.array([[1.0, 2, 3, np.sqrt(0.5), 0, 0, np.sqrt(0.5)]]))  # 90 degrees about z
    np.testing.assert_allclose(hand.apply(np.array([[1.0, 0, 0]])), [[1, 3, 3]], atol=1e-12)


@pytest.mark.parametrize("lens", [{"fx": np.nan}, {"fy": np.inf}, {"cx": np.nan}, {"fx": -500.0}, {"width": 0}])
def test_a_lens_that_would_give_no_finite_pixels_is_refused(lens):
    with pytest.raises(PosaError, match="must be positive"):
        replace(PLAIN, **lens)
