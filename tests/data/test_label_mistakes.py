"""posa-vla label: each kind of bad input is one sentence, and nothing is written."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from label_toy import HEAD, WRIST, command_of, edit, rig
from scipy.spatial.transform import Rotation

from posa_vla import contract
from posa_vla.anchors.detectors import DetectorConfig
from posa_vla.data.labelling import label_dataset
from posa_vla.errors import PosaError


@pytest.fixture
def broken(source, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(source, tmp_path / "broken"))


def nan_pose(columns):
    columns[contract.EE_POSE][columns["episode_index"] == 2, 1] = np.nan


def millimetres(columns):
    columns[contract.EE_POSE][:, :3] *= 1000


def no_quaternion(columns):
    columns[contract.EE_POSE][4, 3:] = [0.9, 0, 0, 0]


def no_finger(columns):
    columns[contract.STATE][5, 7] = np.nan


def always_open(columns):
    columns[contract.ACTION][:, 6] = -1


def grasps_nothing(columns):
    columns[contract.STATE][:, 6:] = 0


def width_in_millimetres(columns):
    columns[contract.STATE][:, 6:] *= 1000


def command_of_another_unit(columns):
    columns[contract.ACTION][:, 6] *= 100


def skipped_frame(columns):
    columns["frame_index"][columns["frame_index"] >= 5] += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan_pose, r"ee_pose holds NaN or infinity at episode 2, frame 0 \(14 frames"),
        (millimetres, r"as if it were in millimetres .* at episode 0, frame 0"),
        (no_quaternion, "quaternion that is not unit at episode 0, frame 4"),
        (no_finger, "finger width in observation.state is NaN or infinite at episode 0, frame 5"),
        (always_open, r"command action\[6\] is -1 in all 39 frames: the gripper never moves"),
        (grasps_nothing, "4 closes ended fully shut"),
        (width_in_millimetres, r"width in observation\.state goes up to 80, but the rig says 0\.08 m is open: .*1000"),
        (command_of_another_unit, "runs from -100 to 100, but the rig says -1 is open and 1 is closed, as if .* unit"),
        (skipped_frame, "episode 0 has frame 6 where 5 was expected"),
    ],
)
def test_bad_numbers_are_named_and_nothing_is_written(broken, tmp_path, change, message):
    edit(broken, change)
    with pytest.raises(PosaError, match=message):
        label_dataset(broken, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose": {"column": "tcp"}}, "EE pose from the column 'tcp', which the dataset lacks.*ee_pose"),
        ({"gripper": command_of(index=9, open=-1, closed=1)}, r"from action\[9\], but action has 7 numbers"),
        ({"cameras": [HEAD]}, "no camera 'wrist', which the dataset has"),
        ({"cameras": [HEAD, WRIST, {**HEAD, "name": "side"}]}, "no observation.images.side, a camera of the rig"),
        ({"cameras": [HEAD, {**WRIST, "width": 48}]}, "calibrated for 48x32 .* the dataset's are 32x32"),
    ],
)
def test_a_rig_that_does_not_fit_the_dataset_is_refused(source, tmp_path, changes, message):
    with pytest.raises(PosaError, match=message):
        label_dataset(source, rig(**changes), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def edit_features(root: Path, change: Callable[[dict], None]) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    change(info["features"])
    path.write_text(json.dumps(info))


def test_pictures_whose_names_are_no_cameras_are_named(broken, tmp_path):
    edit_features(broken, lambda features: features.update(wrist_image=features.pop("observation.images.wrist")))
    with pytest.raises(PosaError, match=r"its cameras are head; .* or rename wrist_image to observation\.images\.NAME"):
        label_dataset(broken, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken"]


@pytest.mark.parametrize("wrap", [lambda names: names, lambda names: {"axes": names}])
def test_numbers_that_are_called_roll_pitch_and_yaw_are_no_axis_and_angle(broken, tmp_path, wrap):
    names = wrap(["x", "y", "z", "roll", "pitch", "yaw", "unused"])
    edit_features(broken, lambda features: features[contract.EE_POSE].update(names=names))
    pose = {"column": contract.EE_POSE, "rotation": [3, 4, 5], "rotation_format": "axis_angle"}
    with pytest.raises(PosaError, match=r"takes roll, pitch, yaw of ee_pose as axis_angle, .* euler_xyz if"):
        label_dataset(broken, rig(pose=pose), tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken"]


def test_a_gripper_taken_from_a_joint_beside_it_is_refused(broken, tmp_path):
    """The sixth joint of an arm that swings between the rig's open and closed passes everything else."""

    def swing(columns):
        columns[contract.ACTION][:, 5] = columns[contract.ACTION][:, 6]

    edit(broken, swing)
    names = [*(f"joint{number}" for number in range(1, 7)), "gripper"]
    edit_features(broken, lambda features: features[contract.ACTION].update(names={"motors": names}))
    taken = rig(gripper=command_of(index=5, open=-1, closed=1))
    with pytest.raises(PosaError, match=r"command from action\[5\] \(joint6\), beside action\[6\] \(gripper\)"):
        label_dataset(broken, taken, tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken"]
    label_dataset(broken, rig(), tmp_path / "out")
    label_dataset(broken, taken, tmp_path / "end", detectors=DetectorConfig(("end",)))


def test_a_camera_that_follows_the_hand_without_turning_may_look_past_it(source, tmp_path, capsys):
    """What the inverse of a camera in the world would tell says nothing of one that moves with the hand."""
    behind = np.eye(4)
    behind[2, 3] = -0.1
    camera = {**WRIST, "mount": "end_effector_position", "cam_from_mount": behind.tolist()}
    label_dataset(source, rig(cameras=[HEAD, camera]), tmp_path / "out")
    assert "never in the view of camera 'wrist', what it reaches for" in capsys.readouterr().err


def test_a_hand_that_is_never_in_view_is_warned_about(source, tmp_path, capsys):
    far_aside = [[1.0, 0, 0, 9], [0, 1.0, 0, 0], [0, 0, 1.0, 1], [0, 0, 0, 1.0]]
    label_dataset(source, rig(cameras=[{**HEAD, "cam_from_mount": far_aside}, WRIST]), tmp_path / "out")
    assert "never in the view of camera 'head'" in capsys.readouterr().err


def looking_at(eye: list[float], target: list[float]) -> np.ndarray:
    """cam_from_world (4, 4) of a camera at ``eye``, OpenCV axes."""
    forward = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(forward, [0, 0, 1.0]) / np.linalg.norm(np.cross(forward, [0, 0, 1.0]))
    matrix = np.eye(4)
    matrix[:3, :3] = [right, np.cross(forward, right), forward]
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


TILTED = looking_at([1.6, 0.1, 1.0], [0.4, 0.4, 0.4])
READINGS = {
    "inverted: it seems to hold mount_from_cam": np.linalg.inv(TILTED),
    "in OpenGL's axes": np.diag([1.0, -1, -1, 1]) @ TILTED,
    "an inverted matrix in OpenGL's axes": np.linalg.inv(np.diag([1.0, -1, -1, 1]) @ TILTED),
}


@pytest.mark.parametrize("reading", READINGS)
def test_a_matrix_the_wrong_way_round_is_explained(source, tmp_path, reading):
    matrix = READINGS[reading]
    matrix[3] = [0, 0, 0, 1]
    camera = {**HEAD, "cam_from_mount": matrix.tolist()}
    with pytest.raises(PosaError, match=f"'head', but in 100% of the frames if cam_from_mount is {reading}"):
        label_dataset(source, rig(cameras=[camera, WRIST]), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def stray(frames: int, matrix: np.ndarray) -> Callable[[dict[str, np.ndarray]], None]:
    """The hand in so many frames of the first episode half a metre before a camera of this cam_from_world."""

    def change(columns):
        columns[contract.EE_POSE][:frames, :3] = np.linalg.inv(matrix)[:3] @ [0, 0, 0.5, 1]

    return change


def test_a_stray_frame_in_view_does_not_excuse_an_inverted_matrix(broken, tmp_path, capsys):
    matrix = READINGS["inverted: it seems to hold mount_from_cam"]
    matrix[3] = [0, 0, 0, 1]
    inverted = rig(cameras=[{**HEAD, "cam_from_mount": matrix.tolist()}, WRIST])
    edit(broken, stray(1, matrix))
    with pytest.raises(PosaError, match=r"is in the view of camera 'head' in 2\.6% .*, but in 9\d% .*inverted"):
        label_dataset(broken, inverted, tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken"]
    edit(broken, stray(10, matrix))  # a camera may look at a part of the workspace
    label_dataset(broken, inverted, tmp_path / "out")
    assert re.search(r"'head' in 25\.6% .*, but in 74% .* is inverted.*a part of", capsys.readouterr().err)
    right = [{**HEAD, "cam_from_mount": TILTED.tolist()}, WRIST]
    label_dataset(broken, rig(cameras=right), tmp_path / "right")
    assert "'head'" not in capsys.readouterr().err


def test_a_camera_that_hardly_sees_the_hand_is_warned_about(broken, tmp_path, capsys):
    far_aside = np.array([[1.0, 0, 0, 9], [0, 1.0, 0, 0], [0, 0, 1.0, 1], [0, 0, 0, 1.0]])
    edit(broken, stray(1, far_aside))
    label_dataset(broken, rig(cameras=[{**HEAD, "cam_from_mount": far_aside.tolist()}, WRIST]), tmp_path / "out")
    assert "in the view of camera 'head' in 2.6% of the frames: check its calibration\n" in capsys.readouterr().err


def reach_down_and_turn(form: str) -> Callable[[dict[str, np.ndarray]], None]:
    """A hand that points down, turns about the vertical and comes 48 cm down to close at frame 6."""

    def change(columns):
        frames = columns["frame_index"]
        turn = Rotation.from_rotvec(np.outer(1.6 + 0.1 * frames + 0.2 * columns["episode_index"], [0, 0, 1]))
        quaternion = (turn * Rotation.from_euler("x", np.pi)).as_quat()
        columns[contract.EE_POSE][:, 3:] = np.roll(quaternion, 1, axis=1) if form == "quaternion_wxyz" else quaternion
        columns[contract.EE_POSE][:, :3] = np.array([0.4, 0.4, 0.1]) + np.outer(np.abs(frames - 6), [0, 0, 0.08])

    return change


@pytest.mark.parametrize("form", ["quaternion_wxyz", "quaternion_xyzw"])
def test_quaternions_in_another_order_are_detected_by_the_camera_on_the_hand(source, tmp_path, form):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    edit(copy, reach_down_and_turn(form))
    other = "quaternion_xyzw" if form == "quaternion_wxyz" else "quaternion_wxyz"
    with pytest.raises(PosaError, match=f"but in 100% if the quaternions were {form}.*rotation_format: {other}"):
        label_dataset(copy, rig(pose={"column": contract.EE_POSE, "rotation_format": other}), tmp_path / "out")
    assert os.listdir(tmp_path) == ["copy"]
    label_dataset(copy, rig(pose={"column": contract.EE_POSE, "rotation_format": form}), tmp_path / "out")


def test_a_camera_on_the_hand_may_look_past_the_fingertips(source, tmp_path, capsys):
    """Its inverse would see the hand, so only what the hand reaches for tells that the matrix is right."""
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    edit(copy, reach_down_and_turn("quaternion_wxyz"))
    pose = {"column": contract.EE_POSE, "rotation_format": "quaternion_wxyz"}
    ahead, behind = np.eye(4), np.eye(4)
    ahead[2, 3] = -0.03  # the fingertips are 3 cm behind it
    label_dataset(copy, rig(cameras=[HEAD, {**WRIST, "cam_from_mount": ahead.tolist()}], pose=pose), tmp_path / "out")
    assert "'wrist', what it reaches for in 100% of the frames" in capsys.readouterr().err
    behind[:3, :3] = Rotation.from_euler("x", 40, degrees=True).as_matrix()
    behind[2, 3] = 0.5  # the fingertips are half a metre ahead of it
    matrix = [*np.linalg.inv(behind)[:3].tolist(), [0, 0, 0, 1]]
    with pytest.raises(PosaError, match="'wrist', but in 100% of the frames if cam_from_mount is inverted"):
        label_dataset(copy, rig(cameras=[HEAD, {**WRIST, "cam_from_mount": matrix}], pose=pose), tmp_path / "swapped")


def test_open_and_closed_exchanged_are_doubted(source, tmp_path, capsys):
    label_dataset(source, rig(), tmp_path / "right")
    assert "begins and ends closed" not in capsys.readouterr().err
    wrong = copy_with_short_grasps(source, tmp_path / "copy")
    label_dataset(wrong, rig(), tmp_path / "out")
    warning = capsys.readouterr().err
    assert "begins and ends closed in 3 of 3 episodes" in warning
    assert "either the arm rests with closed fingers, and all is well, or open and closed are exchanged" in warning
    assert "posa-vla inspect" in warning and "exchange the two only if it reads 0 there" in warning


def test_fingers_whose_rig_opens_them_much_too_far_never_turn(source, tmp_path):
    width_only = {"width": {"column": contract.STATE, "indices": [6, 7], "open": 0.8}}
    with pytest.raises(
        PosaError, match=r"the finger width .* runs from 0 to 0\.08, but the rig says 0\.8 is open .*never"
    ):
        label_dataset(source, rig(gripper=width_only), tmp_path / "out")


def copy_with_short_grasps(source: Path, root: Path) -> Path:
    """Open in frames 4 to 7 only, as the grasps of others look where the rig's open is their closed."""
    copy = Path(shutil.copytree(source, root))

    def change(columns):
        frames = columns["frame_index"]
        columns[contract.ACTION][:, 6] = np.where((frames >= 4) & (frames < 8), -1, 1)

    edit(copy, change)
    return copy


@pytest.mark.parametrize("form", ["axis_angle", "euler_xyz"])
def test_a_quaternion_read_as_angles_is_refused(source, tmp_path, form):
    pose = {"column": contract.EE_POSE, "rotation_format": form}
    with pytest.raises(PosaError, match=r"ee_pose\[3\] to \[6\] are a unit quaternion in every frame"):
        label_dataset(source, rig(pose=pose), tmp_path / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", ["axis_angle", "euler_xyz"])
def test_angles_in_degrees_are_refused(source, tmp_path, form):
    def downwards(columns):
        columns[contract.STATE][:, :3] = columns[contract.EE_POSE][:, :3]
        columns[contract.STATE][:, 3:6] = (180, 0, 90)

    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    edit(copy, downwards)
    pose = {"column": contract.STATE, "rotation": [3, 4, 5], "rotation_format": form}
    with pytest.raises(PosaError, match=r"has a rotation of over one turn \(expected radians\)"):
        label_dataset(copy, rig(pose=pose), tmp_path / "out")


def test_a_pose_in_the_state_that_is_another_one_is_refused(source, tmp_path):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))

    def turned_about_the_vertical(columns):
        state, pose = columns[contract.STATE], columns[contract.EE_POSE]
        state[:, :3], state[:, 3:6] = pose[:, :3], [0, 0, 1.5]
        pose[:, 3:] = [np.cos(0.75), 0, 0, np.sin(0.75)]

    edit(copy, turned_about_the_vertical)
    right = {"column": contract.STATE, "rotation": [3, 4, 5], "rotation_format": "axis_angle"}
    label_dataset(copy, rig(state_pose=right), tmp_path / "out")
    with pytest.raises(
        PosaError, match=r"state_pose is 0\.0 cm and 86 degrees away from its pose .* correct state_pose"
    ):
        label_dataset(copy, rig(state_pose={**right, "rotation": [4, 6, 3]}), tmp_path / "turned")
    with pytest.raises(PosaError, match=r"state_pose is .* cm and 0 degrees away"):
        label_dataset(copy, rig(state_pose={**right, "position": [1, 2, 0]}), tmp_path / "moved")
    with pytest.raises(PosaError, match=r"EE pose in the state from observation\.state\[9\], but .* has 8 numbers"):
        label_dataset(copy, rig(state_pose={**right, "position": [0, 1, 9]}), tmp_path / "absent")
    assert sorted(os.listdir(tmp_path)) == ["copy", "out"]
