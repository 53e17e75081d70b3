"""The data contract: every key that crosses a border between rooms, with its dtype, shape, unit and frame.

Datasets are LeRobotDataset v3; ``C`` cameras, ``A`` action dimensions, ``S`` state dimensions. Cameras keep
one order everywhere: the order of the rig, which is the order of `ANCHORS`' feature names.
"""

# LeRobot's own keys, spelled out: importing its constants would import torch. A test holds them equal.
OBS_IMAGES, OBS_STATE, ACTION = "observation.images", "observation.state", "action"

HEAD, WRIST = "head", "wrist"
CAMERAS = (HEAD, WRIST)
"""Camera names of the tabletop suite, in order; another robot's names and order come from its rig."""

FPS = 20
"""Control steps, and recorded frames, per second of the tabletop suite."""

STATE = OBS_STATE
"""``observation.state``, float32, (S,). Tabletop and LIBERO, S = 8: EE position (m, world), EE axis-angle
(rad, world), two finger positions (m)."""

EE_POSE = "ee_pose"
"""``ee_pose``, float32, (7,): world_from_ee as position (m) and quaternion (w, x, y, z). Its name does not
begin with ``observation.`` so that no policy takes it for an input."""

CONTACT = "contact"
"""``contact``, float32, (1,): the force (N) with which the hand presses on objects, the sum of all normal forces; 0
where it touches none. Recorded by task families whose interactions are contacts. No policy's input, as `EE_POSE`."""

ANCHORS = "observation.anchors"
"""``observation.anchors``, float32, (C, 2, 4): camera × (task, end) × (u, v, depth, visibility).

u, v: continuous image coordinates of the image as stored, divided by width and height; unclamped, finite.
depth: metres along the optical axis. visibility: 1 seen … 0 occluded; -1 unknown (masked out of the loss).
A point behind the camera is (-1, -1, depth <= 0, 1): known, and trained to an empty map."""

TASK_ANCHOR, END_ANCHOR = 0, 1
ANCHOR_NAMES = ("task", "end")

VISIBILITY = "visibility"
"""``visibility``, float32, (C,), optional: share of what the hand acts on next that each camera sees, in [0, 1]; -1
where nothing is left to do. Its feature's names are the cameras. A label's source, no policy's input."""

STEPS_TO_INTERACTION = "observation.steps_to_interaction"
"""float32, (1,): control steps until the interaction that the task anchor marks; -1 for none."""

TASK_INDEX = "task_index"
"""int64, the dataset's own id of the sentence; `TASK_IDS_FILE` says which sentences mean one goal."""

TASK_IDS_FILE = "meta/posa_task_ids.json"
"""Optional JSON object {sentence: goal id} beside the dataset: "same instruction" in the contrastive loss
means the same goal id; without the file every sentence is its own. The tabletop recorder writes it."""

ANCHORS_FILE = "meta/posa_anchors.json"
"""Provenance of `ANCHORS`: rig, detectors, thresholds, counts and the version that wrote them."""

RAW_STATE = "observation.raw_state"
"""float32, (B, S), inside a batch only: `STATE` before normalisation, for policies that place cameras by it."""

LANGUAGE_TOKENS = "observation.language.tokens"
LANGUAGE_MASK = "observation.language.attention_mask"


LONE_IMAGE = "observation.image"
"""LeRobot's key in datasets of one camera; the camera's name is then ``image``."""


def image_key(camera: str) -> str:
    """``observation.images.<camera>``: uint8 video in the dataset, float32 (3, H, W) in [0, 1] in a batch."""
    return f"{OBS_IMAGES}.{camera}"


def camera_name(key: str) -> str:
    """The camera of an image key: all of ``<name>``, dots included, or ``image`` of `LONE_IMAGE`."""
    return key.removeprefix(f"{OBS_IMAGES}.").removeprefix("observation.")


__all__ = [
    "ACTION",
    "ANCHORS",
    "ANCHORS_FILE",
    "ANCHOR_NAMES",
    "CAMERAS",
    "CONTACT",
    "EE_POSE",
    "END_ANCHOR",
    "FPS",
    "HEAD",
    "LANGUAGE_MASK",
    "LANGUAGE_TOKENS",
    "LONE_IMAGE",
    "RAW_STATE",
    "STATE",
    "STEPS_TO_INTERACTION",
    "TASK_ANCHOR",
    "TASK_IDS_FILE",
    "TASK_INDEX",
    "VISIBILITY",
    "WRIST",
    "camera_name",
    "image_key",
]
