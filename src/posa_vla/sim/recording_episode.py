"""One demonstration: the expert answers every state it sees, while noise pushes the robot off its path.

After DART (Laskey et al., 2017): the *executed* action is the expert's plus noise, the *recorded* one is the
expert's own, so each row (s_t, a_t) shows what to do in s_t, also in states the expert alone never visits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CORRELATION = 0.8
"""Lag-one correlation of the noise: white noise would average out within a fraction of a second."""

ROTATION_SHARE = 0.3
"""Rotation noise as a share of translation noise, both in action units (1 = 0.5 rad, 1 = 0.05 m)."""

MEAN_STEPS_ON, MEAN_STEPS_OFF = 8, 16
"""Mean length of a perturbed stretch and of the calm one before the next, in control steps: the calm ones
leave time to recover and to grasp."""

FUMBLE_START, FUMBLE_STEPS = (6, 19), (5, 13)
"""When a fumble begins and how long it lasts, control steps, upper ends excluded: around the time of the
grasp, long enough to carry the empty hand away, too short to succeed with an object it happened to catch."""

FUMBLE_LIFT_AFTER, FUMBLE_LIFT = 4, 0.4
"""After so many steps of a fumble the hand is lifted at this speed (action units), as after a grasp."""

_NOISE_STREAM, _FUMBLE_STREAM = (
    0x905A,
    0xF0B1,
)  # apart from the environment's, which has the same seed


@dataclass(frozen=True)
class Demonstration:
    """T rows of one episode; row t holds the observation before action t and the action then answered.

    Args:
        seed: the environment's seed.
        task: the sentence.
        task_id: the goal it names; several sentences share one.
        images: camera -> uint8, (T, H, W, 3).
        state: float32, (T, 8), contract.STATE.
        action: float32, (T, 7), the expert's own, in [-1, 1].
        ee_pose: float32, (T, 7), contract.EE_POSE.
        visibility: float32, (T, C), contract.VISIBILITY; None where it was not asked for.
        contact: float32, (T, 1), contract.CONTACT; None where it was not asked for.
        success: whether the task was done; failures are not recorded.
    """

    seed: int
    task: str
    task_id: int
    images: dict[str, np.ndarray]
    state: np.ndarray
    action: np.ndarray
    ee_pose: np.ndarray
    success: bool
    visibility: np.ndarray | None = None
    contact: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.action)


def perturbation(rng: np.random.Generator, steps: int, std: float) -> np.ndarray:
    """Action noise of one episode, float32, (steps, 7), in action units; the gripper's column is zero.

    A stationary AR(1) process of standard deviation `std`, switched on and off by a two-state Markov chain
    that begins at its equilibrium. The draws do not depend on `std`, so that 0 changes nothing else.
    """
    stationary = rng.standard_normal((steps, 6))
    innovation = np.sqrt(1 - CORRELATION**2)
    for t in range(1, steps):
        stationary[t] = CORRELATION * stationary[t - 1] + innovation * stationary[t]
    on = np.empty(steps, dtype=bool)
    active = rng.random() < MEAN_STEPS_ON / (MEAN_STEPS_ON + MEAN_STEPS_OFF)
    for t, draw in enumerate(rng.random(steps)):
        active = active != (draw < 1 / (MEAN_STEPS_ON if active else MEAN_STEPS_OFF))
        on[t] = active
    noise = np.zeros((steps, 7), dtype=np.float32)
    scale = std * np.array([1, 1, 1, ROTATION_SHARE, ROTATION_SHARE, ROTATION_SHARE])
    noise[:, :6] = stationary * scale * on[:, None]
    return noise


def fumble(rng: np.random.Generator, share: float) -> range:
    """Steps at which the hand closes on its own and then lifts; none in `1 - share` of the episodes.

    A policy that closes beside the object and lifts an empty hand is in a state that no clean demonstration
    shows, and stays there. A fumble shows it, with the expert's answer: open, come back, close again. Since the
    recorded action is the expert's, it is no interaction in the labels.
    """
    start, length = rng.integers(*FUMBLE_START), rng.integers(*FUMBLE_STEPS)
    return range(start, start + length) if rng.random() < share else range(0)


def demonstrate(
    env: Any,
    expert: Any,
    seed: int,
    action_noise: float,
    fumbles: float = 0.0,
    check: Callable[[], None] = lambda: None,
    visibility: bool = False,
    contact: bool = False,
) -> Demonstration:
    """Play one episode of `env` from `seed`; `check` is called at every step and may raise to stop it."""
    observation, _ = env.reset(seed=seed)
    expert.reset()
    steps = env._max_episode_steps
    noise = perturbation(np.random.default_rng([_NOISE_STREAM, seed]), steps, action_noise)
    fumbled = fumble(np.random.default_rng([_FUMBLE_STREAM, seed]), fumbles)
    task, task_id = env.task_description, int(env.ground_truth().task_id)
    rows, done, success = [], False, False
    seen: list[list[float]] = []
    touched: list[list[float]] = []
    for t in range(steps):
        check()
        action = np.asarray(expert.act(), dtype=np.float32)
        pixels = {camera: image.copy() for camera, image in observation["pixels"].items()}
        rows.append((pixels, observation["agent_pos"].copy(), action, env.ground_truth().ee_pose))
        if visibility:
            seen.append(list(env.focus_visibility().values()))
        if contact:
            touched.append([env.contact_force()])
        executed = np.clip(action + noise[t], -1.0, 1.0)
        if t in fumbled:
            executed[6] = 1.0
            if t - fumbled.start >= FUMBLE_LIFT_AFTER:
                executed[2] = FUMBLE_LIFT
        observation, _, terminated, truncated, info = env.step(executed)
        success, done = bool(info["is_success"]), terminated or truncated
        if done:
            break
    shares = np.array(seen, dtype=np.float32) if visibility else None
    forces = np.array(touched, dtype=np.float32) if contact else None
    return Demonstration(seed, task, task_id, *_stack(rows), success=success, visibility=shares, contact=forces)


def _stack(rows: list[tuple]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    pixels, states, actions, poses = zip(*rows, strict=True)
    images = {camera: np.stack([frame[camera] for frame in pixels]) for camera in pixels[0]}
    state, action, pose = (np.stack(column).astype(np.float32) for column in (states, actions, poses))
    return images, state, action, pose
