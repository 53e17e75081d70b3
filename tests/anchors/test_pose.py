"""Rigid transforms: frames that do not meet raise, group axioms hold, rotations agree with OpenCV and SciPy."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posa_vla.anchors.pose import FrameError, Transform, expect_frames, rotation_matrix, world_from_ee
from posa_vla.errors import PosaError

RNG = np.random.default_rng(0)


def random_transform(dst: str, src: str, count: int = 5) -> Transform:
    poses = np.concatenate([RNG.normal(size=(count, 3)), Rotation.random(count, RNG).as_quat()], axis=1)
    return Transform(dst, src, world_from_ee(poses, "quaternion_xyzw").matrix)


def test_frames_that_do_not_meet_raise():
    a_from_b, c_from_d = random_transform("a", "b"), random_transform("c", "d")
    with pytest.raises(FrameError, match="a_from_b @ c_from_d"):
        a_from_b @ c_from_d
    with pytest.raises(FrameError, match="expected world_from_ee, got a_from_b"):
        expect_frames(a_from_b, "world", "ee")


def test_composition_is_associative_and_inverse_undoes():
    a_from_b, b_from_c, c_from_d = (random_transform(*names) for names in ("ab", "bc", "cd"))
    left, right = (a_from_b @ b_from_c) @ c_from_d, a_from_b @ (b_from_c @ c_from_d)
    assert left.name == right.name == "a_from_d"
    np.testing.assert_allclose(left.matrix, right.matrix, atol=1e-12)
    same = a_from_b @ a_from_b.inverse()
    assert same.name == "a_from_a"
    np.testing.assert_allclose(same.matrix, np.broadcast_to(np.eye(4), same.matrix.shape), atol=1e-12)
    points = RNG.normal(size=(5, 3))
    np.testing.assert_allclose((a_from_b @ b_from_c).apply(points), a_from_b.apply(b_from_c.apply(points)), atol=1e-12)


def test_rotations_agree_with_opencv_and_scipy():
    vectors = np.concatenate([RNG.normal(size=(200, 3)), np.zeros((1, 3)), RNG.normal(size=(20, 3)) * 1e-9])
    expected = np.stack([cv2.Rodrigues(vector)[0] for vector in vectors])
    np.testing.assert_allclose(rotation_matrix(vectors, "axis_angle"), expected, atol=1e-12)
    rotations = Rotation.random(200, RNG)
    xyzw = rotations.as_quat()
    np.testing.assert_allclose(rotation_matrix(xyzw, "quaternion_xyzw"), rotations.as_matrix(), atol=1e-12)
    wxyz = np.roll(xyzw, 1, axis=1)
    np.testing.assert_allclose(rotation_matrix(wxyz, "quaternion_wxyz"), rotations.as_matrix(), atol=1e-12)
    angles = RNG.uniform(-np.pi, np.pi, (200, 3))
    fixed_axes = Rotation.from_euler("xyz", angles)  # small letters: SciPy's axes that stay
    np.testing.assert_allclose(rotation_matrix(angles, "euler_xyz"), fixed_axes.as_matrix(), atol=1e-12)


def test_a_rotation_of_the_wrong_kind_or_size_is_refused():
    with pytest.raises(PosaError, match="choose one of axis_angle, euler_xyz, none, quaternion_wxyz, quaternion_xyzw"):
        rotation_matrix(np.zeros((2, 4)), "euler")
    with pytest.raises(ValueError, match=r"expected axis_angle \(\.\.\., 3\), got \(2, 4\)"):
        rotation_matrix(np.zeros((2, 4)), "axis_angle")
