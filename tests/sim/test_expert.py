import numpy as np
import pytest

from posa_vla.anchors.label import label_episode
from posa_vla.rigs import load_rig
from posa_vla.sim.benchmark import expert_table, run_episode
from posa_vla.sim.conditions import CONDITIONS
from posa_vla.sim.env import TabletopEnv
from posa_vla.sim.expert import Expert
from posa_vla.sim.grasping import object_grip


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_expert_picks_what_is_named(condition):
    env = TabletopEnv(condition=condition, split="train", image_size=16)
    outcomes = [run_episode(env, Expert(env), seed) for seed in range(6)]
    env.close()
    assert all(outcome.success for outcome in outcomes)
    assert max(outcome.steps for outcome in outcomes) <= 60


def test_a_restricted_suite_works_in_every_condition():
    for condition in CONDITIONS:
        env = TabletopEnv(condition, "train", 16, ("cube", "can", "bowl", "bottle"), ("red", "green", "blue", "yellow"))
        assert run_episode(env, Expert(env), 3).success
        assert all(o.colour in ("red", "green", "blue", "yellow") for o in env.episode.objects[:5])
        env.close()


def test_the_expert_follows_an_object_that_was_moved():
    env = TabletopEnv(split="train", image_size=16, num_distractors=0)
    env.reset(seed=1)
    expert = Expert(env)
    for step in range(80):
        if step == 9:  # the hand is on its way down
            env.data.qpos[env.slots.qpos[0]] += 0.07
        *_, terminated, _, _ = env.step(expert.act())
        if terminated:
            break
    env.close()
    assert terminated


def test_the_expert_starts_over_when_the_object_was_lost():
    env = TabletopEnv(split="train", image_size=16, num_distractors=0)
    env.reset(seed=1)
    expert, dropped = Expert(env), False
    for _ in range(120):
        if not dropped and env.ground_truth().target_state.position[2] > 0.08:
            start = env.slots.qpos[0]
            home = env.episode.objects[0].position
            env.data.qpos[start : start + 3] = (home[0] - 0.05, home[1], home[2] + 0.002)
            env.data.qvel[env.slots.dofs[0] : env.slots.dofs[0] + 6] = 0
            dropped = True
        *_, terminated, _, _ = env.step(expert.act())
        if terminated:
            break
    env.close()
    assert dropped
    assert terminated


def test_the_expert_recovers_from_perturbed_actions():
    env = TabletopEnv(split="train", image_size=16)
    expert, rng, successes = Expert(env), np.random.default_rng(0), 0
    for seed in range(6):
        env.reset(seed=seed)
        expert.reset()
        done = False
        while not done:
            noise = rng.normal(0, 0.25, 7) * (1, 1, 1, 0.2, 0.2, 0.2, 0)
            *_, terminated, truncated, info = env.step(np.clip(expert.act() + noise, -1, 1))
            done = terminated or truncated
        successes += info["is_success"]
    env.close()
    assert successes >= 5


def test_actions_lie_in_the_box():
    env = TabletopEnv(split="train", image_size=16)
    env.reset(seed=0)
    expert = Expert(env)
    for _ in range(25):
        action = expert.act()
        assert env.action_space.contains(action)
        env.step(action)
    env.close()


def test_the_table_counts_every_condition():
    env = TabletopEnv(split="train", image_size=16)
    table = expert_table([run_episode(env, Expert(env), 0)])
    env.close()
    assert "basic            1/1" in table
    assert "lights           0/0" in table


def test_it_names_the_next_interaction_as_the_labels_do():
    """Known exactly while the labels know it, and the point at which the hand then really closes."""
    env = TabletopEnv(split="train", image_size=16)
    expert, gap = Expert(env), []
    for seed in range(5):
        env.reset(seed=seed)
        expert.reset()
        told, poses, grip, terminated = [], [], [], False
        while not terminated:
            told.append(expert.interaction())
            poses.append(env.ground_truth().ee_pose)
            action = expert.act()
            grip.append((action[6] + 1) / 2)
            *_, terminated, _, _ = env.step(action)
        labels = label_episode(np.array(poses), np.array(grip), load_rig("tabletop").cameras)
        known = labels.steps_to_interaction[:, 0] >= 0
        assert [point is not None for point in told] == known.tolist()
        close = poses[labels.interactions.frames[0]][:3]
        gap += [np.linalg.norm(point - close) for point in told if point is not None]
    env.close()
    assert max(gap) < 0.02


def test_a_missed_grasp_leaves_the_interaction_ahead():
    env = TabletopEnv(split="train", image_size=16)
    env.reset(seed=0)
    expert = Expert(env)
    for _ in range(8):
        env.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))  # closes on air
    np.testing.assert_array_equal(expert.interaction(), object_grip(env).position)
    env.close()
