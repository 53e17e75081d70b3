"""Ground truth as a policy's input: for an upper bound only, and every result says so."""

from typing import Any

import numpy as np

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.label import UNKNOWN
from posa_vla.contract import ANCHORS, END_ANCHOR, TASK_ANCHOR

GROUND_TRUTH_ANCHORS = "ground-truth anchors"
"""What the records and the report call this input."""


def true_anchors(
    truth: Any, interaction: np.ndarray | None, cameras: tuple[str, ...], sizes: dict[str, tuple[int, int]]
) -> np.ndarray:
    """The contract's `ANCHORS` of the present state, float32 (C, 2, 4), as `anchors.label` defines them.

    Args:
        truth: the environment's ground truth gives the end effector's pose and the cameras.
        interaction: (3,) m, world: the end effector's position at its next interaction; None: nothing follows.
        cameras: in the policy's order.
        sizes: width and height in pixels of each camera's picture.
    """
    anchors = np.ones((len(cameras), 2, 4), np.float32)  # visibility: geometry alone cannot see an occlusion
    for index, name in enumerate(cameras):
        camera = simulator_camera(name, sizes[name], *truth.cameras[name])
        anchors[index, END_ANCHOR, :3] = camera.project(np.asarray(truth.ee_pose)[:3])
        if interaction is None:
            anchors[index, TASK_ANCHOR] = UNKNOWN
        else:
            anchors[index, TASK_ANCHOR, :3] = camera.project(interaction)
    return anchors


def observed(observation: dict[str, Any], policy: Any, env: Any, expert: Any) -> dict[str, Any]:
    """The environment's present observation as the policy gets it: with `ANCHORS` if it asks for them.

    `expert` is one of this environment: its `interaction()` says where the hand acts next.
    """
    if not policy.needs_anchors:
        return observation
    sizes = {name: image.shape[1::-1] for name, image in observation["pixels"].items()}
    anchors = true_anchors(env.ground_truth(), expert.interaction(), policy.cameras, sizes)
    return {**observation, ANCHORS: anchors}


def simulator_camera(name: str, size: tuple[int, int], intrinsics: np.ndarray, cam_from_world: np.ndarray) -> Camera:
    """One of the environment's cameras as it stands now, whatever it is mounted on."""
    (fx, _, cx), (_, fy, cy), _ = np.asarray(intrinsics)
    return Camera(name, *size, fx, fy, cx, cy, "world", cam_from_world)
