"""posa-vla label: the new dataset, and what stays as it was."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from label_toy import INTRINSICS, RIG, column, command_of, digests, edit, rig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from toy_dataset import make_dataset

from posa_vla import contract
from posa_vla.anchors.label import label_episode
from posa_vla.cli import main as posa_vla
from posa_vla.data.labelling import label_dataset, main
from posa_vla.errors import PosaError
from posa_vla.rigs import parse_rig


@pytest.fixture
def broken(source, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(source, tmp_path / "broken"))


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
    assert (
        provenance["cameras"] == ["head", "wrist"] and provenance["detectors"]["gripper"]["signal"] == "gripper_command"
    )
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


def test_measured_fingers_take_the_place_of_a_missing_command(source, tmp_path):
    width_only = {"width": {"column": contract.STATE, "indices": [6, 7], "open": 0.08}, "thresholds": {}}
    width_only["thresholds"] = {"close_above": 0.5, "open_below": 0.3}
    provenance = label_dataset(source, rig(gripper=width_only), tmp_path / "out")
    assert provenance["detectors"]["gripper"]["signal"] == "gripper_width" and provenance["counts"]["closes"] == 3


@pytest.mark.parametrize("thick", [0.01, 0.045, 0.065])
def test_measured_fingers_see_objects_of_any_width(source, tmp_path, thick):
    """In every episode the object is as wide, or wider in one of them: without a command all have their close."""
    copy = Path(shutil.copytree(source, tmp_path / "copy"))

    def grasps(columns):
        held = np.where(columns["episode_index"] == 0, 0.03, thick)
        fingers = np.where(columns["frame_index"] >= 6, held, 0.08) / 2
        columns[contract.STATE][:, 6:] = fingers[:, None] * [1, -1]

    edit(copy, grasps)
    width_only = {"width": {"column": contract.STATE, "indices": [6, 7], "open": 0.08}}
    counts = label_dataset(copy, rig(gripper=width_only), tmp_path / "out")["counts"]
    assert (counts["closes"], counts["episodes_without_interaction"]) == (3, 0)
    steps = column(tmp_path / "out", contract.STEPS_TO_INTERACTION)
    assert (steps[column(copy, "frame_index") == 0] == 6).all()


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


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.ENOSYS])
def test_without_hard_links_videos_are_copied(source, tmp_path, monkeypatch, number):
    def other_disk(*_args):
        raise OSError(number, os.strerror(number))

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
