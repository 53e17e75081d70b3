"""Cameras as tensors: project ↔ unproject, agreement with the labels' camera, any window of the picture."""

import numpy as np
import pytest
import torch

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.pose import EE, WORLD, Transform, rotation_matrix
from posa_vla.data.augmentation import AugmentationConfig, Windows, augment_windows, centre_crop, uncrop_uv
from posa_vla.policy.geometry import RigGeometry, from_rig
from posa_vla.policy.geometry import rotation_matrix as on_tensors
from posa_vla.rigs import PoseSource, load_rig, parse_rig

WORKSPACE = [[0.3, -0.3, 0.0], [0.7, 0.3, 0.4]]
CAMERAS = ("head", "wrist")


def tabletop(**flips) -> tuple[RigGeometry, list[Camera]]:
    """The suite's rig; `flips` mirror its head camera's picture."""
    content = load_rig("tabletop").to_dict()
    content["cameras"][0] |= flips
    rig = parse_rig(content)
    return from_rig(rig, CAMERAS, WORKSPACE), list(rig.cameras)


def states(count: int, seed: int = 0) -> torch.Tensor:
    """The hand over the table, roughly pointing down: position, axis-angle, fingers."""
    rng = np.random.default_rng(seed)
    position = rng.uniform((0.4, -0.1, 0.2), (0.6, 0.1, 0.35), (count, 3))
    rotation = np.array([2.2, 2.2, 0.0]) + rng.uniform(-0.2, 0.2, (count, 3))
    return torch.tensor(np.concatenate([position, rotation, np.zeros((count, 2))], axis=1), dtype=torch.float32)


def hand_of(state: torch.Tensor) -> Transform:
    matrix = np.tile(np.eye(4), (len(state), 1, 1))
    matrix[:, :3, 3] = state[:, :3]
    matrix[:, :3, :3] = rotation_matrix(state[:, 3:6].numpy(), "axis_angle")
    return Transform(WORLD, EE, matrix)


def labels(points: np.ndarray, state: torch.Tensor, cameras: list[Camera]) -> torch.Tensor:
    """Anchors (B, C, 2, 4) of points (B, 2, 3), as posa-vla label makes them."""
    hand = hand_of(state)
    anchors = np.ones((len(points), len(cameras), 2, 4), dtype=np.float32)
    for c, camera in enumerate(cameras):
        for k in range(2):
            anchors[:, c, k, :3] = camera.project(points[:, k], hand)
    return torch.from_numpy(anchors)


def near_the_table(count: int) -> np.ndarray:
    return np.random.default_rng(3).uniform((0.4, -0.15, 0.0), (0.6, 0.15, 0.1), (count, 2, 3))


def whole(count: int) -> Windows:
    return Windows.centred((count, 2), (128, 128), None)


@pytest.mark.parametrize("flips", [{}, {"flip_horizontal": True}, {"flip_horizontal": True, "flip_vertical": True}])
def test_points_come_back_from_the_labels_of_either_camera(flips):
    geometry, cameras = tabletop(**flips)
    state, points = states(16), near_the_table(16)
    anchors = labels(points, state, cameras)
    views = geometry.views(state, whole(16))
    found = views.unproject(anchors[..., :2], anchors[..., 2])
    assert np.abs(found.numpy() - points[:, None]).max() < 2e-6


def test_project_is_the_inverse_and_agrees_with_the_labels():
    geometry, cameras = tabletop()
    state, points = states(8), near_the_table(8)
    views = geometry.views(state, whole(8))
    uv, depth = views.project(torch.tensor(points, dtype=torch.float32))
    expected = labels(points, state, cameras)
    torch.testing.assert_close(uv, expected[..., :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(depth, expected[..., 2], atol=1e-5, rtol=0)
    assert (views.unproject(uv, depth) - torch.tensor(points)[:, None]).abs().max() < 2e-6


@pytest.mark.parametrize("enabled", [True, False])
def test_any_window_gives_the_same_point(enabled):
    """Augmented labels (shifted, zoomed, cropped, off-centre sizes) lead to the point that the whole image has."""
    geometry, cameras = tabletop(flip_horizontal=True)
    state, points = states(32), near_the_table(32)
    anchors = labels(points, state, cameras)
    config = AugmentationConfig(enabled=enabled, output_size=(97, 112), shift=0.1, zoom=(0.7, 1.4))
    images = torch.zeros(32, 2, 3, 128, 128)
    generator = torch.Generator().manual_seed(5)
    _, moved, windows = augment_windows(images, anchors, config, generator)
    if enabled:
        assert (moved[..., 2] - anchors[..., 2]).abs().max() > 0.05  # the zoom is in the depths
    found = geometry.views(state, windows).unproject(moved[..., :2], moved[..., 2])
    assert np.abs(found.numpy() - points[:, None]).max() < 5e-6
    torch.testing.assert_close(windows.uncrop(moved[..., :2]), anchors[..., :2], atol=2e-6, rtol=0)


def test_the_centred_window_is_the_one_that_centre_crop_takes():
    geometry, cameras = tabletop()
    state, points = states(4), near_the_table(4)
    anchors = labels(points, state, cameras)
    size = (111, 96)  # odd: the window is half a pixel off the middle
    _, moved = centre_crop(torch.zeros(4, 2, 3, 128, 128), anchors, size)
    windows = Windows.centred((4, 2), (128, 128), size)
    torch.testing.assert_close(windows.uncrop(moved[..., :2]), uncrop_uv(moved[..., :2], (128, 128), size))
    found = geometry.views(state, windows).unproject(moved[..., :2], moved[..., 2])
    assert np.abs(found.numpy() - points[:, None]).max() < 2e-6


def test_the_size_of_the_pictures_does_not_matter():
    geometry, _ = tabletop()
    small, large = (Windows.centred((3, 2), (side, side), side * 7 // 8) for side in (128, 256))
    uv, depth = torch.rand(3, 2, 2, 2), torch.rand(3, 2, 2) + 0.2
    a, b = (geometry.views(states(3), windows).unproject(uv, depth) for windows in (small, large))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("form", "size"), [("axis_angle", 3), ("euler_xyz", 3), ("quaternion_wxyz", 4), ("quaternion_xyzw", 4)]
)
def test_rotations_agree_with_the_labels(form, size):
    rotation = np.random.default_rng(0).normal(size=(20, size))
    expected = rotation_matrix(rotation, form)
    assert np.abs(on_tensors(torch.tensor(rotation), form).numpy() - expected).max() < 1e-12


def test_a_camera_that_follows_without_turning_ignores_the_rotation():
    content = load_rig("tabletop").to_dict()
    content["cameras"][1] |= {"mount": "end_effector_position"}
    geometry = from_rig(parse_rig(content), CAMERAS, WORKSPACE)
    state = states(4)
    turned = state.clone()
    turned[:, 3:6] = 0
    views, same = geometry.views(state, whole(4)), geometry.views(turned, whole(4))
    torch.testing.assert_close(views.world_from_cam, same.world_from_cam)


def test_the_workspace_is_the_unit_box():
    views = tabletop()[0].views(states(1), whole(1))
    corners = torch.tensor(WORKSPACE)
    torch.testing.assert_close(views.normalise(corners), torch.tensor([[0.0] * 3, [1.0] * 3]))


def test_the_shipped_rigs_say_where_the_state_holds_the_pose():
    assert load_rig("tabletop").pose_in_state.rotation_format == "axis_angle"
    libero = load_rig("libero")
    assert isinstance(libero.pose, PoseSource) and libero.pose_in_state is libero.pose


def test_mixed_precision_moves_no_point():
    geometry, cameras = tabletop()
    state, points = states(16), near_the_table(16)
    anchors = labels(points, state, cameras)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = geometry.views(state, whole(16))
        found = views.unproject(anchors[..., :2], anchors[..., 2])
        uv, depth = views.project(torch.tensor(points, dtype=torch.float32))
    torch.testing.assert_close(views.world_from_cam, geometry.views(state, whole(16)).world_from_cam, atol=0, rtol=0)
    assert np.abs(found.numpy() - points[:, None]).max() < 2e-6
    torch.testing.assert_close(uv, anchors[..., :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(depth, anchors[..., 2], atol=1e-5, rtol=0)
