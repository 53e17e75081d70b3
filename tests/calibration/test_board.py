"""Cameras from a board: exact without noise, robust to wrong poses, honest, and refused where nothing says where."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posa_vla.calibration.board import calibrate_board, gather, leave_one_out
from posa_vla.calibration.boards import View, detect, parse_board
from posa_vla.calibration.drawing import draw
from posa_vla.calibration.handeye import INTRINSIC, SHARED, Chain, PoseNoise, Problem, adjust, pose_errors, start
from posa_vla.calibration.intrinsics import (
    Intrinsics,
    _check_lens,
    board_pose,
    check_focal,
    distorted,
    estimate_intrinsics,
)
from posa_vla.calibration.simulated import SIZE, exact_views, placements, recorded, show
from posa_vla.errors import PosaError

BOARD = parse_board("charuco:5x4:40mm:30mm:4x4_50")
PLACEMENTS = placements()
WORLD, HAND = PLACEMENTS[0], PLACEMENTS[3]


def session(placement, count=16, seed=0):
    return show(placement, BOARD, count, np.random.default_rng(seed))


def noisy(views, rng, pixels):
    return [View(view.name, view.corners, view.pixels + rng.normal(size=view.pixels.shape) * pixels) for view in views]


@pytest.mark.parametrize(
    "text", ["charuco:6x5:40mm:30mm:4x4_50", "charuco_legacy:6x6:40mm:30mm:4x4_50", "chessboard:6x5:30mm"]
)
def test_corners_in_drawn_pictures_lie_where_the_lens_shows_them(text):
    board, rng = parse_board(text), np.random.default_rng(0)
    lens, rays = WORLD.lens, WORLD.lens.rays()
    for pose in show(WORLD, board, 3, rng).cam_from_board:
        view = detect(board, draw(board, rays, pose, rng), "drawn")
        assert view is not None and len(view.corners) >= 0.6 * len(board.corners())
        points = view.corners @ pose[:3, :3].T + pose[:3, 3]
        errors = view.pixels - distorted(points, lens.matrix, lens.distortion)
        assert np.abs(errors.mean(axis=0)).max() < 0.1  # no half pixel
        assert np.linalg.norm(errors, axis=1).max() < 0.5


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.name)
def test_exact_views_give_the_exact_camera(placement):
    shown = session(placement)
    result = calibrate_board(exact_views(placement, BOARD, shown), SIZE, shown.world_from_ee, placement.mount)
    assert np.abs(result.chain.first - placement.cam_from_mount).max() < 1e-5
    assert np.abs(result.chain.last - shown.last).max() < 1e-5
    assert np.abs(result.chain.matrix - placement.lens.matrix).max() < 0.01
    assert np.abs(result.chain.distortion - placement.lens.distortion).max() < 1e-4
    assert result.reprojection < 1e-3 and result.metres.max() < 1e-4 and result.degrees.max() < 1e-2


@pytest.mark.parametrize("placement", [WORLD, HAND], ids=["world", "hand"])
def test_a_board_printed_in_another_size_is_noticed(placement):
    rng = np.random.default_rng(2)
    shown = session(placement, 24)
    views = noisy(exact_views(placement, BOARD, shown), rng, 0.1)
    poses = recorded(shown.world_from_ee, 0.002, 0.2, rng)
    right = calibrate_board(views, SIZE, poses, placement.mount)
    assert not right.is_scaled and abs(right.scale - 1) < 3 * right.sigma_scale
    small, tiny = ([View(view.name, size * view.corners, view.pixels) for view in views] for size in (0.97, 0.85))
    result = calibrate_board(small, SIZE, poses, placement.mount)
    assert result.is_scaled and abs(result.scale - 1 / 0.97) < 0.008
    with pytest.raises(PosaError, match=r"if the board is 1\.1\d times as large as described"):
        calibrate_board(tiny, SIZE, poses, placement.mount)


@pytest.mark.parametrize("placement", [WORLD, HAND], ids=["world", "hand"])
def test_wrong_poses_and_a_wrong_picture_are_left_out(placement):
    rng = np.random.default_rng(1)
    shown = session(placement, 24)
    views = noisy(exact_views(placement, BOARD, shown), rng, 0.3)
    poses = recorded(shown.world_from_ee, 0.002, 0.2, rng)
    poses[[3, 11]] = recorded(poses[[3, 11]], 0.05, 10, rng)
    views[7] = View("07.png", views[7].corners, rng.permutation(views[7].pixels))
    views[9] = None
    result = calibrate_board(views, SIZE, poses, placement.mount)
    assert not result.used[[3, 7, 9, 11]].any() and result.used.sum() >= 19
    assert len(result.metres) == len(result.degrees) == result.used.sum()
    place = np.linalg.inv(result.chain.first)[:3, 3] - np.linalg.inv(placement.cam_from_mount)[:3, 3]
    assert np.linalg.norm(place) < 0.006
    assert result.reprojection < 0.6


def test_leave_one_out_is_what_a_calibration_without_the_view_says():
    rng = np.random.default_rng(2)
    shown = session(WORLD, 12)
    views = noisy(exact_views(WORLD, BOARD, shown), rng, 0.3)
    poses = recorded(shown.world_from_ee, 0.002, 0.2, rng)
    data = gather(views, poses, np.ones(12, bool), "world", PoseNoise())
    chain, residuals, jacobian = adjust(start(data, estimate_intrinsics(views, SIZE)), data)
    metres, degrees = leave_one_out(chain, data, residuals, jacobian)
    lens = Intrinsics(chain.matrix, chain.distortion, np.ones(12, bool))
    for left_out in (0, 5):
        others = np.arange(12) != left_out
        other = Chain(chain.matrix, chain.distortion, chain.first, chain.last, chain.corrections[others])
        for _ in range(4):  # Gauss-Newton with the lens kept, to the end
            problem, step = Problem(other, data.chosen(others)), np.zeros(SHARED + 66)
            errors = problem.residuals(step)
            weights = (1 + errors**2) ** -0.25
            slopes = (weights[:, None] * problem.jacobian(step))[:, INTRINSIC:]
            step[INTRINSIC:] = np.linalg.lstsq(slopes, -weights * errors, rcond=None)[0]
            other = other.moved(step)
        alone = data.chosen(~others)
        distance, angle = pose_errors(alone, other, board_pose(alone.views[0], lens)[None])
        assert metres[left_out] == pytest.approx(distance[0], abs=2e-4)
        assert degrees[left_out] == pytest.approx(angle[0], abs=0.02)


def test_the_promised_error_is_the_true_one():
    rng = np.random.default_rng(3)
    true, promised = [], []
    for seed in range(6):
        shown = session(HAND, 14, seed)
        views = noisy(exact_views(HAND, BOARD, shown), rng, 0.3)
        result = calibrate_board(views, SIZE, recorded(shown.world_from_ee, 0.002, 0.3, rng), "end_effector")
        place = np.linalg.inv(result.chain.first)[:3, 3] - np.linalg.inv(HAND.cam_from_mount)[:3, 3]
        true.append(place)
        promised.append(result.sigma_metres)
    assert 0.5 < np.sqrt(np.mean(np.square(true)) / np.mean(np.square(promised))) < 2


def mistakes(placement):
    """What was done wrong -> (views, world_from_ee, mount, words of the refusal)."""
    rng = np.random.default_rng(4)
    shown = session(placement)
    views, poses = exact_views(placement, BOARD, shown), recorded(shown.world_from_ee, 0.001, 0.1, rng)
    mount = placement.mount
    other = "end_effector" if mount == "world" else "world"
    swapped = poses.copy()
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    swapped[:, :3, :3] = Rotation.from_quat(quaternions).as_matrix()
    still = [
        view and View(view.name, views[0].corners, views[0].pixels + rng.normal(size=(12, 2)) * 0.05) for view in views
    ]
    yield "mount", views, poses, other, f"if the camera's --mount is {mount}"
    yield "inverse", views, np.linalg.inv(poses), mount, "ee_from_world instead of world_from_ee"
    yield "order", views, swapped, mount, "quaternions' numbers are"
    yield "predecessor", views, np.roll(poses, -1, axis=0), mount, "predecessor's pose"
    yield "shuffled", views, rng.permutation(poses), mount, "in the order of the pictures"
    yield "few", [*views[:4], *[None] * 12], poses, mount, "found in 4 of 16 pictures, expected at least 6"
    yield "none", [None] * 16, poses, mount, "found in none of 16 pictures"
    yield "still", still, poses, mount, "uncertain|as if it were fixed to the camera"


@pytest.mark.parametrize("placement", [WORLD, HAND], ids=["world", "hand"])
def test_usual_mistakes_are_named(placement):
    for name, views, poses, mount, words in mistakes(placement):
        with pytest.raises(PosaError, match=words) as error:
            calibrate_board(views, SIZE, poses, mount)
        assert "\n" not in str(error.value), name


@pytest.mark.parametrize("placement", [WORLD, HAND], ids=["world", "hand"])
def test_turns_about_one_axis_do_not_determine_the_camera(placement):
    shown = session(placement, 10)
    poses = shown.world_from_ee.copy()
    turns = Rotation.from_euler("z", np.linspace(-60, 60, 10)[:, None], degrees=True).as_matrix()
    poses[:, :3, :3] = turns @ poses[0, :3, :3]
    with pytest.raises(PosaError, match=r"turned by \d+\.\d, 0\.0 and 0\.0 degrees .* along the first axis"):
        calibrate_board(exact_views(placement, BOARD, shown), SIZE, poses, placement.mount)


def test_a_board_seen_from_the_front_only_leaves_the_focal_length_open():
    rng, views = np.random.default_rng(5), []
    for number in range(8):
        turn = Rotation.from_euler("z", 40 * number, degrees=True).as_matrix()
        points = (BOARD.corners() - BOARD.corners().mean(axis=0)) @ turn.T + rng.uniform(-0.05, 0.05, 3) + [0, 0, 0.5]
        pixels = distorted(points, WORLD.lens.matrix, np.zeros(4)) + rng.normal(size=(len(points), 2)) * 0.3
        views.append(View(str(number), BOARD.corners(), pixels))
    with pytest.raises(PosaError, match=r"focal length open \(fx \d+, fy \d+ px .* seen from the front"):
        estimate_intrinsics(views, SIZE)
    check_focal(0.019, 30)
    with pytest.raises(PosaError, match=r"uncertain by 3%.* at most 30 degrees"):
        check_focal(0.03, 30)


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.name)
def test_pictures_resized_without_their_proportions_are_named(placement):
    rng, scale = np.random.default_rng(6), np.array([224 / SIZE[0], 224 / SIZE[1]])
    views = noisy(exact_views(placement, BOARD, session(placement, 24)), rng, 0.3)
    squashed = [View(view.name, view.corners, (view.pixels + 0.5) * scale - 0.5) for view in views]
    with pytest.raises(PosaError, match=r"squashed: fx \d+, fy \d+ px for 224x224 pictures, a ratio of 0\.7\d .* kept"):
        estimate_intrinsics(squashed, (224, 224))


def test_a_ratio_that_the_views_leave_open_has_two_causes():
    matrix = np.diag([460.0, 400.0, 1.0])
    with pytest.raises(PosaError, match=r"seen from the front; .* near and far, and take pictures whose proportions"):
        _check_lens(matrix, 0.12, SIZE)
    with pytest.raises(PosaError, match="squashed"):
        _check_lens(matrix, 0.02, SIZE)
    _check_lens(np.diag([420.0, 400.0, 1.0]), 0.02, SIZE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("charuco:7x5:30mm", "expected charuco:7x5"),
        ("chessboard:9x6:25mm:20mm:4x4_50", "expected charuco:7x5"),
        ("chessboard:9x7:25mm", "upside down"),
        ("chessboard:2x5:25mm", "at least 3x3"),
        ("charuco:7x5:30mm:31mm:5x5_100", "smaller than its square"),
        ("charuco:7x5:30mm:22mm:5x5_99", "5x5_100"),
        ("charuco:7x5:30.0.1mm:22mm:5x5_100", "expected charuco:7x5"),
        ("chessboard:9x6:.mm", "expected charuco:7x5"),
        ("charuco:3x3:30mm:22mm:4x4_50", "4 inner corners"),
        ("charuco:12x9:30mm:22mm:4x4_50", "hold 54 markers, the dictionary 4x4_50 has only 50"),
    ],
)
def test_a_board_that_is_none_is_refused(text, words):
    with pytest.raises(PosaError, match=words):
        parse_board(text)
