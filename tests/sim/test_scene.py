import mujoco
import numpy as np
import pytest

from posa_vla.sim.objects import CATALOGUE, CATEGORIES, COLOURS, CONTACT, UNSEEN_CATEGORIES
from posa_vla.sim.scene import ARM_JOINTS, GRIP_SITE, NEUTRAL, arm_model, build_scene
from posa_vla.sim.slots import Placed, Slots, library

PANDA_RANGES = [
    (-2.8973, 2.8973), (-1.7628, 1.7628), (-2.8973, 2.8973), (-3.0718, -0.0698), (-2.8973, 2.8973),
    (-0.0175, 3.7525), (-2.8973, 2.8973),
]  # fmt: skip


@pytest.mark.parametrize("model", [arm_model(), build_scene(2)], ids=["arm", "scene"])
def test_joint_ranges_are_the_panda_s_in_radians(model):
    ranges = [model.joint(name).range for name in ARM_JOINTS]
    np.testing.assert_allclose(ranges, PANDA_RANGES, atol=1e-4)


def test_options_that_robosuite_s_base_file_would_have_set():
    option = build_scene(1).opt
    assert option.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    assert option.impratio == 20
    assert option.timestep == 0.002
    assert option.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST


def test_robot_masses_are_those_of_its_files():
    model = arm_model()
    links = [model.body(f"robot_link{i}").mass[0] for i in range(8)]
    np.testing.assert_allclose(links, [4, 3, 3, 2, 2, 2, 1.5, 0.5])
    assert model.body_mass.sum() == pytest.approx(18.0 + 0.5 + 0.3 + 2 * 0.11)


def test_no_skybox_comes_along():
    model = build_scene(1)
    assert (model.tex_type == mujoco.mjtTexture.mjTEXTURE_2D).all()


def test_at_least_eight_categories_in_six_colours_fit_the_gripper():
    assert len(CATEGORIES) >= 8
    assert len(COLOURS) == 6
    assert not set(CATEGORIES) & set(UNSEEN_CATEGORIES)
    for name in CATEGORIES:
        assert CATALOGUE[name].size[1] < 0.07, name


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_an_object_in_a_slot_rests_where_it_was_put(name):
    model = build_scene(3)
    data, slots = mujoco.MjData(model), Slots(model)
    data.qpos[:7] = data.ctrl[2:] = NEUTRAL
    height = CATALOGUE[name].size[2] / 2
    slots.fill(data, [Placed(name, "red", (0.6, 0.1, height), 0.3)])
    before = data.qpos[slots.qpos[0] : slots.qpos[0] + 7].copy()
    mujoco.mj_step(model, data, 500)
    after = data.qpos[slots.qpos[0] : slots.qpos[0] + 7]
    np.testing.assert_allclose(after[:3], before[:3], atol=1.5e-3)
    assert abs(after[3:] @ before[3:]) > np.cos(np.radians(1))


def test_a_refilled_slot_moves_like_a_freshly_compiled_object():
    """Fill the slot with one shape after another; the last must fall, turn and slide as its own model does."""
    model = build_scene(1)
    data, slots = mujoco.MjData(model), Slots(model)
    data.qpos[:7] = data.ctrl[2:] = NEUTRAL
    for name in ("ring", "mug", "bottle"):
        slots.fill(data, [Placed(name, "blue", (0.6, 0.15, 0.12), 0.4)])
    own = library()  # the same bodies, without slots; no table there: compare free flight and inertia
    body = own.body("library_bottle").id
    start, dof = slots.qpos[0], slots.dofs[0]
    reference = mujoco.MjData(own)
    at, speed = own.jnt_qposadr[own.body_jntadr[body]], own.body_dofadr[body]
    reference.qpos[at : at + 7] = data.qpos[start : start + 7]
    data.qvel[dof : dof + 6] = reference.qvel[speed : speed + 6] = (0.1, 0.0, 0.4, 2.0, -3.0, 1.0)
    own.opt.integrator = model.opt.integrator
    mujoco.mj_step(model, data, 20)
    mujoco.mj_step(own, reference, 20)
    np.testing.assert_allclose(data.qpos[start : start + 7], reference.qpos[at : at + 7], atol=1e-9)


def test_slots_beyond_the_objects_are_out_of_the_way():
    model = build_scene(3)
    data, slots = mujoco.MjData(model), Slots(model)
    data.qpos[:7] = data.ctrl[2:] = NEUTRAL
    slots.fill(data, [Placed("cube", "red", (0.5, 0.1, 0.022), 0.0)])
    mujoco.mj_step(model, data, 200)
    for start in slots.qpos[1:]:
        assert data.qpos[start] >= 3
        assert data.qpos[start + 2] == pytest.approx(0, abs=1e-6)


def test_neutral_pose_holds_the_hand_over_the_table_fingers_down():
    model = arm_model()
    data = mujoco.MjData(model)
    data.qpos[:7] = NEUTRAL
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(data.site(GRIP_SITE).xpos, (0.38, 0, 0.26), atol=2e-3)
    np.testing.assert_allclose(data.site(GRIP_SITE).xmat.reshape(3, 3)[:, 2], (0, 0, -1), atol=2e-3)


def test_table_contact_is_compiled_with_the_objects_contact_parameters():
    model = build_scene(1)
    np.testing.assert_allclose(model.geom("table").friction, CONTACT["friction"])
