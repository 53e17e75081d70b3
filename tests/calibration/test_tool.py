"""The hint that the marked point is not the recorded one."""

import numpy as np
import pytest
from camera_fakes import fit_fixed, looking
from scipy.spatial.transform import Rotation

from posa_vla.calibration.tool import find_tool

SIZE = (640, 480)
CAMERA = looking((1.1, 0.5, 0.9), (0.4, 0.4, 0.35), 600.0, SIZE)
TOOL = np.array([0.0, 0.0, 0.11])


def marks(rng, tilt, tool):
    """Hand poses (60, 4, 4) and the pixels of a point on it, 0.5 px of noise."""
    poses = np.tile(np.eye(4), (60, 1, 1))
    poses[:, :3, 3] = rng.uniform((0.25, 0.2, 0.2), (0.55, 0.6, 0.5), (60, 3))
    poses[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(60, 3)) * np.radians(tilt)).as_matrix()
    points = poses[:, :3, :3] @ tool + poses[:, :3, 3]
    return poses, CAMERA.project(points) + 0.5 * rng.normal(size=(60, 2))


def hint(tilt, tool):
    poses, pixels = marks(np.random.default_rng(0), tilt, tool)
    estimate = fit_fixed(poses[:, :3, 3], pixels, SIZE)
    return find_tool(poses, pixels, estimate, np.zeros(3), known_focal=False)


def test_a_flange_pose_is_told_from_the_fingertips():
    found = hint(tilt=15, tool=TOOL)
    assert np.abs(found.tool - TOOL).max() < 3 * found.sigma < 0.02
    assert found.after < 1 < found.before


@pytest.mark.parametrize(("tilt", "tool"), [(15, 0 * TOOL), (0, TOOL)])
def test_nothing_is_said_where_the_pose_is_right_or_the_hand_never_turns(tilt, tool):
    assert hint(tilt, tool) is None
