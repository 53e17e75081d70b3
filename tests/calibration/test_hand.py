"""Cameras on the hand without a board: camera and resting points together."""

import numpy as np
import pytest
from camera_fakes import SIZE, hand_camera, hand_views, shaken, spoiled

from posa_vla.calibration.hand import fit_hand


@pytest.mark.parametrize("seed", [0, 1])
def test_exact_marks_give_camera_and_points(seed):
    rng = np.random.default_rng(seed)
    camera = hand_camera(rng)
    poses, pixels, landmark, places = hand_views(rng, camera, points=3, per_point=8)
    estimate = fit_hand(poses, pixels, landmark, SIZE)
    assert abs(estimate.camera.focal - camera.focal) < 0.01
    assert np.abs(estimate.camera.position - camera.position).max() < 1e-4
    assert np.abs(estimate.landmarks - places).max() < 1e-4


def test_a_fifth_of_wrong_marks_does_not_matter():
    rng = np.random.default_rng(5)
    camera = hand_camera(rng)
    poses, pixels, landmark, _ = hand_views(rng, camera)
    marked, wrong = spoiled(rng, pixels)
    estimate = fit_hand(shaken(rng, poses), marked, landmark, SIZE)
    assert not estimate.trusted[wrong].any()
    assert np.linalg.norm(estimate.camera.position - camera.position) < 0.02
    assert abs(estimate.camera.focal / camera.focal - 1) < 0.05


def test_a_hand_that_turns_about_one_axis_leaves_the_distance_along_it_open_unless_the_height_is_known():
    rng = np.random.default_rng(6)
    camera = hand_camera(rng)
    poses, pixels, landmark, _ = hand_views(rng, camera, tilt=0.0)
    marked, _ = spoiled(rng, pixels, share=0)
    shaky = shaken(rng, poses, degrees=0)
    open_height = fit_hand(shaky, marked, landmark, SIZE)
    known_height = fit_hand(shaky, marked, landmark, SIZE, height=0.03)
    sigma = [np.sqrt(estimate.covariance[5, 5]) for estimate in (open_height, known_height)]
    assert sigma[0] > 0.5  # metres along the axis, which is the hand's z
    assert sigma[1] < 0.01
    assert abs(known_height.camera.position[2] - camera.position[2]) < 0.02
