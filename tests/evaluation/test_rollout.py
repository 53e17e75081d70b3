"""Episodes: seeded, repeatable one by one, and never judged by an exception."""

import dataclasses

import evaluation_fakes as fakes
import numpy as np
import pytest
import torch
from evaluation_fakes import FakeEnv, FakePolicy, fake_setup

from posa_vla.contract import ANCHORS
from posa_vla.errors import PosaError
from posa_vla.evaluation.episode import expert_motion, run_episode
from posa_vla.evaluation.records import ERROR, FAILURE, SUCCESS, Job
from posa_vla.evaluation.rollout import Worker, make_jobs, run_episodes, worker_pool


def play(seed: int, **options):
    return run_episode(FakeEnv(episode_length=40), FakePolicy(), Job("basic", seed), fakes.make_expert, **options)


def test_an_episode_alone_equals_the_same_episode_among_others():
    worker = Worker(fake_setup(attention_every=7))
    among = [worker(job) for job in make_jobs(["basic"], 6, seed=0)]
    torch.manual_seed(99)
    np.random.seed(99)
    alone = play(4, attention_every=3)
    assert alone.same_episode(among[4])
    assert len({record.motion.path_length for record in among}) == 6


def test_looking_at_the_attention_changes_nothing():
    seen = []
    watched = play(2, attention_every=1, watch=lambda observation, view: seen.append(view))
    assert watched.same_episode(play(2, attention_every=0))
    assert len(seen) == watched.motion.steps + 1
    assert seen[0][0].shape == (2, 2, 16, 16)


def test_a_different_movement_is_not_the_same_episode():
    one, other = play(1), play(2)
    assert not one.same_episode(other)
    assert one.same_episode(dataclasses.replace(one, policy_seconds=9.0, attempts=2))


def test_records_tell_what_happened():
    records = [play(seed) for seed in range(12)]
    for record in records:
        assert record.outcome in (SUCCESS, FAILURE)
        assert record.target.split()[0] in record.task
        assert record.motion.path_length > 0.2
        assert record.env_seconds > 0
        if record.outcome == SUCCESS:
            assert record.target_rise >= 0.1
            assert record.target_distance < 0.04
            assert record.motion.steps <= 40
    assert {record.outcome for record in records} == {SUCCESS, FAILURE}


def test_lifting_another_object_is_noticed():
    class Confused(FakePolicy):
        def act(self, observation, task):
            other = env.objects[1].position
            return fakes.reach(env.hand, other, env.held is not None)

    env = FakeEnv(episode_length=40)
    record = run_episode(env, Confused(), Job("basic", 0), fakes.make_expert)
    assert record.outcome == FAILURE
    assert record.wrong_object == env.objects[1].name
    assert record.other_distance < 0.04 < record.target_distance


@pytest.mark.parametrize("after", [0, 4])
def test_a_policy_whose_action_is_not_finite_has_failed(after):
    class Broken(FakePolicy):
        def act(self, observation, task):
            self.calls = getattr(self, "calls", 0) + 1
            return super().act(observation, task) * (np.nan if self.calls > after else 1)

    record = run_episode(FakeEnv(episode_length=40), Broken(), Job("basic", 3), fakes.make_expert)
    assert (record.outcome, record.mistake) == (FAILURE, "an action was not finite")
    assert record.motion.steps == after


def test_anchor_samples_meet_the_truth():
    record = play(3, attention_every=5)
    assert record.anchors["steps"] == list(range(0, record.motion.steps, 5))
    head_task, head_end = np.array(record.anchors["predicted"])[0, 0]
    true_task, true_end = np.array(record.anchors["true"], float)[0, 0]
    assert head_end == pytest.approx(true_end, abs=1e-3)  # the fake knows its own hand
    assert true_task == pytest.approx(head_task, abs=0.2)
    assert play(3, attention_every=0).anchors is None


class Told(FakePolicy):
    """Reads the target off the true anchors of the head view, and only there."""

    needs_anchors = True

    def act(self, observation, task):
        self.seen.append(observation[ANCHORS])
        self.planned = len(self.seen) % 3 == 1
        return super().act(observation, task)

    def attention(self, observation, task):
        return super().attention(observation, task)[0], observation[ANCHORS][..., :2]

    def reset(self, seed):
        super().reset(seed)
        self.seen, self.astray = [], False


def test_a_policy_that_asks_for_true_anchors_gets_those_of_the_labels():
    policy = Told(noise=0.0)
    record = run_episode(FakeEnv(episode_length=40), policy, Job("basic", 3), fakes.make_expert, 1)
    assert record.outcome == SUCCESS
    assert record.privileged == "ground-truth anchors"
    assert record.anchors["predicted"][0] == record.anchors["true"][0]
    known = np.array(policy.seen)[:, 0, 0, 3]
    assert known[0] == 1
    assert known[-1] == -1  # the fingers hold the target: no interaction follows
    assert (np.diff(known) <= 0).all()
    assert play(3).privileged is None
    worker = Worker(fake_setup(make_policy=lambda source: Told(noise=0.0)))
    assert worker(Job("basic", 3)).same_episode(record)


def test_the_calls_that_computed_a_chunk_are_timed_apart():
    policy = Told(noise=0.0)
    record = run_episode(FakeEnv(episode_length=40), policy, Job("basic", 3), fakes.make_expert, 0)
    assert len(record.chunk_seconds) == -(-record.motion.steps // 3)
    assert 0 < sum(record.chunk_seconds) < record.policy_seconds


def test_the_expert_plays_the_same_scene():
    env = FakeEnv(episode_length=40)
    motion = expert_motion(env, fakes.make_expert, seed=3)
    assert motion.path_length < play(3).motion.path_length
    assert expert_motion(FakeEnv(episode_length=2), fakes.make_expert, seed=3) is None
    record = next(r for r in map(Worker(fake_setup()), make_jobs(["basic"], 9, 0)) if r.outcome == SUCCESS)
    assert record.expert == expert_motion(FakeEnv(episode_length=40), fakes.make_expert, record.seed)


def test_an_exception_is_an_error_and_the_next_episode_gets_a_new_environment():
    worker = Worker(fake_setup())
    assert worker(Job("basic", 12)).outcome != ERROR
    before = worker.env
    broken = worker(Job("basic", 13))
    assert (broken.outcome, broken.message) == (ERROR, "RuntimeError: the scene cannot be built")
    assert before.closed
    assert worker(Job("basic", 14)).outcome != ERROR
    assert worker.env is not before


def test_one_environment_at_a_time():
    worker = Worker(fake_setup())
    worker(Job("basic", 0))
    first = worker.env
    worker(Job("basic", 1))
    assert worker.env is first
    worker(Job("lights", 0))
    assert first.closed
    assert worker.env.condition == "lights"


def test_what_no_other_seed_can_cure_ends_the_run():
    answer = Worker(fake_setup())(Job("nowhere", 0))
    assert isinstance(answer, PosaError)
    worker = Worker(fake_setup())
    worker.policy.check = lambda observation: (_ for _ in ()).throw(PosaError("expected a state of 9"))
    assert "state of 9" in str(worker(Job("basic", 0)))


def test_the_number_of_workers_changes_no_episode_and_a_death_is_an_error():
    """Seed 3 kills its worker each time; the others come out as they do in this process."""
    jobs = make_jobs(["basic"], 5, seed=0)
    setup = fake_setup(make_policy=fakes.make_kamikaze, expert=False)
    said = []
    with worker_pool(setup, 2, said.append) as pool:
        records = {r.seed: r for r in run_episodes(jobs, pool)}
    assert sorted(records) == [0, 1, 2, 3, 4]
    assert records[3].outcome == ERROR
    assert "died 2 times" in records[3].message
    assert len(said) == 2
    for seed in (0, 1, 2, 4):
        assert records[seed].same_episode(play(seed))
