"""Which grasp ends each frame's approach: until then the object rests where the gripper will close on it."""

from pathlib import Path

import numpy as np

from posa_vla.anchors.detectors import DetectorConfig
from posa_vla.anchors.events import Interactions
from posa_vla.anchors.interaction import next_event
from posa_vla.anchors.pose import EE, WORLD, Transform
from posa_vla.calibration.poses import EpisodePoses
from posa_vla.data.detection import detect_all, detector_columns
from posa_vla.data.gripper_names import check_gripper_names
from posa_vla.data.label_features import check_columns
from posa_vla.data.tables import read_columns, read_info
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig


def read_closes(root: Path, rig: Rig, poses: EpisodePoses) -> np.ndarray:
    """(N,) the row at which the gripper closes next, as labelling detects it; -1 where it opens first, or never closes.

    Raises:
        PosaError: the rig has no gripper, or one that does not fit the dataset or closes on something in no episode.
    """
    if rig.gripper is None:
        raise PosaError(
            "marks of grasps need the gripper, whose closes say where the hand grasps: give --gripper.column=COLUMN "
            "(in a rig file that exists: add its gripper block), or mark points that rest in the world "
            "(--marks_are=resting)"
        )
    info, config = read_info(root), DetectorConfig()
    check_columns(info["features"], rig)
    check_gripper_names(info["features"], rig.gripper)
    columns = read_columns(root, sorted(detector_columns(info["features"], rig, config)))
    hands = [Transform(WORLD, EE, poses.world_from_ee[episode.rows]) for episode in poses.episodes]
    found = detect_all(columns, info["features"], rig, hands, poses.episodes, config, float(info["fps"]))
    closes = np.concatenate(
        [
            approaches(interactions, episode.rows.start, episode.rows.stop)
            for interactions, episode in zip(found.interactions, poses.episodes, strict=True)
        ]
    )
    if (closes < 0).all():
        raise PosaError(
            f"the gripper closes on something in none of the {len(poses.episodes)} episodes: correct the rig's "
            "gripper, or mark points that rest in the world (--marks_are=resting)"
        )
    return closes


def approaches(interactions: Interactions, start: int, stop: int) -> np.ndarray:
    """(stop - start,) of one episode's rows: the row of the next interaction where that is a close, else -1."""
    following = next_event(interactions.frames, stop - start)
    ends_in_close = np.isin(following, interactions.frames[interactions.closes])
    return np.where(ends_in_close, start + following, -1)
