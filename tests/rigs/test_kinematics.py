"""Poses from joints: MuJoCo's own sites, a hand-made arm, a URDF whose meshes are nowhere, and each kind of mistake."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from posa_vla.errors import PosaError
from posa_vla.rigs import JointSource, load_rig, parse_rig
from posa_vla.rigs.benchmark import kinematics_errors, robosuite_arm
from posa_vla.rigs.kinematics import ForwardKinematics, model_text

PANDA = "package:robosuite/models/assets/robots/panda/robot.xml"
PANDA_URDF = "package:robosuite/models/assets/bullet_data/panda_description/urdf/panda_arm.urdf"
PANDA_JOINTS = tuple(f"joint{number}" for number in range(1, 8))
PLANAR = """<mujoco><compiler angle="radian"/><worldbody><body name="upper"><joint name="shoulder" axis="0 0 1"
 range="-2 2" limited="true"/><geom type="mesh" mesh="absent"/><body name="lower" pos="0.4 0 0"><joint name="elbow"
 axis="0 0 1"/><body name="slide"><joint name="reach" type="slide" axis="1 0 0"/><site name="tip" pos="0.3 0 0"/>
 </body></body></body></worldbody><asset><mesh name="absent" file="nowhere.stl"/></asset><sensor><framepos
 objtype="site" objname="tip"/></sensor><actuator><motor joint="elbow"/></actuator></mujoco>"""


@pytest.fixture
def planar(tmp_path) -> Path:
    (tmp_path / "planar.xml").write_text(PLANAR)
    return tmp_path


def planar_source(folder: Path, **changes) -> JointSource:
    fields = {"column": "q", "model": "planar.xml", "names": ("shoulder", "elbow", "reach"), "site": "tip"}
    return JointSource(**{**fields, **changes}, folder=folder)


@pytest.mark.parametrize("arm", ["panda", "ur5e"])
def test_poses_are_mujocos_own_sites(arm, tmp_path):
    source, reference = robosuite_arm(arm, tmp_path)
    position, rotation, _ = kinematics_errors(source, reference, states=100)
    assert position < 1e-9 and rotation < 1e-6  # 2e-7: the digits of a quaternion in the XML file


def test_a_planar_arm_by_its_formula(planar):
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (50, 3))
    found = ForwardKinematics(planar_source(planar)).world_from_ee(values).matrix
    turn = values[:, 0] + values[:, 1]
    length = 0.3 + values[:, 2]
    x = 0.4 * np.cos(values[:, 0]) + length * np.cos(turn)
    y = 0.4 * np.sin(values[:, 0]) + length * np.sin(turn)
    np.testing.assert_allclose(found[:, :2, 3], np.stack([x, y], axis=1), atol=1e-12)
    np.testing.assert_allclose(found[:, 0, 0], np.cos(turn), atol=1e-12)


def test_degrees_scales_offsets_and_order(planar):
    rng = np.random.default_rng(1)
    model = rng.uniform(-1, 1, (20, 3))  # shoulder, elbow (rad), reach (m)
    scales, offsets = np.array([-1.0, 0.9, 1.0]), np.array([10.0, -5.0, 0.2])  # of reach, shoulder, elbow below
    shoulder, elbow = np.rad2deg(model[:, 0]), np.rad2deg(model[:, 1])
    recorded = np.stack([model[:, 2], shoulder, elbow], axis=1)
    recorded = (recorded - offsets) / scales
    source = planar_source(
        planar, names=("reach", "shoulder", "elbow"), unit="degrees", scales=tuple(scales), offsets=tuple(offsets)
    )
    found = ForwardKinematics(source).world_from_ee(recorded).matrix
    np.testing.assert_allclose(found, ForwardKinematics(planar_source(planar)).world_from_ee(model).matrix, atol=1e-9)


def test_a_urdf_without_its_meshes_is_the_same_arm():
    urdf = JointSource("q", PANDA_URDF, tuple(f"panda_{name}" for name in PANDA_JOINTS), body="panda_link7")
    mjcf = JointSource("q", PANDA, PANDA_JOINTS, body="link7")
    values = np.random.default_rng(2).uniform(-1, 1, (50, 7))
    one, other = (ForwardKinematics(source).world_from_ee(values).matrix for source in (urdf, mjcf))
    np.testing.assert_allclose(one, other, atol=1e-5)  # robosuite rounds its quaternions to six digits


def test_links_fixed_to_others_keep_their_names():
    source = JointSource("q", PANDA_URDF, tuple(f"panda_{name}" for name in PANDA_JOINTS), body="panda_link8")
    pose = ForwardKinematics(source).world_from_ee(np.zeros((1, 7))).matrix[0]
    np.testing.assert_allclose(pose[:3, 3], [0.088, 0, 0.926], atol=1e-9)  # Franka's documentation, all joints at 0


@pytest.mark.parametrize(
    ("changes", "values", "message"),
    [
        ({"unit": "radians"}, [[90.0, 45.0, 0.1]], r"stands at 90\.0 rad: the unit seems to be degrees"),
        ({"unit": "degrees"}, [[1.5, -0.7, 0.1]], "the unit seems to be radians"),
        ({}, [[2.5, 0.0, 0.0]], r"shoulder stands at 2\.50, outside its limits -2\.00 to 2\.00 in planar\.xml"),
    ],
)
def test_implausible_joints_are_explained(planar, changes, values, message):
    problem = ForwardKinematics(planar_source(planar, **changes)).problem(np.array(values))
    assert problem is not None and re.search(message, problem)


def test_plausible_joints_pass(planar):
    kinematics = ForwardKinematics(planar_source(planar))
    assert kinematics.problem(np.array([[2.05, 3.0, 0.1], [-1.0, 0.0, 0.0]])) is None  # servos overshoot a little


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"names": ("shoulder", "wrist")},
            r"unknown joint of .*planar\.xml: 'wrist': choose one of elbow, reach, shou",
        ),
        ({"site": None, "body": "hand"}, r"unknown body .*'hand': choose one of lower, slide, upper, world"),
        ({"model": "other.xml"}, r"no robot model .*other\.xml"),
        ({"model": "package:no_such_package/a.xml"}, "Python package 'no_such_package': install it"),
    ],
)
def test_models_and_names_that_do_not_exist(planar, changes, message):
    with pytest.raises(PosaError, match=message):
        ForwardKinematics(planar_source(planar, **changes))


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "planar.xml").write_text("<robot")
    with pytest.raises(PosaError, match=r"MuJoCo cannot read the robot model .*planar\.xml"):
        ForwardKinematics(planar_source(tmp_path))


@pytest.mark.parametrize("path", [PANDA, PANDA_URDF])
def test_the_kept_text_is_the_same_arm(path):
    names = PANDA_JOINTS if path == PANDA else tuple(f"panda_{name}" for name in PANDA_JOINTS)
    source = JointSource("q", path, names, body="link7" if path == PANDA else "panda_link8")
    kept = replace(source, model="gone.xml", kept_model=model_text(source))
    values = np.random.default_rng(3).uniform(-1, 1, (50, 7))
    one, other = (ForwardKinematics(item).world_from_ee(values).matrix for item in (source, kept))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_kept_text_names_no_other_file_and_no_folder(planar):
    (planar / "planar.xml").write_text(PLANAR.replace("<compiler ", '<compiler meshdir="/home/me/meshes" '))
    (planar / "all.xml").write_text('<mujoco><include file="planar.xml"/></mujoco>')
    source = planar_source(planar, model="all.xml")
    text = model_text(source)
    assert not re.search("stl|include|meshes|/home", text)
    kept = replace(source, folder=None, kept_model=text)
    values = np.random.default_rng(4).uniform(-1, 1, (20, 3))
    one, other = (ForwardKinematics(item) for item in (source, kept))
    np.testing.assert_allclose(one.world_from_ee(values).matrix, other.world_from_ee(values).matrix, atol=1e-5)
    too_far = np.array([[2.5, 0.0, 0.0]])
    assert one.problem(too_far) == other.problem(too_far) is not None
    with pytest.raises(PosaError, match=r"MuJoCo cannot read the robot model all\.xml that is kept with the labels"):
        ForwardKinematics(replace(kept, kept_model="<robot"))


def test_a_model_is_not_looked_for_in_the_current_folder(planar, monkeypatch):
    monkeypatch.chdir(planar)
    with pytest.raises(PosaError, match=r"planar\.xml lies beside a rig file, .* load the rig from its file"):
        planar_source(None).model_path()


RIG = {
    "name": "arm",
    "cameras": [
        {
            "name": "front",
            "mount": "world",
            "cam_from_mount": np.eye(4).tolist(),
            "width": 32,
            "height": 32,
            "fx": 30.0,
            "fy": 30.0,
            "cx": 15.5,
            "cy": 15.5,
        }
    ],
    "gripper": {"command": {"column": "action", "index": 6, "open": 0, "closed": 1}},
}


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        ({"site": "tip", "body": "hand"}, "either a site or a body"),
        ({}, "either a site or a body"),
        ({"site": "tip", "scales": [1]}, "expected 2 scales, one for each joint, got 1"),
        ({"site": "tip", "scales": [1, 0]}, "a scale of 0 would hold its joint still"),
        ({"site": "tip", "unit": "turns"}, "unknown joint unit 'turns': choose one of degrees, radians"),
        ({"site": "tip", "indices": [0, 0]}, "different names and indices"),
        ({"site": "tip", "tool": [0, 0, 45.0]}, "in metres, none over 1 m"),
        ({"site": "tip", "folder": "/"}, "unknown field of pose.joints: 'folder'"),
    ],
)
def test_each_mistake_in_a_rigs_joints_is_named(joints, message):
    pose = {"joints": {"column": "q", "model": "arm.xml", "names": ["a", "b"], **joints}}
    with pytest.raises(PosaError, match=message):
        parse_rig({**RIG, "pose": pose})


def test_a_rig_finds_its_model_beside_it_and_writes_itself_without_its_folder(planar):
    joints = {"column": "q", "model": "planar.xml", "names": ["shoulder", "elbow", "reach"], "site": "tip"}
    (planar / "arm.yaml").write_text(yaml.safe_dump({**RIG, "pose": {"joints": joints}}))
    rig = load_rig(planar / "arm.yaml")
    assert rig.pose.indices == (0, 1, 2) and rig.pose.model_path() == planar / "planar.xml"
    written = rig.to_dict()
    assert str(planar) not in str(written)
    assert parse_rig(written, planar).to_dict() == written
