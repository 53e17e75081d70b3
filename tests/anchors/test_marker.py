"""The rig against the simulator: its matrices, and where a ball near the hand is really drawn."""

from dataclasses import replace

import numpy as np
import pytest

from posa_vla.anchors.marker import marker_errors
from posa_vla.anchors.pose import world_from_ee
from posa_vla.rigs import load_rig
from posa_vla.rigs.simulators import TabletopScene
from posa_vla.sim.env import TabletopEnv

RIG = load_rig("tabletop")


@pytest.fixture(scope="module")
def env():
    env = TabletopEnv()
    yield env
    env.close()


def test_the_rig_equals_the_simulators_cameras_to_a_hundredth_of_a_pixel(env):
    rng = np.random.default_rng(0)
    for seed in range(3):
        env.reset(seed=seed)
        env.step(rng.uniform(-1, 1, 7))
        truth = env.ground_truth()
        assert tuple(truth.cameras) == RIG.camera_names
        hand = world_from_ee(truth.ee_pose)
        points = hand.apply(rng.uniform(-0.2, 0.2, (100, 3)))
        for camera in RIG.cameras:
            intrinsics, cam_from_world = truth.cameras[camera.name]
            in_camera = points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
            seen = in_camera[:, 2] > 0.05
            pixels = (in_camera @ intrinsics.T)[seen]
            expected = pixels[:, :2] / pixels[:, 2:] + 0.5
            found = camera.project(points, hand)[seen, :2] * env.image_size
            near = np.abs(expected - 64).max(axis=1) < 128
            assert near.sum() > 5
            assert np.abs(found - expected)[near].max() < 0.01


def test_a_ball_is_drawn_where_it_is_projected(env):
    errors = marker_errors(TabletopScene(env), RIG, states=40)
    for name, pixels in errors.pixels.items():
        assert len(pixels) == 40 and np.median(pixels) < 0.25 and pixels.max() < 1, name


def test_a_camera_off_by_a_pixel_and_a_half_is_noticed(env):
    shifted = [replace(camera, cx=camera.cx + 1.5) for camera in RIG.cameras]
    errors = marker_errors(TabletopScene(env), replace(RIG, cameras=tuple(shifted)), states=10)
    assert all(np.median(pixels) > 1 for pixels in errors.pixels.values())


@pytest.mark.slow
def test_a_ball_is_drawn_where_it_is_projected_at_1000_states(env):
    errors = marker_errors(TabletopScene(env), RIG, states=1000, seed=1)
    assert all(len(pixels) == 1000 and pixels.max() < 1 for pixels in errors.pixels.values())
