"""posa-vla label --detectors: provenance, the default to the bit, and what each mistake is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from label_toy import RIG, column, edit, make_source, rig

from posa_vla import contract
from posa_vla.anchors.contact import ContactConfig
from posa_vla.anchors.detectors import DetectorConfig
from posa_vla.anchors.label import label_episode
from posa_vla.cli import main as posa_vla
from posa_vla.data.detection import recorded_detectors
from posa_vla.data.labelling import label_dataset
from posa_vla.errors import PosaError
from posa_vla.inspection.subject import open_subject

FORCE = "observation.wrist_force"
TOUCHED = slice(4, 9)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Three episodes of a gripper that stays closed; the hand stops at frame 3 and touches from frame 4 to 8."""
    root = make_source(tmp_path_factory.mktemp("detectors") / "source")
    edit(root, push)
    add_force(root)
    return root


def push(columns: dict[str, np.ndarray]) -> None:
    frame = columns["frame_index"]
    columns[contract.ACTION][:, 6] = 1
    way = np.where(frame < 3, frame, np.where(frame < 10, 3, frame - 6)) * 0.05
    columns[contract.EE_POSE][:, :3] = np.stack([0.2 + way, np.full(len(way), 0.4), np.full(len(way), 0.1)], axis=1)


def add_force(root: Path) -> None:
    """A column of three numbers, as a sensor at the wrist records."""
    path, info = root / "data/chunk-000/file-000.parquet", root / "meta/info.json"
    table = pq.read_table(path)
    frame = np.array(table["frame_index"].to_pylist())
    force = np.zeros((len(frame), 3))
    force[(frame >= TOUCHED.start) & (frame < TOUCHED.stop), 0] = -4.0
    pq.write_table(table.append_column(FORCE, pa.array(force.tolist(), pa.list_(pa.float32(), 3))), path)
    content = json.loads(info.read_text())
    content["features"][FORCE] = {"dtype": "float32", "shape": [3], "names": ["fx", "fy", "fz"]}
    info.write_text(json.dumps(content))


def with_force(*names: str, **options) -> DetectorConfig:
    return DetectorConfig(names, contact=ContactConfig(column=FORCE, **options))


def events(root: Path, number: int = 0) -> list[int]:
    rows = column(root, "episode_index") == number
    return np.flatnonzero(column(root, contract.STEPS_TO_INTERACTION)[rows].ravel() == 0).tolist()


def test_a_gripper_that_rests_has_other_detectors(source, tmp_path):
    with pytest.raises(PosaError, match=r"the gripper never moves.*--detectors=dwell"):
        label_dataset(source, rig(), tmp_path / "out")
    label_dataset(source, rig(), tmp_path / "touch", detectors=with_force("contact"))
    assert events(tmp_path / "touch") == [4, 9]
    label_dataset(source, rig(), tmp_path / "dwell", detectors=DetectorConfig(("dwell",)))
    assert events(tmp_path / "dwell") == [4]
    label_dataset(source, rig(), tmp_path / "end", detectors=DetectorConfig(("end",)))
    assert events(tmp_path / "end", 1) == [12]  # 13 frames


def test_together_the_contact_stands_for_the_dwell_and_a_resting_gripper_is_no_error(source, tmp_path):
    detectors = with_force("gripper", "contact", "dwell", release=False)
    provenance = label_dataset(source, rig(), tmp_path / "out", detectors=detectors)
    assert events(tmp_path / "out") == [4]
    counts = provenance["counts"]
    assert (counts["closes"], counts["touch"], counts["merged"]) == (0, 3, 3)


def test_the_provenance_makes_the_same_events_again_and_the_inspector_uses_it(source, tmp_path):
    detectors = with_force("contact", "dwell", "end")
    label_dataset(source, rig(), tmp_path / "out", detectors=detectors)
    recorded = recorded_detectors(json.loads((tmp_path / "out" / contract.ANCHORS_FILE).read_text()))
    assert recorded.names == ("contact", "dwell", "end") and recorded.contact.column == FORCE
    assert recorded.contact.on == pytest.approx(1.0) and recorded.contact.off == pytest.approx(0.5)
    assert recorded.dwell.speed is not None and recorded.dwell.speed > 0
    label_dataset(source, rig(), tmp_path / "again", detectors=recorded)
    for key in (contract.ANCHORS, contract.STEPS_TO_INTERACTION):
        np.testing.assert_array_equal(column(tmp_path / "again", key), column(tmp_path / "out", key))
    subject = open_subject(tmp_path / "out")
    assert subject.labels[0].interactions.frames.tolist() == events(tmp_path / "out")
    assert recorded_detectors({"rig": {}}) == DetectorConfig()  # of an older version: the gripper alone


def test_the_default_is_the_gripper_to_the_bit(tmp_path):
    source = make_source(tmp_path / "grasps")
    provenance = label_dataset(source, rig(), tmp_path / "out")
    assert provenance["detectors"]["names"] == ["gripper"] and "merged" not in provenance["counts"]
    action, width = column(source, contract.ACTION), np.abs(column(source, contract.STATE)[:, 6:]).sum(axis=1)
    for number in range(3):
        rows = column(source, "episode_index") == number
        pose, signal = column(source, contract.EE_POSE)[rows].astype(np.float32), (action[rows, 6] + 1) / 2
        expected = label_episode(pose, signal, rig().cameras, rig().gripper.thresholds, width[rows])
        np.testing.assert_array_equal(column(tmp_path / "out", contract.ANCHORS)[rows], expected.anchors)


def test_without_the_gripper_its_columns_are_not_read(source, tmp_path):
    lost = {"command": {"column": "no_such_column", "index": 0, "open": 0.0, "closed": 1.0}}
    label_dataset(source, rig(gripper=lost), tmp_path / "out", detectors=DetectorConfig(("dwell",)))
    assert events(tmp_path / "out") == [4]
    with pytest.raises(PosaError, match="'no_such_column', which the dataset lacks"):
        label_dataset(source, rig(gripper=lost), tmp_path / "other")


def test_a_rig_without_a_gripper_labels_by_the_others_as_one_with_it_does(source, tmp_path):
    detectors = with_force("contact", "dwell", "end")
    label_dataset(source, rig(), tmp_path / "with", detectors=detectors)
    provenance = label_dataset(source, rig(gripper=None), tmp_path / "without", detectors=detectors)
    assert provenance["rig"]["gripper"] is None and "gripper" not in provenance["detectors"]
    for key in (contract.ANCHORS, contract.STEPS_TO_INTERACTION):
        np.testing.assert_array_equal(column(tmp_path / "without", key), column(tmp_path / "with", key))
    assert open_subject(tmp_path / "without").labels[0].interactions.frames.tolist() == events(tmp_path / "without")


@pytest.mark.parametrize("names", [("gripper",), ("gripper", "dwell")])
def test_the_gripper_detector_without_a_gripper_is_refused_with_the_detectors_that_do_without(source, tmp_path, names):
    with pytest.raises(
        PosaError, match=r"'toy' has no gripper, which .* add its gripper block, or .*--detectors=dwell"
    ):
        label_dataset(source, rig(gripper=None), tmp_path / "out", detectors=DetectorConfig(names))
    assert not (tmp_path / "out").exists()


def test_a_missing_contact_column_names_those_that_may_be_meant(source, tmp_path):
    with pytest.raises(PosaError, match=rf"reads the column 'contact', which the dataset lacks: perhaps {FORCE} is"):
        label_dataset(source, rig(), tmp_path / "out", detectors=DetectorConfig(("contact",)))
    with pytest.raises(PosaError, match=r"contact.indices are \[3\], but .* has 3 numbers, 0 to 2"):
        label_dataset(source, rig(), tmp_path / "out", detectors=with_force("contact", indices=(3,)))
    with pytest.raises(PosaError, match="is 0 in all 39 frames"):
        label_dataset(source, rig(), tmp_path / "out", detectors=with_force("contact", indices=(1,)))
    broken = Path(shutil.copytree(source, tmp_path / "broken"))
    edit(broken, lambda columns: columns[FORCE].__setitem__((15, 1), np.nan))
    with pytest.raises(PosaError, match=r"contact signal in .* is NaN or infinite at episode 1, frame 3"):
        label_dataset(broken, rig(), tmp_path / "out", detectors=with_force("contact"))
    assert not (tmp_path / "out").exists()


def test_the_command_line(source, tmp_path, capsys):
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(RIG))
    flags = ["label", f"--dataset.root={source}", f"--rig={tmp_path / 'toy.yaml'}", f"--output={tmp_path / 'out'}"]
    assert posa_vla([*flags, "--detectors=dwel"]) == 2
    assert "unknown detector 'dwel': choose one of contact, dwell, end, gripper" in capsys.readouterr().err
    assert posa_vla([*flags, "--detectors=dwell", "--dwell.speed=-1"]) == 2
    assert "dwell.speed must be above 0" in capsys.readouterr().err
    assert posa_vla([*flags, "--detectors=dwell", "--dwell.speed=200"]) == 2
    assert "give metres per second" in capsys.readouterr().err
    options = ["--detectors=dwell,contact", f"--contact.column={FORCE}", "--contact.indices=[0,2]", "--merge_seconds=0"]
    assert posa_vla([*flags, *options]) == 0
    assert "touch: 3" in capsys.readouterr().out
