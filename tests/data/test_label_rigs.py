"""posa-vla label with every kind of rig: joints, scenes, positions alone, a tool, a lone camera."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from label_toy import (
    HEAD,
    LOOK_DOWN,
    ON_HAND,
    RIG,
    TASK_SENTENCES,
    WRIST,
    column,
    edit,
    rig,
)

from posa_vla import contract
from posa_vla.data.labelling import label_dataset
from posa_vla.errors import PosaError
from posa_vla.rigs import parse_rig


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


ARM = """<mujoco><compiler angle="radian"/><worldbody><body><joint name="lift" type="slide" axis="0 0 1"/><body>
 <joint name="turn" axis="0 0 1"/><site name="tip" pos="0.4 0 0.2"/></body></body></worldbody></mujoco>"""


def test_joints_take_the_place_of_a_pose(source, tmp_path):
    (tmp_path / "arm.xml").write_text(ARM)
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    angle = np.linspace(-60, 60, len(column(copy, "index")))

    def into_state(columns):
        columns[contract.STATE][:, 1] = angle
        columns[contract.STATE][:, 3] = 0.1

    edit(copy, into_state)
    joints = {"column": contract.STATE, "names": ["turn", "lift"], "indices": [1, 3], "unit": "degrees"}
    joints |= {"model": "arm.xml", "site": "tip"}
    content = {**RIG, "pose": {"joints": joints}}
    label_dataset(copy, parse_rig(content, tmp_path), tmp_path / "out")
    turn = np.deg2rad(angle)
    position = np.stack([0.4 * np.cos(turn), 0.4 * np.sin(turn), np.full(len(turn), 0.3)], axis=1)
    expected = rig().camera("head").project(position)
    anchors = column(tmp_path / "out", contract.ANCHORS)[:, 0, contract.END_ANCHOR, :3]
    np.testing.assert_allclose(anchors, expected, atol=1e-5)

    in_radians = {**content, "pose": {"joints": {**joints, "unit": "radians"}}}
    with pytest.raises(PosaError, match=r"joints in observation\.state .* 60\.0 rad: the unit seems to be degrees"):
        label_dataset(copy, parse_rig(in_radians, tmp_path), tmp_path / "none")
    assert sorted(os.listdir(tmp_path)) == ["arm.xml", "copy", "out"]


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
