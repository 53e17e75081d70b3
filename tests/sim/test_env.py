import gc

import cv2
import mujoco
import numpy as np
import pytest

from posa_vla.errors import PosaError
from posa_vla.sim.conditions import CONDITIONS
from posa_vla.sim.env import HOLD_STEPS, TabletopEnv
from posa_vla.sim.expert import Expert
from posa_vla.sim.kinematics import ArmKinematics, axis_angle_from_quaternion, rotation_between
from posa_vla.sim.scene import NEUTRAL
from posa_vla.sim.tabletop import VIEW_SIZE

STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)


@pytest.fixture(scope="module")
def env():
    env = TabletopEnv(split="train", image_size=64)
    yield env
    env.close()


def run(env, expert, limit=150):
    infos = []
    for _ in range(limit):
        *_, terminated, truncated, info = env.step(expert.act())
        infos.append(info)
        if terminated or truncated:
            break
    return infos


def test_observation_follows_the_contract(env):
    observation, info = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert list(observation["pixels"]) == ["head", "wrist"]
    assert info["is_success"] is False
    assert env.metadata["render_fps"] == 20
    assert env.render().shape == (VIEW_SIZE, 2 * VIEW_SIZE, 3)
    position, quaternion = env.ee_pose()
    np.testing.assert_allclose(observation["agent_pos"][:3], position, atol=1e-6)
    np.testing.assert_allclose(observation["agent_pos"][3:6], axis_angle_from_quaternion(quaternion), atol=1e-6)
    np.testing.assert_allclose(observation["agent_pos"][6:], (0.04, -0.04), atol=1e-3)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_equal_seeds_give_equal_episodes_whatever_came_before(condition):
    pictures = []
    for history in ((3,), (8, 1, 3)):
        env = TabletopEnv(condition=condition, split="train", image_size=32)
        for seed in history:
            env.reset(seed=seed)
            env.step(np.full(7, 0.3))
        frames = [env.step(np.array([0.2, -0.3, -1, 0, 0, 0.5, 1]))[0] for _ in range(6)]
        pictures.append(frames)
        env.close()
    for a, b in zip(*pictures, strict=True):
        np.testing.assert_array_equal(a["agent_pos"], b["agent_pos"])
        np.testing.assert_array_equal(a["pixels"]["head"], b["pixels"]["head"])
        np.testing.assert_array_equal(a["pixels"]["wrist"], b["pixels"]["wrist"])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_translation_moves_the_hand_along_its_axis_only(env, axis):
    env.reset(seed=0)
    start, _ = env.ee_pose()
    action = STILL.copy()
    action[axis] = 0.8
    for _ in range(2):
        env.step(action)
    for _ in range(3):
        env.step(STILL)
    moved = env.ee_pose()[0] - start
    assert 0.05 < moved[axis] <= 0.082  # two goals of 4 cm from the measured pose, less the servos' lag
    assert np.abs(np.delete(moved, axis)).max() < 0.006


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rotation_is_about_the_world_axis(env, axis):
    env.reset(seed=0)
    _, start = env.ee_pose()
    action = STILL.copy()
    action[3 + axis] = 0.5
    env.step(action)
    for _ in range(3):
        env.step(STILL)
    turned = rotation_between(start, env.ee_pose()[1])
    assert 0.12 < turned[axis] <= 0.26
    assert np.abs(np.delete(turned, axis)).max() < 0.03


def test_gripper_opens_at_minus_one_and_closes_at_plus_one(env):
    env.reset(seed=0)
    closed = STILL.copy()
    closed[6] = 1
    for _ in range(8):
        observation, *_ = env.step(closed)
    assert np.abs(observation["agent_pos"][6:]).max() < 0.003
    for _ in range(8):
        observation, *_ = env.step(STILL)
    np.testing.assert_allclose(observation["agent_pos"][6:], (0.04, -0.04), atol=2e-3)


def test_goals_below_the_table_are_kept_above_it(env):
    env.reset(seed=0)
    for _ in range(30):
        env.step(np.array([0, 0, -1, 0, 0, 0, -1.0]))
    assert env.ee_pose()[0][2] > 0.004


def test_success_needs_the_named_object_held(env):
    env.reset(seed=2)
    infos = run(env, Expert(env))
    assert infos[-1]["is_success"]
    assert not any(info["is_success"] for info in infos[:-1])
    name = env.ground_truth().target
    assert [info["lifted"] for info in infos[-HOLD_STEPS:]] == [name] * HOLD_STEPS
    assert infos[-HOLD_STEPS - 1]["lifted"] == ""


def test_lifting_another_object_is_reported_and_is_no_success():
    env = TabletopEnv(split="train", image_size=16, episode_length=60)
    for seed in range(4):
        env.reset(seed=seed)
        other = env.ground_truth().objects[1].name
        infos = run(env, Expert(env, target=other))
        assert not any(info["is_success"] for info in infos)
        if infos[-1]["lifted"] == other:
            break
    else:
        pytest.fail("no other object was lifted in four episodes")
    env.close()


def test_truncation_after_the_episode_length():
    env = TabletopEnv(split="train", image_size=16, episode_length=3)
    env.reset(seed=0)
    assert [env.step(STILL)[3] for _ in range(3)] == [False, False, True]
    env.close()


def test_random_actions_neither_diverge_nor_tunnel():
    env = TabletopEnv(condition="distractors", split="train", image_size=16)
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for step in range(300):
        *_, truncated, _ = env.step(rng.uniform(-1, 1, 7))
        assert not env.diverged()
        for state in env.ground_truth().objects:
            assert not env.over_table(state.position) or state.position[2] > 0.005, (step, state)
        if truncated:
            env.reset(seed=step)
    env.close()


@pytest.mark.parametrize("camera", ["head", "wrist"])
def test_camera_matrices_agree_with_the_pictures(camera):
    """A rendered ball is where its centre projects, at random places in front of the camera."""
    env = TabletopEnv(split="train", image_size=256)
    env.reset(seed=0)
    rng, tested = np.random.default_rng(0), 0
    for _ in range(12):
        env.step(rng.uniform(-1, 1, 7))
        intrinsics, cam_from_world = env.camera_matrices(camera)
        depth = rng.uniform(0.12, 0.2)
        pixel = rng.uniform(30, 225, 2)
        in_camera = np.linalg.inv(intrinsics) @ np.array([*pixel, 1]) * depth
        world = np.linalg.inv(cam_from_world) @ np.append(in_camera, 1)
        plain = env.renderer.render(env.data, camera).astype(int)
        marked = env.renderer.render(env.data, camera, [(world[:3], 0.004, (1, 0, 1, 1))]).astype(int)
        rows, columns = np.nonzero(np.abs(marked - plain).sum(-1) > 60)
        if len(rows) > 30:  # else something stands in front of it
            assert np.hypot(columns.mean() - pixel[0], rows.mean() - pixel[1]) < 1
            tested += 1
    env.close()
    assert tested >= 6


def test_wrist_camera_sees_the_end_effector_at_one_pixel(env):
    env.reset(seed=0)
    rng, pixels = np.random.default_rng(1), []
    for _ in range(4):
        env.step(rng.uniform(-1, 1, 7))
        intrinsics, cam_from_world = env.camera_matrices("wrist")
        point = intrinsics @ (cam_from_world @ np.append(env.ee_pose()[0], 1))[:3]
        pixels.append(point[:2] / point[2])
    np.testing.assert_allclose(pixels, np.broadcast_to(pixels[0], (4, 2)), atol=1e-3)


def test_visibility_falls_when_something_stands_before_the_target(env):
    env.reset(seed=1)
    before = env.target_visibility()["head"]
    assert before > 0.5
    target, screen = env.slots.qpos[0], env.slots.qpos[1]
    before_it = np.array([0.06, 0.0, 0.05])  # towards the camera
    env.data.qpos[screen : screen + 3] = env.data.qpos[target : target + 3] + before_it
    mujoco.mj_kinematics(env.model, env.data)
    assert env.target_visibility()["head"] < before - 0.2
    env.data.qpos[target : target + 3] = (-2.0, 0, 0)
    mujoco.mj_kinematics(env.model, env.data)
    assert env.target_visibility()["head"] == 0


def test_closing_one_environment_leaves_another_s_pictures_alone():
    """MuJoCo frees textures and frame buffers in whatever context is current."""
    kept, closed, dropped = (TabletopEnv(split="train", image_size=48) for _ in range(3))
    for each in (kept, closed, dropped):
        each.reset(seed=5)
    before = kept.render()
    np.testing.assert_array_equal(closed.render(), before)
    closed.close()
    np.testing.assert_array_equal(kept.render(), before)
    dropped.render()
    del dropped, each
    gc.collect()
    np.testing.assert_array_equal(kept.render(), before)
    assert kept.render().std() > 10
    kept.close()


def test_pictures_for_people_show_what_the_policy_sees_but_sharper():
    env = TabletopEnv(split="train", image_size=64)
    observation, _ = env.reset(seed=3)
    for name, picture in observation["pixels"].items():
        view = env.views()[name]
        assert view.shape == (VIEW_SIZE, VIEW_SIZE, 3)
        small = cv2.resize(view, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(small - picture).mean() < 3
        assert np.abs(small - picture[::-1]).mean() > 10  # the comparison notices another picture
    env.close()


def test_environments_of_one_process_do_not_share_a_scene():
    first, second = (TabletopEnv(condition=c, split="train", image_size=32) for c in ("basic", "background"))
    first.reset(seed=0)
    before = first.render()
    second.reset(seed=7)
    np.testing.assert_array_equal(first.render(), before)
    first.close()
    second.close()


def test_inverse_kinematics_reaches_the_goal():
    kinematics = ArmKinematics()
    model, data = kinematics._configuration.model, kinematics._configuration.data
    rng, site = np.random.default_rng(0), kinematics._frame.frame_name
    for _ in range(20):
        goal = np.array([0.45, 0, 0.2]) + rng.uniform(-1, 1, 3) * (0.12, 0.15, 0.1)
        joints = np.array(NEUTRAL)
        for _ in range(4):
            joints = kinematics.solve(joints, goal, (0, 0.70710678, 0.70710678, 0))
        data.qpos[:7] = joints
        mujoco.mj_kinematics(model, data)
        assert np.linalg.norm(data.site(site).xpos - goal) < 2e-3


@pytest.mark.parametrize("action", [np.zeros(6), np.full(7, np.nan), np.zeros((1, 7))])
def test_a_bad_action_is_refused(env, action):
    env.reset(seed=0)
    with pytest.raises(PosaError, match="7 finite numbers"):
        env.step(action)


def test_physics_that_blew_up_is_noticed_until_the_next_reset(env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log where it runs
    env.reset(seed=0)
    env.data.qvel[0] = np.inf
    env.step(STILL)
    assert np.isfinite(env.data.qpos).all()  # MuJoCo has started over
    env.step(STILL)
    assert env.diverged()
    env.reset(seed=0)
    assert not env.diverged()


def test_bad_options_are_refused():
    with pytest.raises(PosaError, match="choose one of background, basic"):
        TabletopEnv(condition="dark")
    with pytest.raises(PosaError, match="unknown split"):
        TabletopEnv(split="test")
    with pytest.raises(PosaError, match="unknown category 'duck'"):
        TabletopEnv(categories=("duck",))
    with pytest.raises(PosaError, match="image_size"):
        TabletopEnv(image_size=4)
    with pytest.raises(PosaError, match="num_distractors of at least 0"):
        TabletopEnv(num_distractors=-1)
    with pytest.raises(PosaError, match="episode_length of at least 1"):
        TabletopEnv(episode_length=0)
    with pytest.raises(PosaError, match="reset"):
        TabletopEnv(image_size=16).step(STILL)


def test_the_screen_hides_the_target_from_the_head_camera_and_not_from_the_wrist():
    plain, env = (TabletopEnv(condition=c, split="train", image_size=64) for c in ("basic", "occlusion"))
    shown, hidden = [], []
    for seed in range(3):
        before, _ = plain.reset(seed=seed)
        observation, _ = env.reset(seed=seed)
        screen = env.episode.screen
        assert np.array_equal(before["pixels"]["wrist"], observation["pixels"]["wrist"])
        for step in range(screen.last + 1):
            there = screen.first <= step < screen.last
            (hidden if there else shown).append(env.target_visibility()["head"])
            assert (plain.target_visibility()["head"] == env.target_visibility()["head"]) == (not there)
            assert plain.target_visibility()["wrist"] == env.target_visibility()["wrist"]
            plain.step(STILL)
            env.step(STILL)
        np.testing.assert_array_equal(plain.data.qpos, env.data.qpos)  # nothing touched the screen
    assert max(hidden) < 0.05
    assert min(shown) > 0.5
    plain.close()
    env.close()
