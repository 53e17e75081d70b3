"""posa-vla label: the new dataset, what stays as it was, and each kind of bad input."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from scipy.spatial.transform import Rotation
from toy_dataset import TASKS, make_dataset

from posa_vla import contract
from posa_vla.anchors.label import label_episode
from posa_vla.cli import main as posa_vla
from posa_vla.data.labelling import label_dataset, main
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig, parse_rig

TASK_SENTENCES = list(TASKS)
LOOK_DOWN = [[1.0, 0, 0, -0.4], [0, -1.0, 0, 0.4], [0, 0, -1.0, 1.5], [0, 0, 0, 1.0]]
ON_HAND = [[1.0, 0, 0, 0], [0, 1.0, 0, 0.05], [0, 0, 1.0, 0.1], [0, 0, 0, 1.0]]
INTRINSICS = {"width": 32, "height": 32, "fx": 30.0, "fy": 30.0, "cx": 15.5, "cy": 15.5}
RIG = {
    "name": "toy",
    "cameras": [
        {"name": "head", "mount": "world", "cam_from_mount": LOOK_DOWN, **INTRINSICS},
        {"name": "wrist", "mount": "end_effector", "cam_from_mount": ON_HAND, **INTRINSICS},
    ],
    "pose": {"column": contract.EE_POSE},
    "gripper": {
        "command": {"column": contract.ACTION, "index": 6, "open": -1.0, "closed": 1.0},
        "width": {"column": contract.STATE, "indices": [6, 7], "open": 0.08},
    },
}


def rig(**changes) -> Rig:
    return parse_rig({**RIG, **changes})


def edit(root: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Applies ``change`` to all columns as arrays and writes the table back, episodes as row groups."""
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    change(columns)
    arrays = [pa.array(columns[name].tolist(), type=table.schema.field(name).type) for name in table.column_names]
    table = pa.table(arrays, schema=table.schema)
    with pq.ParquetWriter(path, table.schema) as writer:
        for number in np.unique(columns["episode_index"]):
            writer.write_table(table.filter(pa.array(columns["episode_index"] == number)))


def close_in_the_middle(columns: dict[str, np.ndarray]) -> None:
    """Every episode closes at frame 6; the fingers stop at 3 cm; an episode with index 1 misses first."""
    late = columns["frame_index"] >= 6
    columns["action"][:, 6] = np.where(late, 1, -1)
    columns["observation.state"][:, 6:] = np.where(late, 0.015, 0.04)[:, None] * [1, -1]
    miss = (columns["episode_index"] == 1) & (columns["frame_index"] >= 1) & (columns["frame_index"] < 4)
    columns["action"][miss, 6] = 1
    columns["observation.state"][miss, 6:] = 0


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("label") / "source", episodes=3, labelled=False)
    edit(root, close_in_the_middle)
    (root / "README.md").write_text("about")
    return root


@pytest.fixture(scope="module")
def labelled(source, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("label") / "deep" / "labelled"
    label_dataset(source, rig(), output)
    return output


@pytest.fixture
def broken(source, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(source, tmp_path / "broken"))


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def column(root: Path, key: str) -> np.ndarray:
    return np.array(pq.read_table(root / "data/chunk-000/file-000.parquet")[key].to_pylist())


def test_lerobot_loads_it_with_the_new_columns_and_the_old_ones_unchanged(source, labelled):
    old, new = (LeRobotDataset("local/toy", root=root) for root in (source, labelled))
    assert len(new) == len(old) and new.meta.features[contract.ANCHORS]["names"] == ["head", "wrist"]
    assert new.meta.features[contract.ANCHORS]["shape"] == (2, 2, 4)
    for index in (0, 7, len(old) - 1):
        a, b = old[index], new[index]
        assert b[contract.ANCHORS].shape == (2, 2, 4) and str(b[contract.ANCHORS].dtype) == "torch.float32"
        assert b[contract.STEPS_TO_INTERACTION].numel() == 1
        for key in a:
            assert a[key] == b[key] if isinstance(a[key], str) else (a[key] == b[key]).all(), key


def test_the_columns_are_the_labels_of_each_episode(source, labelled):
    poses, episodes = column(source, contract.EE_POSE), column(source, "episode_index")
    action = column(source, contract.ACTION)
    width = np.abs(column(source, contract.STATE)[:, 6:]).sum(axis=1)
    for number in range(3):
        rows = episodes == number
        expected = label_episode(poses[rows], (action[rows, 6] + 1) / 2, rig().cameras, finger_width=width[rows])
        np.testing.assert_allclose(column(labelled, contract.ANCHORS)[rows], expected.anchors, atol=1e-6)
        steps = column(labelled, contract.STEPS_TO_INTERACTION)[rows]
        np.testing.assert_array_equal(steps, expected.steps_to_interaction[:, 0])
        assert steps[:7].tolist() == [6, 5, 4, 3, 2, 1, 0] and (steps[7:] == -1).all()


def test_provenance_says_what_made_the_labels(labelled):
    provenance = json.loads((labelled / contract.ANCHORS_FILE).read_text())
    assert parse_rig(provenance["rig"]).to_dict() == rig().to_dict()
    assert provenance["cameras"] == ["head", "wrist"] and provenance["detector"]["name"] == "gripper_command"
    counts = provenance["counts"]
    assert (counts["episodes"], counts["closes"], counts["openings"], counts["dropped_closes"]) == (3, 3, 0, 1)
    assert counts["frames_without_task_anchor"] == counts["frames"] - 3 * 7
    assert provenance["in_frame"]["head"]["end"] == 1.0


def test_everything_else_is_carried_over_and_the_source_is_as_before(source, tmp_path):
    before = digests(source)
    label_dataset(source, rig(), tmp_path / "out")
    assert digests(source) == before
    after = digests(tmp_path / "out")
    changed = {"meta/info.json", "data/chunk-000/file-000.parquet"}
    assert set(after) == set(before) | {contract.ANCHORS_FILE}
    assert all(after[name] == before[name] for name in set(before) - changed)
    assert contract.TASK_IDS_FILE in after and "README.md" in after
    assert os.listdir(tmp_path) == ["out"]


def test_each_episode_stays_one_row_group(source, labelled):
    for root in (source, labelled):
        assert pq.ParquetFile(root / "data/chunk-000/file-000.parquet").num_row_groups == 3


def test_images_in_the_table_are_carried_over_too(tmp_path):
    source = make_dataset(tmp_path / "source", episodes=2, length=8, labelled=False, use_videos=False)
    edit_free = tmp_path / "out"
    with pytest.raises(PosaError, match=r"runs from -0\.\d+ to 0\.\d+, but the rig says -90 is open and 90 is closed"):
        label_dataset(source, rig(gripper=command_of(index=0, open=-90.0, closed=90.0)), edit_free)
    label_dataset(source, rig(gripper=command_of(index=6, open=-0.5, closed=0.5)), edit_free)
    old, new = (LeRobotDataset("local/toy", root=root)[3] for root in (source, edit_free))
    assert (old["observation.images.wrist"] == new["observation.images.wrist"]).all()
    assert new[contract.ANCHORS].shape == (2, 2, 4)


def command_of(**source) -> dict:
    return {"command": {"column": contract.ACTION, **source}, "thresholds": {"min_steps": 1}}


def test_measured_fingers_take_the_place_of_a_missing_command(source, tmp_path):
    width_only = {"width": {"column": contract.STATE, "indices": [6, 7], "open": 0.08}, "thresholds": {}}
    width_only["thresholds"] = {"close_above": 0.5, "open_below": 0.3}
    provenance = label_dataset(source, rig(gripper=width_only), tmp_path / "out")
    assert provenance["detector"]["name"] == "gripper_width" and provenance["counts"]["closes"] == 3


def test_an_axis_angle_state_gives_the_same_hand_as_a_quaternion_column(source, tmp_path):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))

    def into_state(columns):
        columns[contract.STATE][:, :3] = columns[contract.EE_POSE][:, :3]
        columns[contract.STATE][:, 3:6] = 0  # the toy's hand does not turn

    edit(copy, into_state)
    pose = {"column": contract.STATE, "rotation": [3, 4, 5], "rotation_format": "axis_angle"}
    label_dataset(copy, rig(pose=pose), tmp_path / "state")
    label_dataset(copy, rig(), tmp_path / "column")
    np.testing.assert_allclose(
        column(tmp_path / "state", contract.ANCHORS), column(tmp_path / "column", contract.ANCHORS), atol=1e-6
    )


def test_a_simulated_rig_takes_any_size_of_the_same_proportions(source, tmp_path, labelled):
    double = {key: 2 * value for key, value in INTRINSICS.items()} | {"cx": 31.5, "cy": 31.5}
    cameras = [{**camera, **double} for camera in RIG["cameras"]]
    with pytest.raises(PosaError, match=r"calibrated for 64x64 images .* the dataset's are 32x32"):
        label_dataset(source, rig(cameras=cameras), tmp_path / "out")
    label_dataset(source, rig(cameras=cameras, any_image_size=True), tmp_path / "out")
    np.testing.assert_allclose(
        column(tmp_path / "out", contract.ANCHORS), column(labelled, contract.ANCHORS), atol=1e-6
    )


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
        (skipped_frame, "episode 0 has frame 6 where 5 was expected"),
    ],
)
def test_bad_numbers_are_named_and_nothing_is_written(broken, tmp_path, change, message):
    edit(broken, change)
    with pytest.raises(PosaError, match=message):
        label_dataset(broken, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken"]


HEAD, WRIST = RIG["cameras"]


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


def test_positions_alone_serve_a_camera_in_the_world(source, tmp_path, labelled):
    pose = {"column": contract.EE_POSE, "rotation_format": "none"}
    follows = {**WRIST, "mount": "end_effector_position"}
    label_dataset(source, rig(pose=pose, cameras=[HEAD, follows]), tmp_path / "out")
    # The toy's hand does not turn: then a camera that keeps its direction sees what one on the hand sees.
    np.testing.assert_allclose(
        column(tmp_path / "out", contract.ANCHORS), column(labelled, contract.ANCHORS), atol=1e-6
    )
    with pytest.raises(PosaError, match=r"'wrist' turns with the hand, but the pose has no rotation"):
        rig(pose=pose)


def test_the_tool_is_what_is_projected(source, tmp_path):
    tool = [0.02, -0.01, 0.1]
    moved = np.eye(4)
    moved[:3, 3] = tool
    pose = {"column": contract.EE_POSE, "tool": tool}
    label_dataset(source, rig(pose=pose, cameras=[HEAD, WRIST]), tmp_path / "out")
    # The toy's hand has the world's axes, so the same anchors come from cameras moved the other way.
    cameras = [{**HEAD, "cam_from_mount": (np.array(LOOK_DOWN) @ moved).tolist()}]
    cameras += [{**WRIST, "cam_from_mount": (np.array(ON_HAND) @ moved).tolist()}]
    label_dataset(source, rig(cameras=cameras), tmp_path / "same")
    np.testing.assert_allclose(
        column(tmp_path / "out", contract.ANCHORS), column(tmp_path / "same", contract.ANCHORS), atol=1e-5
    )


def test_scenes_place_the_camera_by_sentence_or_by_number(source, tmp_path):
    raised = [*LOOK_DOWN[:2], [0, 0, -1.0, 2.0], LOOK_DOWN[3]]
    head = {key: value for key, value in HEAD.items() if key != "cam_from_mount"}
    first, *others = (TASK_SENTENCES[number] for number in range(3))
    low = {"name": "low", "cam_from_mount": {"head": LOOK_DOWN}, "tasks": [f" {first.upper()}. "]}
    high = {"name": "high", "cam_from_mount": {"head": raised}, "tasks": others}
    both = rig(cameras=[head, WRIST], scenes=[low, high])
    provenance = label_dataset(source, both, tmp_path / "out")
    assert provenance["scenes"] == {"toy/low": 1, "toy/high": 2}
    anchors, episodes = column(tmp_path / "out", contract.ANCHORS), column(source, "episode_index")
    heights = column(source, contract.EE_POSE)[:, 2]
    expected = np.where(episodes == 0, 1.5, 2.0) - heights
    np.testing.assert_allclose(anchors[:, 0, contract.END_ANCHOR, 2], expected, atol=1e-6)

    by_number = [{**low, "tasks": [], "episodes": [[0, 0]]}, {**high, "tasks": [], "episodes": [[1, 2]]}]
    label_dataset(source, rig(cameras=[head, WRIST], scenes=by_number), tmp_path / "numbers")
    np.testing.assert_array_equal(column(tmp_path / "numbers", contract.ANCHORS), anchors)

    lacking = rig(cameras=[head, WRIST], scenes=[low, {**high, "tasks": []}])
    with pytest.raises(PosaError, match=r"episode 1 \(.*\) belongs to no scene of the rig 'toy'.*low, high: add"):
        label_dataset(source, lacking, tmp_path / "none")
    label_dataset(source, lacking.in_scene("high"), tmp_path / "chosen")
    depth = column(tmp_path / "chosen", contract.ANCHORS)[:, 0, contract.END_ANCHOR, 2]
    np.testing.assert_allclose(depth, 2.0 - heights, atol=1e-6)


def test_a_lone_camera_goes_by_lerobots_name_for_it(source, tmp_path):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    info = json.loads((copy / "meta/info.json").read_text())
    info["features"]["observation.image"] = info["features"].pop("observation.images.head")
    del info["features"]["observation.images.wrist"]
    (copy / "meta/info.json").write_text(json.dumps(info))
    provenance = label_dataset(copy, rig(cameras=[{**HEAD, "name": "image"}]), tmp_path / "out")
    assert provenance["cameras"] == ["image"]


def test_places_that_are_taken_or_wrong(source, labelled, tmp_path):
    with pytest.raises(PosaError, match="exists already"):
        label_dataset(source, rig(), labelled)
    with pytest.raises(PosaError, match=r"has 'observation\.anchors' already"):
        label_dataset(labelled, rig(), tmp_path / "out")
    with pytest.raises(PosaError, match="lies inside the dataset"):
        label_dataset(source, rig(), source / "labelled")
    with pytest.raises(PosaError, match="is no LeRobotDataset"):
        label_dataset(tmp_path, rig(), tmp_path / "out")


def test_damaged_datasets(broken, tmp_path):
    table, info = broken / "data/chunk-000/file-000.parquet", broken / "meta/info.json"
    content = json.loads(info.read_text())
    info.write_text(json.dumps({**content, "total_frames": 50}))
    with pytest.raises(PosaError, match="promises 50 frames, the tables hold 39"):
        label_dataset(broken, rig(), tmp_path / "out")
    info.write_text(json.dumps({**content, "codebase_version": "v2.1"}))
    with pytest.raises(PosaError, match=r"LeRobotDataset v3 at .*, found v2\.1: .*convert_dataset_v21_to_v30"):
        label_dataset(broken, rig(), tmp_path / "out")
    info.write_text(json.dumps({**content, "codebase_version": "v4.0"}))
    with pytest.raises(PosaError, match=r"found v4\.0: this package reads v3 only"):
        label_dataset(broken, rig(), tmp_path / "out")
    info.write_text(json.dumps(content))
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(PosaError, match=r"cannot read .*file-000\.parquet"):
        label_dataset(broken, rig(), tmp_path / "out")
    table.unlink()
    with pytest.raises(PosaError, match="holds no table"):
        label_dataset(broken, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken"]


def test_a_full_disk_leaves_nothing(source, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("posa_vla.data.rewriting.os.fsync", full)
    with pytest.raises(PosaError, match="No space left on device; nothing was left there"):
        label_dataset(source, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_the_output_is_absent_until_it_is_complete(source, tmp_path, monkeypatch):
    seen = []
    rename = Path.rename

    def watched(self, target):
        seen.append((Path(target).exists(), (self / "meta/info.json").exists(), (self / "videos").exists()))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    label_dataset(source, rig(), tmp_path / "out")
    assert seen[-1] == (False, True, True) and not any(exists for exists, _, _ in seen)


def test_without_hard_links_videos_are_copied(source, tmp_path, monkeypatch):
    def other_disk(*_args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("posa_vla.data.rewriting.os.link", other_disk)
    label_dataset(source, rig(), tmp_path / "out")
    videos = {name: digest for name, digest in digests(source).items() if name.startswith("videos/")}
    assert videos and videos.items() <= digests(tmp_path / "out").items()


def test_the_command(source, tmp_path, capsys):
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(RIG))
    flags = [f"--dataset.root={source}", f"--rig={tmp_path / 'toy.yaml'}", f"--output={tmp_path / 'out'}"]
    assert posa_vla(["label", *flags]) == 0
    assert "closes: 3" in capsys.readouterr().out and (tmp_path / "out" / contract.ANCHORS_FILE).is_file()
    assert posa_vla(["label", *flags]) == 2
    assert "exists already" in capsys.readouterr().err
    for missing, message in ((1, "--rig"), (2, "--output"), (0, "--dataset.root")):
        with pytest.raises(PosaError, match=message):
            main(flags[:missing] + flags[missing + 1 :])
