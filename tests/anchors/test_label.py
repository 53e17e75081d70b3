"""Labels of an episode against a plain loop that projects one point at a time."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.label import label_episode
from posa_vla.anchors.pose import Transform, homogeneous, world_from_ee

LOOK_DOWN = homogeneous(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.5]))
HEAD = Camera("head", 128, 96, 120.0, 121.0, 63.0, 47.0, "world", LOOK_DOWN, flip_vertical=True)
WRIST = replace(
    HEAD, name="wrist", mount="end_effector", cam_from_mount=homogeneous(np.eye(3), np.array([0, 0.05, 0.1]))
)


def episode(length: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(scale=0.03, size=(length, 3)), axis=0)
    tilt = Rotation.from_rotvec(rng.normal(scale=0.3, size=(length, 3)))
    wxyz = np.roll(tilt.as_quat(), 1, axis=1)
    return np.concatenate([walk, wxyz], axis=1).astype(np.float32)


def gripper(length: int, closes: int, opens: int) -> np.ndarray:
    values = np.zeros(length)
    values[closes:opens] = 1
    return values


def test_labels_equal_a_plain_loop():
    poses, command = episode(), gripper(40, closes=12, opens=30)
    labels = label_episode(poses, command, [HEAD, WRIST])
    assert labels.anchors.shape == (40, 2, 2, 4) and labels.anchors.dtype == np.float32
    hand = world_from_ee(poses).matrix
    for t in range(40):
        event = next((e for e in (12, 30) if e >= t), None)
        for c, camera in enumerate((HEAD, WRIST)):
            here = Transform("world", "ee", hand[t])
            end = camera.project(hand[t, :3, 3], here)
            np.testing.assert_allclose(labels.anchors[t, c, 1], [*end, 1], rtol=1e-5)
            expected = [0, 0, 0, -1] if event is None else [*camera.project(hand[event, :3, 3], here), 1]
            np.testing.assert_allclose(labels.anchors[t, c, 0], expected, rtol=1e-5)
        assert labels.steps_to_interaction[t, 0] == (-1 if event is None else event - t)


def test_at_the_event_both_anchors_are_one_point():
    labels = label_episode(episode(), gripper(40, 12, 30), [HEAD, WRIST])
    np.testing.assert_array_equal(labels.anchors[12, :, 0], labels.anchors[12, :, 1])
    np.testing.assert_array_equal(labels.anchors[30, :, 0], labels.anchors[30, :, 1])


def test_the_wrist_camera_sees_its_hand_at_one_place_and_the_target_move():
    labels = label_episode(episode(), gripper(40, 35, 40), [HEAD, WRIST])
    end, task = labels.anchors[:35, 1, 1], labels.anchors[:35, 1, 0]
    assert np.ptp(end, axis=0).max() < 1e-6
    assert np.ptp(task[:, :2], axis=0).min() > 0.01


def test_without_an_interaction_every_task_anchor_is_unknown_and_every_number_finite():
    labels = label_episode(episode(), np.zeros(40), [HEAD, WRIST])
    assert (labels.anchors[:, :, 0] == [0, 0, 0, -1]).all() and (labels.steps_to_interaction == -1).all()
    assert np.isfinite(labels.anchors).all() and (labels.anchors[:, :, 1, 3] == 1).all()


def test_a_point_behind_the_camera_is_known_and_says_so():
    poses = episode(10)
    poses[:, 2] = 2.0  # above the head camera at 1.5 m, which looks down
    labels = label_episode(poses, np.zeros(10), [HEAD])
    np.testing.assert_allclose(labels.anchors[:, 0, 1], [[-1, -1, -0.5, 1]] * 10, atol=1e-6)


def test_a_pose_for_each_gripper_value():
    with pytest.raises(ValueError, match="one pose for each of 9 gripper values"):
        label_episode(episode(10), np.zeros(9), [HEAD])
