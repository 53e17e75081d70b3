"""posa-vla inspect: what it writes, its exit status, and bad input in one sentence with nothing written."""

import builtins
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import Browser
from label_toy import HEAD, WRIST, edit, make_source
from moving_toy import write_rig
from policy_folders import act_config, posa_config, save_policy
from toy_dataset import make_dataset

from posa_vla import contract
from posa_vla.anchors.detectors import DetectorConfig
from posa_vla.anchors.interaction import find_interactions
from posa_vla.cli import main as posa_vla
from posa_vla.data.labelling import label_dataset
from posa_vla.errors import PosaError
from posa_vla.inspection import recording
from posa_vla.inspection.events import explain
from posa_vla.inspection.frames import FrameReader
from posa_vla.inspection.predictions import Predictions, error_table
from posa_vla.inspection.subject import Gripper, open_subject
from posa_vla.rigs import GripperSource, GripperWidth, load_rig

QUICK = ("--motion_episodes=0", "--episodes=3")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return make_source(tmp_path_factory.mktemp("inspect") / "source")


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> str:
    return write_rig(tmp_path_factory.mktemp("rig") / "toy.yaml")


@pytest.fixture(scope="module")
def labelled(source, rig, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("labelled") / "labelled"
    label_dataset(source, load_rig(rig), root)
    return root


ARM = """<mujoco><compiler angle="radian"/><worldbody><body><joint name="lift" type="slide" axis="0 0 1"/><body>
 <joint name="turn" axis="0 0 1"/><site name="tip" pos="0.4 0 0.2"/></body></body></worldbody></mujoco>"""


def test_a_rig_of_joints_is_opened_without_its_model_beside_it(source, tmp_path, monkeypatch):
    """Datasets travel to machines that have neither the rig's folder nor a file of that name that is the same arm."""
    robot, elsewhere, output = tmp_path / "robot", tmp_path / "elsewhere", tmp_path / "out"
    robot.mkdir()
    elsewhere.mkdir()
    (robot / "arm.xml").write_text(ARM)
    (elsewhere / "arm.xml").write_text(ARM.replace("0.4", "0.9"))
    joints = {"column": contract.EE_POSE, "names": ["turn", "lift"], "model": "arm.xml", "site": "tip"}
    rig = load_rig(write_rig(robot / "arm.yaml", pose={"joints": joints}))
    provenance = label_dataset(source, rig, output)
    assert "meshdir" not in provenance["robot_model"] and str(tmp_path) not in json.dumps(provenance)
    expected = open_subject(output, str(robot / "arm.yaml")).hand.matrix
    shutil.rmtree(robot)
    monkeypatch.chdir(elsewhere)
    np.testing.assert_allclose(open_subject(output).hand.matrix, expected, atol=1e-6)
    (output / contract.ANCHORS_FILE).write_text(json.dumps({**provenance, "robot_model": None}))
    with pytest.raises(PosaError, match=r"kept no robot model, and says of arm\.xml only .* --rig=FILE\.yaml"):
        open_subject(output)


def test_a_gripper_taken_from_another_number_is_refused(labelled, tmp_path):
    copy = Path(shutil.copytree(labelled, tmp_path / "copy"))
    info = json.loads((copy / "meta/info.json").read_text())
    info["features"][contract.ACTION]["names"] = ["gripper", *(f"joint{number}" for number in range(1, 7))]
    (copy / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(PosaError, match=r"command from action\[6\] \(joint6\), beside action\[0\] \(gripper\)"):
        open_subject(copy)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_policy(tmp_path_factory.mktemp("policy") / "pretrained_model", posa_config(), side=32)


@pytest.fixture(scope="module")
def page(labelled, checkpoint, tmp_path_factory) -> Path:
    """With a policy; the toy's random poses jump, so that the exit status is 1."""
    output = tmp_path_factory.mktemp("page") / "out"
    flags = (f"--output={output}", f"--policy.path={checkpoint}", "--policy.device=cpu", "--frames=20")
    assert posa_vla(["inspect", f"--dataset.root={labelled}", *flags, *QUICK]) == 1
    return output / "inspect.html"


def test_the_page_is_one_file_with_every_part(page):
    text = page.read_text()
    assert os.listdir(page.parent) == ["inspect.html"]
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    for part in ("Jumps", "first interaction", "Predicted against labelled", "Worst frames", "Episode 0"):
        assert part in text
    assert "frame 6, gripper: close" in text
    assert "fingers 0.0000 m apart at the end ≤ 0.002 (shut_width): they hold nothing" in text  # of episode 1


def test_nothing_wrong_is_status_0_and_the_page_lies_beside_the_dataset(source, rig, tmp_path, capsys):
    root = Path(shutil.copytree(source, tmp_path / "calm"))

    def hold_still(columns):
        columns[contract.EE_POSE][:, :3] = np.outer(columns["frame_index"], [0.002, 0, 0]) + 0.4

    edit(root, hold_still)
    assert posa_vla(["inspect", f"--dataset.root={root}", f"--rig={rig}", *QUICK]) == 0
    assert "0 say that something is wrong" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["calm", "calm.inspection"]


def test_the_folder_one_stands_in_is_a_dataset_too(labelled, tmp_path, monkeypatch):
    shutil.copytree(labelled, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    posa_vla(["inspect", "--dataset.root=.", *QUICK])
    assert (tmp_path / "mine.inspection/inspect.html").is_file()


def test_an_unlabelled_dataset_needs_a_rig(source, tmp_path, capsys):
    assert posa_vla(["inspect", f"--dataset.root={source}", f"--output={tmp_path / 'out'}"]) == 2
    assert "give --rig=NAME" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("is_labelled", [False, True])
def test_without_a_gripper_the_page_shows_the_other_detectors_and_no_gripper(source, tmp_path, is_labelled):
    root, flags = source, [f"--rig={write_rig(tmp_path / 'pusher.yaml', gripper=None)}", "--detectors=end"]
    if is_labelled:
        root = tmp_path / "labelled"
        label_dataset(source, load_rig(tmp_path / "pusher.yaml"), root, detectors=DetectorConfig(("end",)))
        flags = []
    posa_vla(["inspect", f"--dataset.root={root}", f"--output={tmp_path / 'out'}", *flags, *QUICK])
    text = (tmp_path / "out/inspect.html").read_text()
    assert "frame 11, end: end" in text and "1 is closed" not in text and "gripper: close" not in text


def test_detectors_are_for_a_rig_and_a_rig_without_a_gripper_needs_them(source, labelled, tmp_path, capsys):
    pusher = write_rig(tmp_path / "pusher.yaml", gripper=None)
    flags = [f"--output={tmp_path / 'out'}", *QUICK]
    assert posa_vla(["inspect", f"--dataset.root={source}", f"--rig={pusher}", *flags]) == 2
    assert "has no gripper, which the detector gripper (the default) reads" in capsys.readouterr().err
    assert posa_vla(["inspect", f"--dataset.root={labelled}", "--detectors=dwell", *flags]) == 2
    assert "give --rig too" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["pusher.yaml"]


def test_thresholds_come_from_the_data_as_in_labelling(source, tmp_path):
    rig, detectors = write_rig(tmp_path / "toy.yaml"), DetectorConfig(("dwell", "end"))
    label_dataset(source, load_rig(rig), tmp_path / "labelled", detectors=detectors)
    asked, stored = open_subject(source, rig, detectors), open_subject(tmp_path / "labelled")
    assert asked.detectors == stored.detectors and asked.detectors.dwell.speed is not None
    np.testing.assert_allclose(asked.anchors, stored.anchors, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": [HEAD, WRIST, {**HEAD, "name": "side"}]}, "no observation.images.side, a camera of the rig"),
        ({"cameras": [HEAD, {**WRIST, "width": 48}]}, "is calibrated for 48x32 images"),
        ({"cameras": [{**HEAD, "cam_from_mount": np.diag([2.0, 1, 1, 1]).tolist()}, WRIST]}, "must be a rigid 4x4"),
        ({"pose": {"column": "tcp"}}, "the dataset lacks"),
    ],
)
def test_a_rig_that_does_not_fit_is_one_sentence_and_nothing_is_written(source, tmp_path, capsys, changes, message):
    other = write_rig(tmp_path / "other.yaml", **changes)
    assert posa_vla(["inspect", f"--dataset.root={source}", f"--rig={other}", f"--output={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert os.listdir(tmp_path) == ["other.yaml"]


@pytest.mark.parametrize("command", ["inspect", "label"])
@pytest.mark.parametrize(("version", "words"), [("v2.1", "convert_dataset_v21_to_v30"), ("v4.0", "reads v3 only")])
def test_another_version_of_lerobots_format_is_named(source, rig, tmp_path, capsys, command, version, words):
    root = Path(shutil.copytree(source, tmp_path / "old"))
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, "codebase_version": version}))
    assert posa_vla([command, f"--dataset.root={root}", f"--rig={rig}", f"--output={tmp_path / 'out'}"]) == 2
    assert words in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["old"]


def test_without_rerun_only_the_option_fails_and_says_what_to_install(labelled, tmp_path, capsys, monkeypatch):
    real = builtins.__import__

    def without_rerun(name, *arguments, **options):
        if name == "rerun":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_rerun)
    flags = [f"--dataset.root={labelled}", f"--output={tmp_path / 'out'}", *QUICK]
    assert posa_vla(["inspect", *flags, "--recording=true"]) == 2
    assert "pip install 'lerobot_policy_posa_vla[viz]'" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
    assert posa_vla(["inspect", *flags]) == 1


def test_a_recording_for_rerun(labelled, tmp_path):
    pytest.importorskip("rerun")
    posa_vla(["inspect", f"--dataset.root={labelled}", f"--output={tmp_path}", "--recording=true", *QUICK])
    assert (tmp_path / "inspect.rrd").stat().st_size > 10_000


class FakeRerun(SimpleNamespace):
    """Keeps what is logged: {entity: the arguments of the last archetype}."""

    def __init__(self) -> None:
        kinds = ("Pinhole", "Transform3D", "Points2D", "Points3D", "EncodedImage", "LineStrips3D", "Scalars", "TextLog")
        super().__init__(**{kind: lambda *words, **options: (words, options) for kind in kinds}, logged={})
        self.ViewCoordinates = SimpleNamespace(RIGHT_HAND_Z_UP=None)
        self.RecordingStream = lambda name: self

    def log(self, entity, content, **_):
        self.logged.setdefault(entity, []).append(content)

    def save(self, *_): ...
    def set_time(self, *_, **__): ...
    def flush(self): ...
    def disconnect(self): ...


@pytest.mark.parametrize("flips", [(), ("flip_horizontal",), ("flip_vertical",), ("flip_horizontal", "flip_vertical")])
def test_in_a_recording_the_hand_in_space_lies_on_its_anchor_in_the_picture(source, tmp_path, monkeypatch, flips):
    rerun = FakeRerun()
    monkeypatch.setattr(recording, "require_rerun", lambda: rerun)
    root, head = tmp_path / "labelled", {**HEAD, **dict.fromkeys(flips, True)}
    label_dataset(source, load_rig(write_rig(tmp_path / "rig.yaml", cameras=[head, WRIST])), root)
    subject = open_subject(root, None)
    recording.write_recording(tmp_path / "out.rrd", subject, FrameReader(root), [0])
    view, *places = rerun.logged["episode_0/world/head"]
    lens, place = view[1]["image_from_camera"], places[0][1]
    checked = 0
    for (hand, _), (points, options) in zip(
        rerun.logged["episode_0/world/hand"], rerun.logged["episode_0/world/head/image/anchors"], strict=True
    ):
        if "end" in options["labels"]:
            x, y, depth = lens @ place["mat3x3"].T @ (hand[0][0] - place["translation"])
            np.testing.assert_allclose(points[0][options["labels"].index("end")], [x / depth, y / depth], atol=1e-3)
            checked += 1
    assert checked
    picture = cv2.imdecode(np.frombuffer(rerun.logged["episode_0/world/head/image"][0][1]["contents"], np.uint8), 1)
    stored = FrameReader(root).read("head", np.array([0]))[0]
    axes = [axis for axis, name in enumerate(("flip_vertical", "flip_horizontal")) if name in flips]
    assert np.abs(np.flip(picture[..., ::-1], axes).astype(int) - stored).mean() < 5


def test_a_recording_without_a_gripper_has_the_events_and_no_signal(source, tmp_path, monkeypatch):
    rerun = FakeRerun()
    monkeypatch.setattr(recording, "require_rerun", lambda: rerun)
    subject = open_subject(source, write_rig(tmp_path / "pusher.yaml", gripper=None), DetectorConfig(("end",)))
    recording.write_recording(tmp_path / "out.rrd", subject, FrameReader(source), [0])
    assert rerun.logged["episode_0/events"][0][0][0].startswith("end, end: ")
    assert "episode_0/gripper" not in rerun.logged


@pytest.mark.parametrize(
    ("cell", "words"), [(None, "no image in row 2"), ({"bytes": b""}, "no image in row 2"), (12, "12x12, 24x24")]
)
def test_images_that_are_missing_or_of_another_size_are_one_sentence(tmp_path, cell, words):
    root = make_dataset(tmp_path / "toy", episodes=1, length=4, image_size=24, labelled=False, use_videos=False)
    path, key = root / "data/chunk-000/file-000.parquet", "observation.images.head"
    if isinstance(cell, int):
        cell = {"bytes": cv2.imencode(".png", np.zeros((cell, cell, 3), np.uint8))[1].tobytes()}
    table = pq.read_table(path)
    cells = [*table[key].to_pylist()[:2], cell, *table[key].to_pylist()[3:]]
    field = table.schema.field(key)
    pq.write_table(table.set_column(table.column_names.index(key), field, pa.array(cells, field.type)), path)
    with pytest.raises(PosaError, match=words):
        FrameReader(root).read("head", np.arange(4))


def test_a_policy_without_anchors_is_refused(labelled, tmp_path, capsys):
    folder = save_policy(tmp_path / "act", act_config(), side=32)
    flags = (f"--output={tmp_path / 'out'}", f"--policy.path={folder}", "--policy.device=cpu")
    assert posa_vla(["inspect", f"--dataset.root={labelled}", *flags, *QUICK]) == 2
    assert "a act, which predicts no anchors" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["act"]


def test_output_inside_the_dataset_is_refused(labelled, capsys):
    assert posa_vla(["inspect", f"--dataset.root={labelled}", f"--output={labelled / 'page'}"]) == 2
    assert "lies inside the dataset" in capsys.readouterr().err


def test_errors_are_of_known_labels_in_the_picture_in_pixels_of_the_stored_image():
    labels = np.zeros((4, 1, 2, 4))
    labels[..., :] = [0.5, 0.5, 1, 1]
    labels[2, 0, 0, 3] = -1  # unknown
    labels[3, 0, 0, 0] = 1.5  # out of the picture
    labels[:, 0, 1, 0] = [0.1, 0.2, 0.3, 0.4]
    uv = labels[..., :2].copy()
    uv[0, 0, 0, 0] += 0.1
    uv[1, 0, 0, 1] += 0.3
    confidence = np.tile([0.9, 0.8], (4, 1, 1))
    confidence[3, 0, 0] = 0.1
    sizes = np.array([[200.0, 100.0]])
    once = np.zeros(4, np.int64)
    found = Predictions(("front",), sizes, np.arange(4), uv, confidence, np.zeros((4, 1, 2, 3, 3)), labels, once)
    task, end = error_table(found)
    assert task.samples == 2
    assert task.pixels is not None
    assert task.pixels[-1] == pytest.approx(30)  # 0.3 of the height of 100
    assert task.pixels[0] == pytest.approx(25)  # between 0.1 of the width of 200 and that
    assert (task.confidence, task.confidence_outside) == (0.9, pytest.approx(0.1))
    assert (end.samples, end.near, end.constant) == (4, 1.0, False)
    numbered = replace(found, interactions=np.array([0, 1, 1, 1]))
    together, first, second, end = error_table(numbered)
    assert together == task and end.title == "front, end"
    assert (first.title, first.samples, second.title, second.samples) == ("front, task 1", 1, "front, task 2", 1)
    assert first.pixels is not None and first.pixels[0] == pytest.approx(20)
    assert second.pixels is not None and second.pixels[0] == pytest.approx(30)
    assert (first.confidence_outside, second.confidence_outside) == (None, pytest.approx(0.1))


def test_every_decision_of_the_detector_is_explained():
    signal = np.array([0.0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0])
    width = np.where((signal > 0.5) & (np.arange(17) < 9), 0.0, 0.03)
    source = GripperSource(width=GripperWidth("fingers", (0,), 0.03))
    decisions = explain(find_interactions(signal, source.thresholds, width), Gripper(source, signal, width))
    assert [(one.frame, one.kind, one.taken) for one in decisions] == [
        (2, "bounce", False),
        (5, "dropped", False),
        (8, "ignored", False),
        (11, "close", True),
        (15, "open", True),
    ]
    assert "fewer than 2 (min_steps)" in decisions[0].why
    assert "≤ 0.002 (shut_width): they hold nothing" in decisions[1].why
    assert "0.00 → 1.00, ≥ 0.6 (close_above), for 4 frames" in decisions[3].why


def test_the_page_in_a_browser(page, tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    try:
        for width in (1280, 390):
            browser.open(page, width, dark=width == 390)
            assert browser.run("return document.documentElement.scrollWidth") <= width
            assert browser.run("return document.querySelectorAll('svg.chart').length") >= 3
            broken = "return [...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth).length"
            assert browser.run(broken) == 0
        names = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 60))")
        assert [name for name in names if not name.startswith("data:")] == []
        assert browser.console() == []
    finally:
        browser.close()
