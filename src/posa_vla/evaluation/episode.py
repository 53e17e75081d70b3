"""One seeded episode, from reset to record."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from posa_vla.evaluation.anchor_error import AnchorTrack
from posa_vla.evaluation.motion import log_dimensionless_jerk, path_length
from posa_vla.evaluation.privileged import GROUND_TRUTH_ANCHORS, observed
from posa_vla.evaluation.records import FAILURE, SUCCESS, EpisodeRecord, Job, Motion
from posa_vla.evaluation.space_error import Space

Attention = tuple[np.ndarray, np.ndarray]
"""Maps (C, 2, Hp, Wp) in [0, 1] and points (C, 2, 2)."""


class Policy(Protocol):
    """What an episode needs of a policy (`runner.PolicyRunner`; a fake in tests)."""

    cameras: tuple[str, ...]
    has_attention: bool
    needs_anchors: bool  # the true anchors beside the observation
    planned: bool  # the last `act` computed a chunk of actions
    space: Space | None  # what the last `attention` said of depth

    def check(self, observation: dict[str, Any]) -> None: ...
    def reset(self, seed: int) -> None: ...
    def act(self, observation: dict[str, Any], task: str) -> np.ndarray: ...
    def attention(self, observation: dict[str, Any], task: str) -> Attention: ...


NOT_FINITE = "an action was not finite"
"""A policy's mistake, as a fall would be: the episode has failed."""

Views = Callable[[], dict[str, np.ndarray]]
"""The cameras' pictures for people, as the scene is now."""

Watcher = Callable[[dict[str, np.ndarray], Attention | None], None]
"""Called at every step with the cameras' pictures for people and the attention (None: the policy has none)."""


@dataclass
class Track:
    """What the ground truth says step by step, gathered for the record. Metres, world frame."""

    dt: float
    target: str
    start_height: float
    positions: list[np.ndarray]
    wrong_object: str | None = None
    target_distance: float = np.inf
    other_distance: float = np.inf
    target_rise: float = 0.0

    @classmethod
    def begin(cls, truth: Any, dt: float) -> "Track":
        target = next(item for item in truth.objects if item.name == truth.target)
        track = cls(dt, truth.target, float(target.position[2]), [])
        track.add(truth)
        return track

    def add(self, truth: Any) -> None:
        hand = np.array(truth.ee_pose, np.float64)[:3]  # a copy: the environment may reuse its buffer
        self.positions.append(hand)
        for item in truth.objects:
            gap = float(np.linalg.norm(np.asarray(item.position) - hand))
            if item.name == self.target:
                self.target_distance = min(self.target_distance, gap)
                self.target_rise = max(self.target_rise, float(item.position[2]) - self.start_height)
            else:
                self.other_distance = min(self.other_distance, gap)
        if truth.lifted is not None and truth.lifted != self.target and self.wrong_object is None:
            self.wrong_object = truth.lifted

    def motion(self) -> Motion:
        positions = np.array(self.positions)
        smoothness = log_dimensionless_jerk(positions, self.dt)
        return Motion(len(positions) - 1, path_length(positions), smoothness)


def run_episode(
    env: Any,
    policy: Policy,
    job: Job,
    make_expert: Callable[[Any], Any],
    attention_every: int = 10,
    watch: Watcher | None = None,
) -> EpisodeRecord:
    """Play one episode; its record follows from (environment, policy, job) alone, the two times excepted.

    Anchors are sampled every `attention_every` steps (0: never), at every step where `watch` looks on; that
    time is nobody's, it counts neither as the policy's nor as the environment's. An expert from `make_expert`
    tells where the true task anchor is; it does not act.
    """
    observation, info = env.reset(seed=job.seed)
    policy.reset(job.seed)
    expert = make_expert(env)
    expert.reset()
    task, truth = env.task_description, env.ground_truth()
    track = Track.begin(truth, 1 / env.metadata["render_fps"])
    sampler = _Sampler(policy, observation, attention_every, watch, env.views)
    policy_seconds = env_seconds = 0.0
    chunk_seconds: list[float] = []
    success = done = False
    step, mistake, stages = 0, None, info.get("stages", {})
    while not done:
        observation = observed(observation, policy, env, expert)
        sampler.look(step, observation, task, truth, expert.interaction())
        start = time.perf_counter()
        action = np.asarray(policy.act(observation, task), np.float32)
        acted = time.perf_counter()
        if not np.isfinite(action).all():
            mistake = NOT_FINITE
            break
        observation, _, terminated, truncated, info = env.step(action)
        env_seconds += time.perf_counter() - acted
        policy_seconds += acted - start
        if policy.planned:
            chunk_seconds.append(round(acted - start, 6))
        truth = env.ground_truth()
        track.add(truth)
        step += 1
        success, stages = bool(info["is_success"]), info["stages"]
        mistake = mistake or info["mistake"] or None
        done = bool(terminated or truncated or success or step >= env._max_episode_steps)
    sampler.last(observed(observation, policy, env, expert), task)
    return EpisodeRecord(
        condition=job.condition,
        seed=job.seed,
        outcome=SUCCESS if success else FAILURE,
        task=task,
        target=track.target,
        wrong_object=track.wrong_object,
        motion=track.motion(),
        target_distance=_finite(track.target_distance),
        other_distance=_finite(track.other_distance),
        target_rise=track.target_rise,
        policy_seconds=policy_seconds,
        env_seconds=env_seconds,
        chunk_seconds=chunk_seconds,
        anchors=sampler.anchors.to_json() if sampler.anchors else None,
        privileged=GROUND_TRUTH_ANCHORS if policy.needs_anchors else None,
        stages=dict(stages),
        mistake=mistake,
    )


class _Sampler:
    """Asks the policy where it looks, when someone wants to know."""

    def __init__(
        self, policy: Policy, observation: dict[str, Any], every: int, watch: Watcher | None, views: Views
    ) -> None:
        self.policy, self.every, self.watch, self.views = policy, every, watch, views
        self.anchors: AnchorTrack | None = None
        if policy.has_attention and every:
            sizes = {name: image.shape[1::-1] for name, image in observation["pixels"].items()}
            self.anchors = AnchorTrack(policy.cameras, sizes)

    def look(
        self, step: int, observation: dict[str, Any], task: str, truth: Any, interaction: np.ndarray | None
    ) -> None:
        due = self.anchors is not None and step % self.every == 0
        if not (due or self.watch):
            return
        view = self.policy.attention(observation, task) if self.policy.has_attention else None
        if due and self.anchors is not None and view is not None:
            self.anchors.add(step, view, truth, interaction, self.policy.space)
        if self.watch:
            self.watch(self.views(), view)

    def last(self, observation: dict[str, Any], task: str) -> None:
        if self.watch:
            has = self.policy.has_attention
            self.watch(self.views(), self.policy.attention(observation, task) if has else None)


def expert_motion(env: Any, make_expert: Callable[[Any], Any], seed: int) -> Motion | None:
    """The scripted expert on the same scene; None where it fails too."""
    env.reset(seed=seed)
    expert = make_expert(env)
    expert.reset()
    track = Track.begin(env.ground_truth(), 1 / env.metadata["render_fps"])
    with unseen(env):
        for _ in range(env._max_episode_steps):
            _, _, terminated, truncated, info = env.step(expert.act())
            track.add(env.ground_truth())
            if info["is_success"]:
                return track.motion()
            if terminated or truncated:
                break
    return None


@contextlib.contextmanager
def unseen(env: Any) -> Iterator[None]:
    """Steps without pictures: the expert reads the true state, and drawing is most of a step's time."""
    renderer = getattr(env, "renderer", None)
    if renderer is None:
        yield
        return
    blank = np.zeros((renderer.size, renderer.size, 3), np.uint8)
    env.renderer = SimpleNamespace(render=lambda *_: blank)
    try:
        yield
    finally:
        env.renderer = renderer


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
