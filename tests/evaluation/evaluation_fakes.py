"""A tabletop without physics and policies without networks, small enough to read the expected numbers off."""

import os
import signal
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from posa_vla.errors import PosaError
from posa_vla.evaluation.records import EnvOptions
from posa_vla.evaluation.rollout import Setup

COLOURS = {"red": (205, 50, 45), "blue": (50, 90, 205), "green": (60, 160, 70), "yellow": (225, 190, 60)}
HOME = np.array([0.0, 0.0, 0.30])


@dataclass
class FakeObject:
    name: str
    position: np.ndarray


def look_down(height: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """K and cam_from_world of a camera `height` metres above the origin, looking straight down."""
    focal = size * 1.0
    intrinsics = np.array([[focal, 0, size / 2 - 0.5], [0, focal, size / 2 - 0.5], [0, 0, 1]])
    cam_from_world = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, height], [0, 0, 0, 1]])
    return intrinsics, cam_from_world


class FakeEnv:
    """A point hand over three discs; state: hand (3), target (3), gripper, 0. It lifts whatever it closes on."""

    metadata = {"render_fps": 20}  # noqa: RUF012

    def __init__(self, condition: str = "basic", image_size: int = 64, episode_length: int = 60) -> None:
        self.condition, self.size, self._max_episode_steps = condition, image_size, episode_length
        self.closed = False

    def reset(self, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed == 13:
            raise RuntimeError("the scene cannot be built")
        self.rng = np.random.default_rng([seed, len(self.condition)])
        names = list(self.rng.permutation(list(COLOURS))[:3])
        spots = self.rng.permutation(np.array([[-0.12, 0.05], [0.0, -0.1], [0.12, 0.08]]))
        spots = spots + self.rng.uniform(-0.03, 0.03, spots.shape)
        self.objects = [FakeObject(f"{n} disc", np.array([*xy, 0.02])) for n, xy in zip(names, spots, strict=True)]
        self.hand, self.held, self.step_count, self.high = HOME.copy(), None, 0, 0
        self.task = self.task_description = f"pick up the {names[0]} disc"
        return self._observation(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.hand += 0.05 * np.clip(action[:3], -1, 1)
        self.hand[2] = max(self.hand[2], 0.02)
        if action[6] > 0 and self.held is None:
            near = [o for o in self.objects if np.linalg.norm(o.position - self.hand) < 0.04]
            self.held = near[0] if near else None
        if self.held is not None:
            self.held.position = self.hand.copy()
        self.step_count += 1
        self.high = self.high + 1 if self.ground_truth().lifted == self.objects[0].name else 0
        success = self.high >= 3
        info = {"is_success": success, "stages": {"picked": self.high > 0}, "mistake": ""}
        return self._observation(), 0.0, success, self.step_count >= 1000, info

    def ground_truth(self) -> SimpleNamespace:
        lifted = next((o.name for o in self.objects if o.position[2] >= 0.12), None)
        cameras = {"head": look_down(0.6, self.size), "wrist": look_down(0.6, self.size)}
        wrist = cameras["wrist"][1].copy()
        wrist[:3, 3] = [-self.hand[0], self.hand[1], self.hand[2] + 0.1]  # rides 10 cm above the hand
        cameras["wrist"] = (cameras["wrist"][0], wrist)
        pose = np.array([*self.hand, 1, 0, 0, 0])
        return SimpleNamespace(
            target=self.objects[0].name, objects=self.objects, ee_pose=pose, cameras=cameras, lifted=lifted
        )

    def close(self) -> None:
        self.closed = True

    def views(self) -> dict[str, np.ndarray]:
        return {name: self._image(*camera) for name, camera in self.ground_truth().cameras.items()}

    def _observation(self) -> dict[str, Any]:
        state = np.array([*self.hand, *self.objects[0].position, self.held is not None, 0], np.float32)
        return {"pixels": self.views(), "agent_pos": state}

    def _image(self, intrinsics: np.ndarray, cam_from_world: np.ndarray) -> np.ndarray:
        image = np.full((self.size, self.size, 3), (176, 160, 140), np.uint8)
        things = [(o.position, COLOURS[o.name.split()[0]], 0.035) for o in self.objects]
        for position, colour, radius in [*things, (self.hand, (70, 70, 75), 0.025)]:
            point = cam_from_world[:3, :3] @ position + cam_from_world[:3, 3]
            if point[2] > 0.02:
                u, v = (intrinsics @ point)[:2] / point[2]
                cv2.circle(image, (round(u), round(v)), round(radius * self.size / point[2]), colour, -1, cv2.LINE_AA)
        return image


class FakeExpert:
    """Over the target, down, close, up."""

    def __init__(self, env: FakeEnv) -> None:
        self.env = env

    def reset(self) -> None:
        pass

    def interaction(self) -> np.ndarray | None:
        return None if self.env.held is not None else self.env.objects[0].position

    def act(self) -> np.ndarray:
        return reach(self.env.hand, self.env.objects[0].position, self.env.held is not None)


def reach(hand: np.ndarray, target: np.ndarray, holding: bool) -> np.ndarray:
    action = np.zeros(7, np.float32)
    goal = np.array([*hand[:2], 0.4]) if holding else target
    if not holding and np.linalg.norm((target - hand)[:2]) > 0.02:
        goal = np.array([*target[:2], 0.2])
    gap = goal - hand
    action[:3] = np.clip(gap / 0.05, -1, 1) * 0.5
    action[6] = 1.0 if holding or np.linalg.norm(target - hand) < 0.03 else -1.0
    return action


class FakePolicy:
    """Reaches for what the state says, with noise from torch's generator; one episode in four goes astray."""

    cameras = ("head", "wrist")
    has_attention = True
    needs_anchors = False
    planned = True
    space = None

    def __init__(self, noise: float = 0.3) -> None:
        self.noise = noise

    def check(self, observation: dict[str, Any]) -> None:
        if observation["agent_pos"].shape != (8,):
            raise PosaError("expected a state of 8")

    def reset(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.astray = torch.rand(1).item() < 0.25

    def act(self, observation: dict[str, Any], task: str) -> np.ndarray:
        state = observation["agent_pos"].astype(np.float64)
        goal = state[3:6] + (np.array([0.09, 0.05, 0]) if self.astray else 0)
        action = reach(state[:3], goal, state[6] > 0)
        action[:3] += self.noise * torch.randn(3).numpy()
        return action

    def attention(self, observation: dict[str, Any], task: str) -> tuple[np.ndarray, np.ndarray]:
        hand, target = observation["agent_pos"][:3], observation["agent_pos"][3:6]
        if self.astray:
            target = target + np.array([0.09, 0.05, 0])
        uv = np.empty((2, 2, 2))
        for index, (origin, height) in enumerate(((np.zeros(2), 0.6), (hand[:2], hand[2] + 0.1))):
            for anchor, point in enumerate((target, hand)):
                flat = (point[:2] - origin) / (height - point[2])
                uv[index, anchor] = 0.5 + flat * (1, -1)
        centres = (np.arange(16) + 0.5) / 16
        gaps = (centres[None, :] - uv[..., :1, None]) ** 2 + (centres[:, None] - uv[..., 1:, None]) ** 2
        return np.exp(-gaps / (2 * np.array([0.1, 1 / 15])[None, :, None, None] ** 2)), uv


def make_env(condition: str, split: str, options: Any) -> FakeEnv:
    if condition == "nowhere":
        raise PosaError("there is no such table")
    return FakeEnv(condition, options.image_size, options.episode_length)


def make_policy(source: Any) -> FakePolicy:
    return FakePolicy()


def make_expert(env: FakeEnv) -> FakeExpert:
    return FakeExpert(env)


def fake_setup(**changes: Any) -> Setup:
    options = EnvOptions(image_size=64, episode_length=40)
    factories = {"make_env": make_env, "make_policy": make_policy, "make_expert": make_expert}
    return Setup(None, **{"env": options, **factories, **changes})


class Kamikaze(FakePolicy):
    """Kills its own process in seed 3, every time."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        if seed == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def make_kamikaze(source: Any) -> Kamikaze:
    return Kamikaze()
