"""Rig files: what a good one gives, and that each kind of mistake is named."""

import copy

import numpy as np
import pytest
import yaml

from posa_vla.errors import PosaError
from posa_vla.rigs import load_rig, parse_rig, rig_names

CAMERA = {
    "name": "front",
    "width": 320,
    "height": 240,
    "fx": 300.0,
    "fy": 301.0,
    "cx": 159.5,
    "cy": 119.5,
    "mount": "world",
    "cam_from_mount": np.eye(4).tolist(),
}
RIG = {
    "name": "mine",
    "cameras": [CAMERA],
    "pose": {"column": "ee_pose"},
    "gripper": {"command": {"column": "action", "index": 6, "open": -1.0, "closed": 1.0}},
}


def changed(**changes):
    """RIG with dotted paths replaced; a value of None deletes the field."""
    rig = copy.deepcopy(RIG)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = rig
        for name in parents:
            target = target[int(name)] if isinstance(target, list) else target[name]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return rig


def test_a_file_gives_cameras_and_sources(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(RIG))
    rig = load_rig(tmp_path / "mine.yaml")
    assert rig.camera_names == ("front",) and rig.camera("front").fy == 301
    assert rig.pose.rotation == (3, 4, 5, 6) and rig.gripper.command.closed == 1
    assert rig.gripper.width is None and not rig.any_image_size


def test_writing_a_rig_out_and_reading_it_again_changes_nothing():
    rig = parse_rig(changed(gripper__width={"column": "q", "indices": [6, 7], "open": 0.08}))
    again = parse_rig(yaml.safe_load(yaml.safe_dump(rig.to_dict())))
    assert again.to_dict() == rig.to_dict() and rig.to_dict()["gripper"]["width"]["indices"] == [6, 7]


@pytest.mark.parametrize("content", [changed(gripper=None), {**RIG, "gripper": None}])
def test_a_robot_without_a_gripper_leaves_the_block_out(content):
    rig = parse_rig(content)
    assert rig.gripper is None and rig.to_dict()["gripper"] is None
    assert parse_rig(yaml.safe_load(yaml.safe_dump(rig.to_dict()))).to_dict() == rig.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose": None}, "'pose' is missing"),
        ({"cameras__0__fx": None}, r"cameras\[0\]: the field 'fx' is missing"),
        ({"cameras__0__fx": "3e2"}, r"cameras\[0\]\.fx: expected a finite number \(without quotes.*got '3e2'"),
        ({"cameras__0__width": 320.5}, r"cameras\[0\]\.width: expected a whole number, got 320\.5"),
        ({"cameras__0__name": 5}, r"cameras\[0\]\.name: expected text, got 5"),
        (
            {"cameras__0__flip_vertical": "false"},
            r"flip_vertical: expected true or false \(without quotes\), got 'false'",
        ),
        ({"cameras__0__cam_from_mount": [[1, 0], [0]]}, "cam_from_mount: expected four rows of four numbers"),
        (
            {"cameras__0__cam_from_mount": "camera.npy"},
            "cam_from_mount: expected four rows of four numbers, got 'camera",
        ),
        ({"pose__position": ["x", "y", "z"]}, r"pose\.position: expected a list, each item a whole number, got \['x'"),
        ({"pose__position": [0, 0, 2]}, r"different indices, counted from 0, got \[0, 0, 2, 3, 4, 5, 6\]"),
        ({"pose__rotation": [2, 3, 4, 5]}, r"different indices, counted from 0, got \[0, 1, 2, 2, 3, 4, 5\]"),
        ({"gripper__command__index": -1}, r"different indices, counted from 0, got \[-1\]"),
        ({"gripper__command__index": "gripper"}, r"command\.index: expected a whole number, got 'gripper'"),
        ({"gripper__command__index": True}, r"command\.index: expected a whole number, got True"),
        (
            {"gripper__command": {**RIG["gripper"]["command"], "open": None}},
            "gripper.command: the field 'open' is missing",
        ),
        ({"gripper__command__open": float("nan")}, r"command\.open: expected a finite number .* got nan"),
        ({"gripper__width": {"column": "q", "indices": [6, 6], "open": 0.08}}, r"different indices.* got \[6, 6\]"),
        (
            {"scenes": [{"name": "a", "cam_from_mount": {}, "tasks": "put it"}]},
            r"tasks: expected a list, each item text",
        ),
        (
            {"scenes": [{"name": "a", "cam_from_mount": {}, "episodes": [0, 9]}]},
            "episodes: expected a list, each item a",
        ),
        ({"scenes": [{"name": "a", "cam_from_mount": np.eye(4).tolist()}]}, "expected a mapping from cameras to 4x4"),
        ({"cameras__0__fx": -2.0}, "must be positive"),
        ({"cameras__0__focal": 3}, "unknown field of cameras.*'focal': choose one of .*fx"),
        ({"cameras__0__mount": "hand"}, "choose one of end_effector, end_effector_position, world"),
        ({"cameras__0__cam_from_mount": np.diag([1.0, 1, -1, 1]).tolist()}, "rigid 4x4"),
        ({"cameras__0__cam_from_mount": np.eye(3).tolist()}, "rigid 4x4"),
        ({"cameras": [CAMERA, CAMERA]}, "different names"),
        ({"cameras": []}, "different names"),
        ({"cameras": "front"}, "expected a list"),
        ({"pose__rotation_format": "euler"}, "choose one of axis_angle"),
        ({"pose__rotation": [3, 4, 5]}, "4 quaternion_wxyz indices, got 3 and 3"),
        ({"gripper": {}}, "got neither"),
        ({"gripper__command__closed": -1.0}, "must differ"),
        ({"gripper__thresholds": {"close_above": 0.2}}, "open_below < close_above"),
        ({"gripper__thresholds": {"min_steps": 0}}, "min_steps"),
    ],
)
def test_each_mistake_is_named(changes, message):
    with pytest.raises(PosaError, match=message):
        parse_rig(changed(**changes))


def test_an_inverted_matrix_is_taken_with_the_last_digits_of_its_last_row():
    matrix = np.eye(4)
    matrix[3] = [1e-17, 0, -1e-16, 1 - 1e-16]
    assert parse_rig(changed(cameras__0__cam_from_mount=matrix.tolist())).cameras[0].is_placed


def test_files_that_are_no_rig(tmp_path):
    with pytest.raises(PosaError, match=r"unknown rig 'kitchen': choose one of .*tabletop"):
        load_rig("kitchen")
    with pytest.raises(PosaError, match="no rig file"):
        load_rig(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("cameras: [")
    with pytest.raises(PosaError, match="cannot read the rig file"):
        load_rig(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(PosaError, match=r"list\.yaml: rig: expected a mapping, got list"):
        load_rig(tmp_path / "list.yaml")


def test_an_unknown_camera_lists_the_rigs_own():
    with pytest.raises(PosaError, match="'side': choose one of front"):
        parse_rig(RIG).camera("side")


@pytest.mark.parametrize("name", rig_names())
def test_every_rig_that_ships_can_be_loaded(name):
    rig = load_rig(name)
    assert rig.name == name and rig.cameras
