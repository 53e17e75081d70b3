"""Every task family under every condition: scenes, stages, experts, sentences, and the contract with a policy."""

import dataclasses

import numpy as np
import pytest

from posa_vla.anchors.label import label_episode
from posa_vla.errors import PosaError
from posa_vla.evaluation.episode import unseen
from posa_vla.rigs import load_rig
from posa_vla.sim.conditions import CONDITIONS, RANDOMISED, SPLITS, split_pairs
from posa_vla.sim.env import HOLD_STEPS, TabletopEnv
from posa_vla.sim.episode import Options
from posa_vla.sim.families import FAMILIES, get_family, make_expert
from posa_vla.sim.families.push import drawn_back, on_mark
from posa_vla.sim.grasping import Grip, object_grip
from posa_vla.sim.layout import footprint
from posa_vla.sim.objects import CATEGORIES
from posa_vla.sim.transfer import Transfer

OTHERS = tuple(name for name in FAMILIES if name != "pick")  # pick has tests of its own
STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)


def options(condition="basic", split="train"):
    return Options(condition, split, split_pairs(), 4)


def sampled(name, count, condition="basic", split="train"):
    return [get_family(name).sample(options(condition, split), seed) for seed in range(count)]


def play(env, act, limit=None):
    """The infos of one episode of an environment that was reset, without pictures."""
    infos, done = [], False
    with unseen(env):
        while not done and len(infos) != limit:
            *_, terminated, truncated, info = env.step(act())
            infos.append(info)
            done = terminated or truncated
    return infos


@pytest.mark.parametrize("condition", [*CONDITIONS, RANDOMISED])
@pytest.mark.parametrize("name", OTHERS)
def test_the_expert_succeeds_stage_by_stage(name, condition):
    env = TabletopEnv(condition=condition, split="train", image_size=16, family=name)
    expert = make_expert(env)
    for seed in range(2):
        observation, info = env.reset(seed=seed)
        assert env.observation_space.contains(observation)
        assert not any(info["stages"].values())
        expert.reset()
        infos = play(env, expert.act)
        assert infos[-1]["is_success"], infos[-1]
        assert not any(info["is_success"] for info in infos[:-1])
        reached = np.array([list(info["stages"].values()) for info in infos])  # (T, stages)
        assert tuple(infos[0]["stages"]) == env.family.stages
        assert (np.diff(reached.astype(int), axis=0) >= 0).all(), "a stage that was reached stays reached"
        first = reached.argmax(0)
        assert (np.diff(first) > 0).all(), "stages are listed in the order of their happening"
        assert len(infos) - first[-1] >= HOLD_STEPS
    env.close()


@pytest.mark.parametrize("name", ["box", "place"])
def test_the_labels_find_every_grasp_and_release_where_the_environment_says(name):
    """One close and one opening for each thing that is carried; the anchor is where the next of them happens."""
    env = TabletopEnv(split="train", image_size=16, family=name)
    expert, gaps = make_expert(env), []
    for seed in range(3):
        env.reset(seed=seed)
        expert.reset()
        told, poses, grip = [], [], []

        def act(told=told, poses=poses, grip=grip):
            told.append(expert.interaction())
            poses.append(env.ground_truth().ee_pose)
            action = expert.act()
            grip.append((action[6] + 1) / 2)
            return action

        play(env, act)
        labels = label_episode(np.array(poses), np.array(grip), load_rig("tabletop").cameras)
        carried = {"box": 2, "place": 1}[name]
        assert labels.interactions.closes.tolist() == [True, False] * carried
        after = labels.steps_to_interaction[:, 0].astype(int)
        assert [point is not None for point in told] == (after >= 0).tolist()
        for step in np.flatnonzero(after >= 0):
            gaps.append(np.linalg.norm(told[step] - poses[step + after[step]][:3]))
    assert np.percentile(gaps, 98) < 0.02
    assert max(gaps) < 0.06
    env.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_state_and_action_are_the_same_in_every_family(name):
    env, pick = (TabletopEnv(image_size=16, family=family) for family in (name, "pick"))
    assert (env.observation_space, env.action_space) == (pick.observation_space, pick.action_space)
    observation, _ = env.reset(seed=0)
    np.testing.assert_allclose(observation["agent_pos"][:3], env.ee_pose()[0], atol=1e-6)
    assert env._max_episode_steps == get_family(name).episode_length
    env.close()
    pick.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_doing_nothing_is_no_success(name):
    env = TabletopEnv(split="train", image_size=16, family=name, episode_length=20)
    env.reset(seed=0)
    infos = play(env, lambda: STILL)
    assert len(infos) == 20
    assert not any(infos[-1]["stages"].values())
    env.close()


@pytest.mark.parametrize("name", OTHERS)
def test_equal_seeds_give_equal_scenes_and_splits_differ(name):
    for split in SPLITS:
        for a, b in zip(sampled(name, 5, split=split), sampled(name, 5, split=split), strict=True):
            assert (a.layout, a.instruction, a.task_id) == (b.layout, b.instruction, b.task_id)
    scenes = {repr(episode.layout) for split in SPLITS for episode in sampled(name, 40, split=split)}
    assert len(scenes) == 3 * 40


@pytest.mark.parametrize("name", OTHERS)
def test_fixtures_and_objects_stand_apart(name):
    """In the settled scene nothing but the lid on its box touches, and nothing has been pushed."""
    env = TabletopEnv(condition="distractors", split="train", image_size=16, family=name)
    for seed in range(4):
        env.reset(seed=seed)
        for slot, placed in enumerate(env.episode.objects):
            assert np.abs(env.object_pose(slot)[0] - placed.position).max() < 0.004
        for fixture, pose in env.episode.layout.fixtures.items():
            assert np.abs(env.fixture_pose(fixture)[0] - pose[:3]).max() < 0.002
        others = [footprint(placed) for placed in env.episode.objects]
        spot = env.episode.layout.spot
        if spot is not None:  # free, so that something can be put down there
            assert min(np.linalg.norm(spot - other.points[0]) - other.radius for other in others) > 0.04
    env.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_held_out_sentences_and_pairs_are_for_evaluation_only(name):
    assert not any(episode.held_out_phrasing for episode in sampled(name, 60))
    known = {episode.instruction for episode in sampled(name, 400)}
    shown = sampled(name, 200, split="eval")
    assert any(episode.held_out_phrasing for episode in shown)
    assert not {episode.instruction for episode in shown if episode.held_out_phrasing} & known
    held_out = set(split_pairs().held_out)
    for condition in ("basic", "objects"):
        for episode in sampled(name, 20, condition):
            target = episode.objects[0]
            assert ((target.colour, target.category) in held_out) == (condition == "objects")
            assert f"{target.colour} {target.category}" in episode.instruction


def test_task_ids_are_one_per_goal_and_apart_between_families():
    goals: dict[int, set] = {}
    for name in FAMILIES:
        for episode in sampled(name, 150):
            goals.setdefault(episode.task_id, set()).add((name, episode.target, episode.relation))
    assert all(len(goal) == 1 for goal in goals.values())
    assert len({get_family(name).index for name in FAMILIES}) == len(FAMILIES)


def test_pick_episodes_stay_those_that_numbers_were_published_on():
    """Three scenes of the first release, to the millimetre."""
    found = [
        (e.instruction, e.task_id, [round(1000 * float(c)) for c in e.objects[0].position[:2]])
        for e in sampled("pick", 3, split="val")
    ]
    assert found == [
        ("take the cyan ring", 59, [338, 13]),
        ("lift the green bread", 17, [345, 0]),
        ("take the yellow milk", 35, [498, 80]),
    ]


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(PosaError, match="unknown task family 'juggle': choose one of box"):
        TabletopEnv(family="juggle")


@pytest.mark.parametrize("name", OTHERS)
def test_a_table_that_is_too_full_says_so(name):
    crowd = dataclasses.replace(options(), num_distractors=len(CATEGORIES) + 1)
    with pytest.raises(PosaError, match="do not fit on the table"):
        get_family(name).sample(crowd, 0)


def test_held_out_pairs_without_a_target_say_so():
    pairs = split_pairs(("cube", "can"), ("red", "green"))  # holds out the green can, which is never pushed
    with pytest.raises(PosaError, match="the held-out pairs of the chosen categories and colours: allow more of cube"):
        get_family("push").sample(Options("objects", "train", pairs, 1), 0)


# ---- place ------------------------------------------------------------------------------------------------


def test_both_sides_are_asked_for_and_the_scene_does_not_tell_which():
    episodes = sampled("place", 80)
    sides = {side: sum(e.relation == side for e in episodes) for side in ("left", "right")}
    assert min(sides.values()) > 25
    for episode in episodes:
        assert f" {episode.relation} " in episode.instruction
        plate = episode.layout.fixtures["plate"]
        offset = episode.layout.spot[1] - plate[1]
        assert (offset > 0) == (episode.relation == "left")
        for placed in episode.objects:  # the place on the other side is as free
            other = (episode.layout.spot[0], plate[1] - offset)
            assert np.linalg.norm(np.subtract(other, placed.position[:2])) > 0.045 + footprint(placed).radius


def test_the_other_side_is_no_success_and_is_counted():
    env = TabletopEnv(split="train", image_size=16, family="place", episode_length=90)
    expert = make_expert(env)
    env.reset(seed=1)
    asked = env.episode
    plate = asked.layout.fixtures["plate"]
    wrong = {"left": "right", "right": "left"}[asked.relation]
    mirrored = dataclasses.replace(asked.layout, spot=(asked.layout.spot[0], 2 * plate[1] - asked.layout.spot[1]))
    doing = dataclasses.replace(asked, layout=mirrored, relation=wrong)

    def act():
        env.episode = doing
        action = expert.act()
        env.episode = asked
        return action

    infos = play(env, act)
    assert not any(info["is_success"] or info["stages"]["placed"] for info in infos)
    assert infos[-1]["stages"]["picked"]
    assert infos[-1]["mistake"] == "put it on the other side"
    env.close()


# ---- box --------------------------------------------------------------------------------------------------


def test_an_object_in_a_closed_box_s_place_is_not_in_it():
    """Put on top of the lid, the object is not in the box, and the box is not open."""
    env = TabletopEnv(split="train", image_size=16, family="box")
    env.reset(seed=0)
    box, _ = env.fixture_pose("box")
    start = env.slots.qpos[0]
    env.data.qpos[start : start + 3] = (box[0], box[1] + 0.045, 0.11)
    infos = play(env, lambda: STILL, limit=25)
    assert not any(infos[-1]["stages"].values())
    env.close()


def test_what_stands_in_the_box_stays_there():
    """A slim thing that was let fall into the box: a floor of a thin geom threw it out again (seed 39 of val)."""
    env = TabletopEnv(split="val", image_size=16, family="box")
    expert = make_expert(env)
    env.reset(seed=39)
    expert.reset()
    assert play(env, expert.act)[-1]["is_success"]
    play(env, lambda: STILL, limit=20)
    assert np.linalg.norm(env.object_pose(0)[0][:2] - env.fixture_pose("box")[0][:2]) < 0.06
    env.close()


# ---- push -------------------------------------------------------------------------------------------------


def pushed_episode(env, seed):
    """Hand positions (T, 3), gripper commands (T,), contact (T,) before each action of the expert, and what it told."""
    expert = make_expert(env)
    env.reset(seed=seed)
    expert.reset()
    rows = []

    def act():
        told, force = expert.interaction(), env.contact_force()
        action = expert.act()
        rows.append((env.ee_pose()[0], action[6], force, told))
        return action

    infos = play(env, act)
    assert infos[-1]["is_success"]
    return rows


def test_a_push_has_no_gripper_event_and_its_touches_are_measured():
    env = TabletopEnv(split="train", image_size=16, family="push")
    for seed in range(2):
        rows = pushed_episode(env, seed)
        assert {grip for _, grip, _, _ in rows} == {1.0}
        force = np.array([row[2] for row in rows])
        touching = np.flatnonzero(force > 0)
        assert 3 < len(touching) < len(rows) / 2
        assert force.max() < 20, "a hand that presses harder than that is stuck"
        first = touching[0]
        told = np.array([row[3] for row in rows[: first - 1]])  # a gap of less than 6 mm counts as none
        assert np.linalg.norm(told - rows[first][0], axis=1).max() < 0.02, "told beforehand where the touch will be"
        assert rows[-1][3] is None
    env.close()


def test_another_object_on_the_mark_is_a_mistake_and_a_target_that_fell_over_does_not_count():
    env = TabletopEnv(split="train", image_size=16, family="push")
    env.reset(seed=0)
    mark = env.fixture_pose("mark")[0]
    target, other = env.slots.qpos[0], env.slots.qpos[1]
    assert env.family.mistake(env) == ""
    home = env.data.qpos[other : other + 2].copy()
    env.data.qpos[other : other + 2] = mark[:2]
    assert env.family.mistake(env) == "another object is on the mark"
    env.data.qpos[other : other + 2] = home
    env.data.qpos[target : target + 2] = mark[:2]
    assert env.family.reached(env) == {"touched": False, "pushed": True}
    env.data.qpos[target + 2] += 0.02
    assert not env.family.reached(env)["pushed"]
    env.close()


def test_an_object_that_was_carried_to_the_mark_was_not_pushed():
    env = TabletopEnv(split="train", image_size=16, family="push", categories=("cube",))
    env.reset(seed=0)
    mark, hand = env.fixture_pose("mark")[0], Transfer(env)
    hand.reset()

    def act():
        if on_mark(env, 0) and not hand.holding:
            return hand.withdraw()
        grip = object_grip(env)
        return hand.carry(grip, Grip(np.array([*mark[:2], grip.below + 0.003]), 0.0, grip.below))

    infos = play(env, act)
    assert on_mark(env, 0) and drawn_back(env) and env.stages["touched"]
    assert not infos[-1]["is_success"] and infos[-1]["mistake"] == "lifted it instead of pushing"
    env.close()


def test_contacts_are_measured_only_where_asked_for_and_do_not_change_the_physics():
    plain = TabletopEnv(split="train", image_size=16)
    measuring = TabletopEnv(split="train", image_size=16, contacts=True)
    with pytest.raises(PosaError, match="pass contacts=True"):
        plain.contact_force()
    forces = []
    for env in (plain, measuring):
        expert = make_expert(env)
        env.reset(seed=0)
        expert.reset()

        def act(env=env, expert=expert):
            if env is measuring:
                forces.append(env.contact_force())
            return expert.act()

        assert play(env, act)[-1]["is_success"]
    np.testing.assert_array_equal(plain.data.qpos, measuring.data.qpos)
    assert forces[0] == 0 and max(forces) > 0, "the hand holds what it has picked up"
