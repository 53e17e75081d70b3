"""Ground truth as a policy's input: for an upper bound only, and every result says so."""

from collections.abc import Callable
from typing import Any

import numpy as np

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.label import UNKNOWN
from posa_vla.contract import ANCHORS, END_ANCHOR, TASK_ANCHOR

GROUND_TRUTH_ANCHORS = "ground-truth anchors"
"""What the records and the report call this input."""


def true_anchors(env: Any, expert: Any, cameras: tuple[str, ...], sizes: dict[str, tuple[int, int]]) -> np.ndarray:
    """The contract's `ANCHORS` of the present state, float32 (C, 2, 4), as `anchors.label` defines them.

    Args:
        env: its `ground_truth()` gives the end effector's pose and the cameras.
        expert: its `interaction()` names the end effector's position at the next interaction, or None.
        cameras: in the policy's order.
        sizes: width and height in pixels of each camera's picture.
    """
    truth, interaction = env.ground_truth(), expert.interaction()
    anchors = np.ones((len(cameras), 2, 4), np.float32)  # visibility: geometry alone cannot see an occlusion
    for index, name in enumerate(cameras):
        camera = _camera(name, sizes[name], *truth.cameras[name])
        anchors[index, END_ANCHOR, :3] = camera.project(np.asarray(truth.ee_pose)[:3])
        if interaction is None:
            anchors[index, TASK_ANCHOR] = UNKNOWN
        else:
            anchors[index, TASK_ANCHOR, :3] = camera.project(interaction)
    return anchors


def observer(env: Any, policy: Any, make_expert: Callable[[Any], Any] | None) -> Callable[[dict], dict]:
    """What turns the environment's present observation into the policy's: it adds `ANCHORS` if the policy asks."""
    if not policy.needs_anchors:
        return lambda observation: observation
    if make_expert is None:
        raise ValueError("a policy that needs_anchors needs make_expert, to name the next interaction")
    expert = make_expert(env)
    expert.reset()

    def observe(observation: dict[str, Any]) -> dict[str, Any]:
        sizes = {name: image.shape[1::-1] for name, image in observation["pixels"].items()}
        return {**observation, ANCHORS: true_anchors(env, expert, policy.cameras, sizes)}

    return observe


def _camera(name: str, size: tuple[int, int], intrinsics: np.ndarray, cam_from_world: np.ndarray) -> Camera:
    (fx, _, cx), (_, fy, cy), _ = np.asarray(intrinsics)
    return Camera(name, *size, fx, fy, cx, cy, "world", cam_from_world)
