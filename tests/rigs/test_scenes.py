"""Scenes, positions without rotation, and what a camera's matrix and intrinsics may not be."""

import copy

import numpy as np
import pytest

from posa_vla.anchors.pose import world_from_ee
from posa_vla.errors import PosaError
from posa_vla.rigs import load_rig, parse_rig

PLACE, OTHER = np.eye(4).tolist(), np.diag([1.0, -1, -1, 1]).tolist()
CAMERA = {"name": "front", "width": 320, "height": 240, "fx": 300.0, "fy": 300.0, "cx": 159.5, "cy": 119.5}
CAMERA |= {"mount": "world"}
RIG = {
    "name": "mine",
    "cameras": [CAMERA],
    "pose": {"column": "ee_pose"},
    "gripper": {"command": {"column": "action", "index": 6, "open": -1.0, "closed": 1.0}},
    "scenes": [
        {"name": "left", "cam_from_mount": {"front": PLACE}, "tasks": ["Open the drawer."]},
        {"name": "right", "cam_from_mount": {"front": OTHER}, "episodes": [[10, 19], [30, 30]]},
    ],
}


def changed(**changes) -> dict:
    return {**copy.deepcopy(RIG), **changes}


def test_a_scene_is_chosen_by_sentence_or_number():
    rig = parse_rig(RIG)
    assert rig.for_episode(["open  the DRAWER"], 3).name == "mine/left"
    assert rig.for_episode(["anything"], 30).name == "mine/right"
    placed = rig.in_scene("right")
    np.testing.assert_array_equal(placed.camera("front").cam_from_mount, OTHER)
    assert placed.scenes == () and placed.for_episode(["anything"], 0) is placed


def test_a_camera_without_a_place_refuses_to_project():
    rig = parse_rig(RIG)
    assert not rig.camera("front").is_placed
    with pytest.raises(PosaError, match="stands elsewhere in each scene"):
        rig.camera("front").project(np.zeros(3))


@pytest.mark.parametrize(
    ("tasks", "episode", "message"),
    [
        (
            ["close it"],
            20,
            r"episode 20 \('close it'\) belongs to no scene of the rig 'mine', whose scenes are left, r",
        ),
        (["open the drawer"], 10, "belongs to the scenes left and right"),
    ],
)
def test_no_scene_or_two_are_errors(tasks, episode, message):
    with pytest.raises(PosaError, match=message):
        parse_rig(RIG).for_episode(tasks, episode)


def test_writing_scenes_out_and_reading_them_again_changes_nothing():
    written = parse_rig(RIG).to_dict()
    assert written["cameras"][0]["cam_from_mount"] is None
    assert parse_rig(written).to_dict() == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": []}, "'front': the field 'cam_from_mount' is missing in 'mine'"),
        ({"scenes": [{"name": "left", "cam_from_mount": {}}]}, "'cam_from_mount' is missing in 'mine/left'"),
        (
            {"scenes": [{"name": "a", "cam_from_mount": {"side": PLACE}}]},
            "unknown camera .*'side': choose one of front",
        ),
        ({"scenes": [RIG["scenes"][0], RIG["scenes"][0]]}, "different names"),
        ({"scenes": [RIG["scenes"][0], {**RIG["scenes"][0], "name": "b"}]}, "both name the task 'open the drawer'"),
        (
            {"scenes": [{**RIG["scenes"][1], "episodes": [[5, 3]]}]},
            r"scenes\[0\].*expected episodes as \[first, last\]",
        ),
        ({"scenes": "left"}, "scenes: expected a list"),
    ],
)
def test_each_mistake_in_scenes_is_named(changes, message):
    with pytest.raises(PosaError, match=message):
        parse_rig(changed(**changes))


def test_an_unknown_scene_lists_the_rigs_own():
    with pytest.raises(PosaError, match=r"unknown scene of rig 'libero': 'kitchen': choose one of floor, living_room"):
        load_rig("libero").in_scene("kitchen")


def matrix(rotation=None, translation=(0.1, 0.2, 0.3), last=(0, 0, 0, 1)) -> list:
    rows = np.eye(4)
    rows[:3, :3] = np.eye(3) if rotation is None else rotation
    rows[:3, 3] = translation
    rows[3] = last
    return rows.tolist()


@pytest.mark.parametrize(
    ("cam_from_mount", "message"),
    [
        (np.eye(3).tolist(), "its shape is 3x3"),
        (matrix(translation=(0.1, np.nan, 0)), "NaN"),
        (np.transpose(matrix()).tolist(), "transposed"),
        (matrix(last=(0, 0, 0, 2)), "its last row is another"),
        (matrix(rotation=np.eye(3) * 1000), "its axes are 1000 long instead of 1"),
        (matrix(rotation=np.eye(3) + 0.1), "not orthonormal"),
        (matrix(rotation=np.diag([-1.0, 1, 1])), "it mirrors .*flip_horizontal"),
        (matrix(translation=(850, 20, 600)), "1041 m long, as if it were in millimetres"),
    ],
)
def test_a_matrix_that_is_no_pose_is_explained(cam_from_mount, message):
    with pytest.raises(
        PosaError, match=rf"camera 'front': cam_from_mount must be a rigid 4x4 .* but {message}|{message}"
    ):
        parse_rig(changed(cameras=[{**CAMERA, "cam_from_mount": cam_from_mount}], scenes=[]))


@pytest.mark.parametrize("factor", [0.5, 2])
def test_intrinsics_of_another_image_size_are_noticed(factor):
    size = {"width": int(320 * factor), "height": int(240 * factor)}
    with pytest.raises(PosaError, match=r"principal point \(160, 120\) .* belonged to images of 320x240"):
        parse_rig(changed(cameras=[{**CAMERA, **size, "cam_from_mount": PLACE}], scenes=[]))


@pytest.mark.parametrize("size", [(1920, 1080), (960, 540), (1706, 960)])
def test_intrinsics_of_a_size_that_is_nearly_the_images_are_noticed(size):
    """3/2, 3/4 and 4/3 of 1280x720, by a lens whose principal point is a little off itself."""
    lens = {"width": size[0], "height": size[1], "fx": 900.0, "fy": 900.0, "cx": 652.0, "cy": 350.0}
    with pytest.raises(PosaError, match=r"principal point \(652, 350\) .* belonged to images of 1305x701"):
        parse_rig(changed(cameras=[{**CAMERA, **lens, "cam_from_mount": PLACE}], scenes=[]))


def test_a_crop_moves_the_principal_point_one_way_only():
    parse_rig(changed(cameras=[{**CAMERA, "cx": 40.0, "cam_from_mount": PLACE}], scenes=[]))


@pytest.mark.parametrize("principal", [(0.36, 0.64), (0.45, 0.33), (0.35, 0.29), (0.56, 0.57)])
def test_a_crop_from_elsewhere_or_a_lens_with_an_offset_passes(principal):
    at = {"cx": CAMERA["width"] * principal[0], "cy": CAMERA["height"] * principal[1]}
    parse_rig(changed(cameras=[{**CAMERA, **at, "cam_from_mount": PLACE}], scenes=[]))


def test_a_camera_that_follows_but_does_not_turn_ignores_the_rotation():
    camera = parse_rig(
        changed(cameras=[{**CAMERA, "mount": "end_effector_position", "cam_from_mount": PLACE}], scenes=[])
    ).cameras[0]
    rng = np.random.default_rng(0)
    poses = np.concatenate([rng.normal(size=(5, 3)), rng.normal(size=(5, 4))], axis=1)
    points = poses[:, :3] + [0.1, 0.1, 2.0]
    full, position = world_from_ee(poses), world_from_ee(poses[:, :3], "none")
    np.testing.assert_allclose(camera.project(points, full), camera.project(points, position))
    np.testing.assert_allclose(camera.project(points, full)[:, 2], 2.0)


def test_a_pose_without_rotation_fits_no_camera_that_turns():
    pose = {"column": "p", "rotation_format": "none"}
    hand = {**CAMERA, "mount": "end_effector", "cam_from_mount": PLACE}
    with pytest.raises(PosaError, match="'front' turns with the hand, but the pose has no rotation"):
        parse_rig(changed(pose=pose, cameras=[hand], scenes=[]))
    assert parse_rig(changed(pose=pose)).pose.indices == (0, 1, 2)


def test_metaworlds_two_rigs_have_the_same_corner():
    one, other = load_rig("metaworld").camera("image"), load_rig("metaworld_gripper").camera("corner2")
    np.testing.assert_array_equal(one.cam_from_mount, other.cam_from_mount)
    assert one.matrix.tolist() == other.matrix.tolist() and other.flip_horizontal and other.flip_vertical
