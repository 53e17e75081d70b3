"""Anchor labels of one episode: where the hand is, and where it will act next, in every camera."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.events import Interactions
from posa_vla.anchors.interaction import InteractionConfig, find_interactions, next_event
from posa_vla.anchors.pose import Transform, world_from_ee
from posa_vla.contract import END_ANCHOR, TASK_ANCHOR

UNKNOWN = (0.0, 0.0, 0.0, -1.0)
"""(u, v, depth, visibility) of an anchor that is not known; only the visibility carries meaning."""


@dataclass(frozen=True)
class EpisodeLabels:
    """Labels of one episode, T frames × C cameras in the rig's order.

    Args:
        anchors: float32 (T, C, 2, 4), contract `ANCHORS`.
        steps_to_interaction: float32 (T, 1), contract `STEPS_TO_INTERACTION`.
        interactions: the events they come from.
    """

    anchors: np.ndarray
    steps_to_interaction: np.ndarray
    interactions: Interactions


def label_episode(
    ee_poses: np.ndarray | Transform,
    gripper: np.ndarray,
    cameras: Sequence[Camera],
    config: InteractionConfig | None = None,
    finger_width: np.ndarray | None = None,
    tool: Sequence[float] = (0.0, 0.0, 0.0),
) -> EpisodeLabels:
    """Task and end anchors of every frame.

    The end anchor is the hand's own position. The task anchor of frame t is the hand's position at the first
    interaction e >= t, seen by *this* frame's camera (a hand camera moves between t and e); after the last
    interaction it is `UNKNOWN`.

    Args:
        ee_poses: (T, 7), world frame: position (m) and quaternion (w, x, y, z); or the same as world_from_ee.
        gripper: (T,), command scaled to 0 open … 1 closed.
        cameras: the rig's cameras, in its order.
        config: event thresholds; None for the defaults.
        finger_width: (T,), measured distance between the fingers in metres, or None.
        tool: (3,), the hand's position in the frame of ``ee_poses``, metres (the rig's pose.tool).
    """
    hand = ee_poses if isinstance(ee_poses, Transform) else world_from_ee(ee_poses)
    T = len(gripper)
    if hand.matrix.shape != (T, 4, 4):
        raise ValueError(f"expected one pose for each of {T} gripper values, got {hand.matrix.shape[:-2]}")
    interactions = find_interactions(gripper, config or InteractionConfig(), finger_width)
    return label_interactions(hand, interactions, cameras, tool)


def label_interactions(
    hand: Transform, interactions: Interactions, cameras: Sequence[Camera], tool: Sequence[float] = (0.0, 0.0, 0.0)
) -> EpisodeLabels:
    """`label_episode` where the interactions are known, whatever detected them.

    Args:
        hand: world_from_ee (T, 4, 4).
        interactions: of the episode.
        cameras: the rig's cameras, in its order.
        tool: see `label_episode`.
    """
    T = len(hand.matrix)
    event = next_event(interactions.frames, T)  # (T,)
    position = hand.apply(np.asarray(tool, dtype=np.float64))  # (T, 3)

    anchors = np.empty((T, len(cameras), 2, 4), dtype=np.float32)
    anchors[..., 3] = 1  # geometry alone cannot see an occlusion
    for c, camera in enumerate(cameras):
        anchors[:, c, END_ANCHOR, :3] = camera.project(position, hand)
        anchors[:, c, TASK_ANCHOR, :3] = camera.project(position[event], hand)
    anchors[event < 0, :, TASK_ANCHOR] = UNKNOWN
    steps = np.where(event < 0, -1, event - np.arange(T))
    return EpisodeLabels(anchors, steps.astype(np.float32)[:, None], interactions)
