"""Every automatic check: a planted mistake triggers it, the dataset without it does not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from label_toy import HEAD, WRIST, command_of, edit
from moving_toy import RenderedImages, make_moving, write_rig

from posa_vla import contract
from posa_vla.anchors.detectors import DetectorConfig
from posa_vla.anchors.dwell import DwellConfig
from posa_vla.data.labelling import label_dataset
from posa_vla.inspection.benchmark import (
    dead_gripper,
    inverted,
    late,
    millimetres,
    moved_world,
    opengl,
    other_quaternion,
)
from posa_vla.inspection.checks import check_labels
from posa_vla.inspection.command import judge, summary
from posa_vla.inspection.subject import open_subject, source_columns, subject_of
from posa_vla.rigs import load_rig


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return make_moving(tmp_path_factory.mktemp("inspect") / "clean")


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> str:
    return write_rig(tmp_path_factory.mktemp("rig") / "toy.yaml")


@pytest.fixture(scope="module")
def images(clean, rig) -> RenderedImages:
    return RenderedImages(open_subject(clean, rig).hand.matrix, rig)


def planted(clean, rig, change=None, rig_of_subject=None):
    """The subject with a mistake in its columns, or seen through another rig."""
    subject = open_subject(clean, rig)
    columns = {key: subject.columns[key].copy() for key in source_columns(subject.rig)}
    columns = change(columns) if change else columns
    return subject_of(clean, subject.info, rig_of_subject or subject.rig, columns, stored=False)


def verdicts(subject, images=None) -> dict[str, tuple[str, str]]:
    checks = check_labels(subject) if images is None else judge(subject, images, 100).checks
    return {check.name: (check.verdict, check.cause) for check in checks}


class Mirrored:
    def __init__(self, images, turn):
        self.images, self.turn = images, turn

    def read(self, camera, rows):
        return self.turn(self.images.read(camera, rows))


def test_no_false_alarm(clean, rig, images):
    found = verdicts(open_subject(clean, rig), images)
    assert {name: answer for name, answer in found.items() if answer[0] != "good"} == {}
    assert {"Image motion: head", "Image motion: wrist", "Time offset: head", "Time offset: wrist"} <= set(found)


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda image: image[:, :, ::-1], "mirrored left-right"),
        (lambda image: image[:, ::-1], "mirrored top-bottom"),
        (lambda image: image[:, ::-1, ::-1], "mirrored both ways"),
    ],
)
@pytest.mark.parametrize("camera", ["head", "wrist"])
def test_a_mirrored_image_is_suspected(clean, rig, images, turn, words, camera):
    verdict, cause = verdicts(open_subject(clean, rig), Mirrored(images, turn))[f"Image motion: {camera}"]
    assert verdict == "wrong"
    assert words in cause


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (other_quaternion, "Image motion: wrist", "quaternion is xyzw"),
        (millimetres, "Pose: unit", "millimetres"),
        (moved_world(90), "Image motion: head", "world turned 270°"),
        (moved_world(180), "Image motion: head", "world turned 180°"),
        (moved_world(offset=(3, 0, 0)), "In view: head, end anchor", "another frame or unit"),
        (late(3), "Time offset: head", "image 3 frames late"),
        (late(3), "Time offset: wrist", "image 3 frames late"),
        (late(-3), "Time offset: head", "image 3 frames early"),
        (dead_gripper, "Gripper", "never moves"),
        (dead_gripper, "Interactions", "no close holds anything"),
    ],
)
def test_a_mistake_in_the_numbers_is_found_and_explained(clean, rig, images, change, check, words):
    verdict, cause = verdicts(planted(clean, rig, change), images)[check]
    assert verdict == "wrong"
    assert words in cause


@pytest.mark.parametrize(
    ("camera", "matrix", "words"),
    [("head", inverted, "inverted"), ("head", opengl, "OpenCV's"), ("wrist", opengl, "behind the camera")],
)
def test_a_matrix_the_wrong_way_round_is_found(clean, rig, tmp_path, images, camera, matrix, words):
    cameras = [
        {**item, "cam_from_mount": matrix(np.array(item["cam_from_mount"])).tolist() if item["name"] == camera else m}
        for item, m in ((item, item["cam_from_mount"]) for item in (HEAD, WRIST))
    ]
    other = load_rig(write_rig(tmp_path / "other.yaml", cameras=cameras))
    found = verdicts(planted(clean, rig, rig_of_subject=other), images)
    assert any(verdict == "wrong" and words in cause for verdict, cause in found.values())


def jump(columns):
    columns[contract.EE_POSE][10:, 0] += 0.6
    return columns


def centimetres(columns):
    columns[contract.EE_POSE][:, :3] *= 100
    return columns


def frozen(columns):
    columns[contract.EE_POSE][:, :3] = columns[contract.EE_POSE][0, :3]
    return columns


def not_unit(columns):
    columns[contract.EE_POSE][4, 3:] *= 0.9
    return columns


def half_open(columns):
    columns[contract.ACTION][:, 6] *= 0.1
    return columns


def shut_on_nothing(columns):
    columns[contract.STATE][:, 6:] = 0
    return columns


def one_without(columns):
    columns[contract.ACTION][columns["episode_index"][:, 0] == 2, 6] = -1
    return columns


@pytest.mark.parametrize(
    ("change", "check", "verdict", "words"),
    [
        (jump, "Jumps", "wrong", "two recordings"),
        (centimetres, "Pose: unit", "wrong", "centimetres"),
        (frozen, "Pose: unit", "wrong", "never moves"),
        (not_unit, "Pose: quaternion", "wrong", "no unit quaternion"),
        (half_open, "Gripper", "wrong", "never crosses"),
        (shut_on_nothing, "Interactions", "wrong", "shut_width"),
        (one_without, "Gripper", "look", "failed demonstration"),
        (one_without, "Interactions", "look", "failed demonstration"),
    ],
)
def test_checks_that_need_no_image(clean, rig, change, check, verdict, words):
    assert verdicts(open_subject(clean, rig))[check][0] == "good"
    found = verdicts(planted(clean, rig, change))[check]
    assert found[0] == verdict
    assert words in found[1]


@pytest.mark.parametrize(("unit", "verdict"), [(1, "good"), (180 / np.pi, "wrong")])
def test_rotations_in_degrees_are_told(clean, rig, tmp_path, unit, verdict):
    def turned(columns):
        columns[contract.EE_POSE][:, 3:6] = unit * np.array([3.1, 0.2, 0.1])
        return columns

    pose = {"column": contract.EE_POSE, "rotation_format": "axis_angle"}
    other = load_rig(write_rig(tmp_path / "other.yaml", pose=pose))
    found = verdicts(planted(clean, rig, turned, rig_of_subject=other))["Pose: axis and angle"]
    assert found[0] == verdict
    assert ("in degrees" in found[1]) == (verdict == "wrong")


def test_stored_anchors_are_held_against_the_rig_that_they_name(clean, rig, tmp_path):
    labelled = tmp_path / "labelled"
    label_dataset(clean, load_rig(rig), labelled)
    assert verdicts(open_subject(labelled))["Stored labels"][0] == "good"
    edited = Path(shutil.copytree(labelled, tmp_path / "edited"))

    def move(columns):
        columns[contract.ANCHORS][:40, 0, 0, 0] += 0.1

    edit(edited, move)
    verdict, cause = verdicts(open_subject(edited))["Stored labels"]
    assert verdict == "wrong"
    assert "label again" in cause


def test_a_gripper_far_beyond_its_range_wants_a_look(clean, rig, tmp_path):
    gripper = command_of(index=6, open=-0.5, closed=0.5)
    other = load_rig(write_rig(tmp_path / "other.yaml", gripper=gripper))
    assert verdicts(planted(clean, rig, rig_of_subject=other))["Gripper"][0] == "look"


def test_a_rig_without_a_gripper_is_judged_by_what_there_is(clean, tmp_path):
    pusher = write_rig(tmp_path / "pusher.yaml", gripper=None)
    found = verdicts(open_subject(clean, pusher, DetectorConfig(("end",))))
    assert "Gripper" not in found and found["Interactions"][0] == "good"
    never = DetectorConfig(("dwell",), DwellConfig(min_seconds=30))
    verdict, cause = verdicts(open_subject(clean, pusher, never))["Interactions"]
    assert verdict == "wrong" and "no dwell in any episode" in cause and "gripper" not in cause


def test_the_summary_puts_what_is_wrong_first(clean, rig, images):
    checks = judge(planted(clean, rig, late(3)), images, 100).checks
    lines = summary(checks).splitlines()
    assert lines[0].startswith("WRONG  Time offset")
    assert "2 say that something is wrong" in lines[-1]
