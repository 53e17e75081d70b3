"""The dataset under inspection: poses, gripper, events and anchors, taken as they are instead of refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.anchors.detectors import DetectorConfig, detect
from posa_vla.anchors.events import GRIPPER
from posa_vla.anchors.label import EpisodeLabels, label_interactions
from posa_vla.anchors.pose import Transform, world_from_ee
from posa_vla.contract import ANCHORS, ANCHORS_FILE, STEPS_TO_INTERACTION, TASK_INDEX
from posa_vla.data.detection import contact_sizes, detector_columns, recorded_detectors, resolve, signals_of_each
from posa_vla.data.gripper_names import check_gripper_names
from posa_vla.data.label_episodes import EpisodeRows, rig_of_each_episode, split_episodes
from posa_vla.data.label_features import check_features
from posa_vla.data.label_poses import hand_poses
from posa_vla.data.label_signals import finger_width, unchecked_gripper_signal
from posa_vla.data.tables import read_columns, read_info
from posa_vla.data.tasks import read_sentences
from posa_vla.errors import PosaError
from posa_vla.rigs import GripperSource, JointSource, PoseSource, Rig, load_rig, parse_recorded_rig

GRIPPER_ALONE = DetectorConfig()


@dataclass(frozen=True)
class Gripper:
    """A gripper as it was recorded in T frames.

    Args:
        source: where, and the thresholds.
        signal: (T,), scaled to 0 open … 1 closed.
        width: (T,), measured finger width (m), or None.
    """

    source: GripperSource
    signal: np.ndarray
    width: np.ndarray | None

    def part(self, rows: slice) -> "Gripper":
        """The same in some of its frames."""
        return Gripper(self.source, self.signal[rows], None if self.width is None else self.width[rows])


@dataclass(frozen=True)
class Subject:
    """A dataset with the rig that explains it; N frames, C cameras in the rig's order.

    Args:
        root: the dataset's folder.
        info: meta/info.json.
        rig: cameras, pose and gripper source.
        placed: the rig as it stands in each episode; the same one everywhere where the rig has no scenes.
        columns: those that the rig needs, (N, numbers per frame).
        episodes: the rows of each episode.
        hand: world_from_ee (N, 4, 4), as recorded; the rig's tool is not in it.
        gripper: N frames; None where the rig has none.
        labels: what `posa-vla label` makes of each episode with this rig.
        anchors: (N, C, 2, 4), the dataset's own where it has them, else those of ``labels``.
        stored: whether they are the dataset's own.
        tasks: the sentence of each episode.
        detectors: that ``labels`` come from, with every threshold filled in.
    """

    root: Path
    info: Mapping[str, Any]
    rig: Rig
    placed: list[Rig]
    columns: Mapping[str, np.ndarray]
    episodes: list[EpisodeRows]
    hand: Transform
    gripper: Gripper | None
    labels: list[EpisodeLabels]
    anchors: np.ndarray
    stored: bool
    tasks: list[str]
    detectors: DetectorConfig

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    def poses_of(self, rows: slice) -> Transform:
        return Transform(self.hand.dst, self.hand.src, self.hand.matrix[rows])


def open_subject(root: Path, rig_name: str | None = None, detectors: DetectorConfig = GRIPPER_ALONE) -> Subject:
    """The dataset at ``root`` with a rig.

    Args:
        root: a LeRobotDataset v3.
        rig_name: a rig; its anchors are shown whatever the dataset holds. None: the dataset's own anchors, with
            the rig and the detectors that they were made with.
        detectors: with ``rig_name``: what counts as an interaction.

    Raises:
        PosaError: no rig is known, the rig does not fit the dataset, or its columns hold NaN.
    """
    info = read_info(root)
    stored = rig_name is None
    rig, detectors = _recorded(root) if rig_name is None else (load_rig(rig_name), detectors)
    features = dict(info["features"])
    if stored and ANCHORS not in features:
        raise PosaError(f"{root} has {ANCHORS_FILE} but no column {ANCHORS}: label it again, or give --rig")
    label_columns = [key for key in (ANCHORS, STEPS_TO_INTERACTION) if features.pop(key, None)]
    check_features(features, rig, with_gripper=rig.gripper is not None or detectors.uses(GRIPPER))
    if rig.gripper is not None and detectors.uses(GRIPPER):
        check_gripper_names(features, rig.gripper)
    detected = sorted(detector_columns(features, rig, detectors))
    wanted = [*source_columns(rig), *detected, *(label_columns if stored else ())]
    return subject_of(root, info, rig, read_columns(root, list(dict.fromkeys(wanted))), stored, detectors)


def source_columns(rig: Rig) -> list[str]:
    """The columns that a subject with this rig is made of."""
    sources = () if rig.gripper is None else (rig.gripper.command, rig.gripper.width)
    return [rig.pose.column, *(s.column for s in sources if s), "episode_index", "frame_index", TASK_INDEX]


def subject_of(
    root: Path,
    info: Mapping[str, Any],
    rig: Rig,
    columns: Mapping[str, np.ndarray],
    stored: bool,
    detectors: DetectorConfig = GRIPPER_ALONE,
) -> Subject:
    """`open_subject` of columns that are read already."""
    episodes = split_episodes(columns, info)
    hand = _poses_as_they_are(columns, rig, episodes)
    gripper = signal = width = thresholds = None
    if rig.gripper is not None:
        signal = unchecked_gripper_signal(columns, rig.gripper, episodes)
        width, thresholds = finger_width(columns, rig.gripper, episodes), rig.gripper.thresholds
        gripper = Gripper(rig.gripper, signal, width)
    placed = rig_of_each_episode(rig, root, columns, episodes)
    fps, tool = float(info["fps"]), np.asarray(rig.pose.tool, dtype=np.float64)
    poses = [Transform(hand.dst, hand.src, hand.matrix[episode.rows]) for episode in episodes]
    contacts = contact_sizes(columns, info["features"], episodes, detectors, fps)
    signals = signals_of_each([pose.apply(tool) for pose in poses], episodes, signal, width, contacts)
    if not stored:
        detectors = resolve(detectors, info["features"], signals, fps)
    labels = [
        label_interactions(pose, detect(seen, detectors, thresholds, fps), here.cameras, here.pose.tool)
        for pose, seen, here in zip(poses, signals, placed, strict=True)
    ]
    anchors = np.concatenate([label.anchors for label in labels])
    if stored:
        anchors = _stored_anchors(root, info, columns, rig)
    tasks = _tasks(root, columns, episodes)
    return Subject(root, info, rig, placed, columns, episodes, hand, gripper, labels, anchors, stored, tasks, detectors)


def _recorded(root: Path) -> tuple[Rig, DetectorConfig]:
    """The rig and the detectors in the labels' provenance."""
    path = root / ANCHORS_FILE
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
        rig, detectors = parse_recorded_rig(provenance), recorded_detectors(provenance)
    except FileNotFoundError:
        raise PosaError(
            f"{root} has no labels of posa-vla label ({ANCHORS_FILE} is missing): give --rig=NAME or a .yaml file to "
            "see the anchors that it would make"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PosaError(f"cannot read the rig in {path} ({error}): give --rig=NAME or a .yaml file") from error
    pose = rig.pose
    if isinstance(pose, JointSource) and not (pose.kept_model or pose.is_placed):
        raise PosaError(
            f"{path} was written by a version that kept no robot model, and says of {pose.model} only that it lay "
            "beside the rig file: give that file as --rig=FILE.yaml, or label the dataset again"
        )
    return rig, detectors


def _stored_anchors(root: Path, info: Mapping[str, Any], columns: Mapping[str, np.ndarray], rig: Rig) -> np.ndarray:
    names = info["features"][ANCHORS].get("names")
    if tuple(names or ()) != rig.camera_names:
        raise PosaError(
            f"{root}: the anchors are of the cameras {names}, the rig in {ANCHORS_FILE} has {list(rig.camera_names)}: "
            "label the dataset again"
        )
    anchors = columns[ANCHORS].reshape(-1, len(rig.cameras), 2, 4)
    if not np.isfinite(anchors).all():
        raise PosaError(f"{root}: {ANCHORS} holds NaN or infinity: see posa-vla validate {root}")
    return anchors


def _poses_as_they_are(columns: Mapping[str, np.ndarray], rig: Rig, episodes: list[EpisodeRows]) -> Transform:
    """world_from_ee (N, 4, 4) even where the unit looks wrong: that is what the checks are to explain."""
    source = rig.pose
    if not isinstance(source, PoseSource):
        return hand_poses(columns, source, episodes)
    values = columns[source.column].astype(np.float64)[:, list(source.indices)]
    is_quaternion = source.rotation_format.startswith("quaternion")
    turned = not is_quaternion or (np.linalg.norm(values[:, 3:], axis=1) > 1e-6).all()
    if not (np.isfinite(values).all() and turned):
        return hand_poses(columns, source, episodes)  # raises, and names the frame
    return world_from_ee(values, source.rotation_format)


def _tasks(root: Path, columns: Mapping[str, np.ndarray], episodes: list[EpisodeRows]) -> list[str]:
    """The sentence of each episode's first frame."""
    sentences = read_sentences(root)
    first = columns[TASK_INDEX][[episode.rows.start for episode in episodes], 0]
    return [sentences.get(int(number), "(no sentence)") for number in first]
