"""What evaluation and labels may know of a scene and a policy may not."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ObjectState:
    """Pose in the world frame: position (3,) m, quaternion (w, x, y, z)."""

    name: str
    category: str
    colour: str
    position: np.ndarray
    quaternion: np.ndarray


@dataclass(frozen=True)
class GroundTruth:
    """The true state at one moment.

    Args:
        target: name of the object the sentence names, "{colour} {category}".
        task_id: the goal (see `Family.task_id`), whatever its wording.
        objects: the target first.
        ee_pose: (7,) world_from_ee: position (m), quaternion (w, x, y, z); the EE is the grip site.
        cameras: name to (K (3, 3), OpenCV, pixel centres at integers; cam_from_world (4, 4), OpenCV axes).
        lifted: name of the object that is lifted by 10 cm now, whichever it is.
        held_out_phrasing: the sentence's phrasing never occurs in training.
        stages: which of the family's stages have been reached so far.
        focus: (3,) m, where the hand will be when it next closes or opens for good; None: nothing is left to do.
    """

    target: str
    task_id: int
    objects: tuple[ObjectState, ...]
    ee_pose: np.ndarray
    cameras: dict[str, tuple[np.ndarray, np.ndarray]]
    lifted: str | None
    held_out_phrasing: bool
    stages: dict[str, bool]
    focus: np.ndarray | None

    @property
    def target_state(self) -> ObjectState:
        return self.objects[0]
