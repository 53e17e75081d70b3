"""``posa-vla label``: a LeRobotDataset plus its anchors. Videos are never decoded."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla import __version__, options
from posa_vla.anchors.contact import ContactConfig
from posa_vla.anchors.detectors import DetectorConfig, count_kinds, detector_names
from posa_vla.anchors.dwell import DwellConfig
from posa_vla.anchors.events import GRIPPER
from posa_vla.anchors.label import EpisodeLabels, label_interactions
from posa_vla.anchors.pose import Transform
from posa_vla.contract import ANCHOR_NAMES, ANCHORS, ANCHORS_FILE, STEPS_TO_INTERACTION, TASK_ANCHOR, TASK_INDEX
from posa_vla.data.detection import Detection, check_found, describe_detectors, detect_all, detector_columns
from posa_vla.data.gripper_names import check_gripper_names
from posa_vla.data.label_checks import (
    Suspect,
    check_gripper_side,
    check_quaternion_order,
    check_state_pose,
    check_views,
    in_view,
)
from posa_vla.data.label_episodes import rig_of_each_episode, split_episodes
from posa_vla.data.label_features import check_features, check_rotation_names, check_sizes
from posa_vla.data.label_poses import hand_poses
from posa_vla.data.label_signals import gripper_source
from posa_vla.data.label_visibility import check_visibility, with_visibility
from posa_vla.data.rewriting import NewColumn, write_with_columns
from posa_vla.data.tables import read_columns, read_info
from posa_vla.errors import PosaError
from posa_vla.rigs import ROBOT_MODEL, JointSource, PoseSource, Rig, load_rig

GRIPPER_ALONE = DetectorConfig()
"""The paper's own interactions."""
SOME = 5
"""Episodes that a warning names."""


@dataclass
class DatasetArgs:
    """The dataset to read.

    Args:
        root: its folder.
        repo_id: its name on the hub; without a root, it is looked up where LeRobot keeps local datasets, then among
            those that LeRobot downloaded. Nothing is downloaded.
    """

    root: Path | None = None
    repo_id: str | None = None

    def folder(self) -> Path:
        if self.root is not None:
            return self.root
        if self.repo_id is None:
            raise PosaError("expected --dataset.root=FOLDER or --dataset.repo_id=NAME, got neither")
        from lerobot.utils.constants import HF_LEROBOT_HOME

        local = HF_LEROBOT_HOME / self.repo_id
        return local if local.exists() else _downloaded(self.repo_id, local)


def _downloaded(repo_id: str, local: Path) -> Path:
    """The folder to which LeRobot downloaded a dataset of the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    from lerobot.datasets.dataset_metadata import CODEBASE_VERSION
    from lerobot.utils import constants

    cache = constants.HF_LEROBOT_HUB_CACHE
    for revision in (CODEBASE_VERSION, "main"):  # LeRobot asks for the tag of its version
        with contextlib.suppress(LocalEntryNotFoundError, HFValidationError):
            found = snapshot_download(
                repo_id, repo_type="dataset", revision=revision, cache_dir=cache, local_files_only=True
            )
            return Path(str(found))
    raise PosaError(
        f"there is no dataset {repo_id} at {local}, nor among LeRobot's downloads in {cache}: give its folder as "
        "--dataset.root, or download it with LeRobot"
    )


@dataclass
class LabelConfig:
    """posa-vla label: write a new dataset with anchors and steps to the next interaction.

    Args:
        dataset: the dataset to read; it is not changed.
        rig: name of a rig that ships with the package, or the path of a rig's .yaml file.
        output: folder of the new dataset; must not exist.
        scene: the rig's scene of all episodes; None: the one that names the episode's sentence or number.
        num_workers: tables written at the same time; None: one per processor.
        detectors: comma list of gripper, contact, dwell, end: what counts as an interaction (docs/interactions.md).
        dwell: thresholds of that detector.
        contact: column and thresholds of that detector.
        merge_seconds: within which two detectors see one interaction; the first of the list above gives its frame.
        visibility: column that says how much of what the hand acts on next each camera sees (contract `VISIBILITY`):
            the task anchor's visibility; None: everything counts as seen.
    """

    dataset: DatasetArgs = field(default_factory=DatasetArgs)
    rig: str | None = None
    output: Path | None = None
    scene: str | None = None
    num_workers: int | None = None
    detectors: str = GRIPPER
    dwell: DwellConfig = field(default_factory=DwellConfig)
    contact: ContactConfig = field(default_factory=ContactConfig)
    merge_seconds: float = 0.5
    visibility: str | None = None


def main(argv: list[str]) -> int:
    config = options.parse(LabelConfig, argv)
    if config.rig is None or config.output is None:
        missing = "--rig=NAME (or a .yaml file)" if config.rig is None else "--output=FOLDER"
        raise PosaError(f"{missing} is missing")
    if config.num_workers is not None and config.num_workers < 1:
        raise PosaError(f"--num_workers must be 1 or more, got {config.num_workers}")
    rig = load_rig(config.rig)
    if config.scene is not None:
        rig = rig.in_scene(config.scene)
    detectors = DetectorConfig(detector_names(config.detectors), config.dwell, config.contact, config.merge_seconds)
    provenance = label_dataset(
        config.dataset.folder(), rig, config.output, config.num_workers, detectors, config.visibility
    )
    print(summary(provenance))
    print(f"labelled dataset: {config.output}")
    return 0


def label_dataset(
    root: Path,
    rig: Rig,
    output: Path,
    num_workers: int | None = None,
    detectors: DetectorConfig = GRIPPER_ALONE,
    visibility: str | None = None,
) -> dict[str, Any]:
    """Writes ``root`` plus `ANCHORS` and `STEPS_TO_INTERACTION` to ``output``; returns the provenance."""
    info = read_info(root)
    check_output(root, output)
    check_features(info["features"], rig, detectors.uses(GRIPPER))
    check_rotation_names(info["features"], rig.pose)
    if detectors.uses(GRIPPER):
        check_gripper_names(info["features"], gripper_source(rig))
    keys = {rig.pose.column, "episode_index", "frame_index", *([TASK_INDEX] if rig.scenes else [])}
    keys |= {rig.state_pose.column} if rig.state_pose else set()
    keys |= detector_columns(info["features"], rig, detectors)
    order = [] if visibility is None else check_visibility(info["features"], visibility, rig)
    keys |= {visibility} if visibility else set()
    columns = read_columns(root, sorted(keys))
    check_sizes(columns, info["features"])
    episodes = split_episodes(columns, info)
    rigs = rig_of_each_episode(rig, root, columns, episodes)

    hand = hand_poses(columns, rig.pose, episodes)
    if rig.state_pose is not None:
        check_state_pose(hand, hand_poses(columns, rig.state_pose, episodes))
    hands = [Transform(hand.dst, hand.src, hand.matrix[episode.rows]) for episode in episodes]
    found = detect_all(columns, info["features"], rig, hands, episodes, detectors, float(info["fps"]))
    labels = [
        label_interactions(hands[number], interactions, rigs[number].cameras, rig.pose.tool)
        for number, interactions in enumerate(found.interactions)
    ]
    anchors = np.concatenate([label.anchors for label in labels])
    steps = np.concatenate([label.steps_to_interaction for label in labels])
    if visibility is not None:
        anchors = with_visibility(anchors, columns[visibility][:, order], visibility)
    provenance = describe(rig, labels, anchors, found, source=root.resolve().name)
    provenance["visibility"] = visibility
    provenance["workspace"] = workspace_of(hand.apply(np.asarray(rig.pose.tool, dtype=np.float64)))
    if isinstance(rig.pose, JointSource):
        from posa_vla.rigs.kinematics import model_text

        provenance[ROBOT_MODEL] = model_text(rig.pose)
    if rig.scenes:
        provenance["scenes"] = dict(Counter(placed.name for placed in rigs))
    check_interactions(provenance, found, [episode.number for episode in episodes])
    if detectors.uses(GRIPPER):
        signals = [item.gripper for item in found.signals if item.gripper is not None]
        check_gripper_side(signals, gripper_source(rig).thresholds)
    suspects = [
        Suspect(hands[i], rigs[i].cameras, label.anchors, label.steps_to_interaction[:, 0], rig.pose.tool)
        for i, label in enumerate(labels)
    ]
    if isinstance(rig.pose, PoseSource):
        numbers = columns[rig.pose.column][:, list(rig.pose.rotation)]
        check_quaternion_order(suspects, [numbers[item.rows] for item in episodes], rig.pose.rotation_format)
    check_views(suspects)
    new_columns = {
        ANCHORS: NewColumn(anchors, list(rig.camera_names)),
        STEPS_TO_INTERACTION: NewColumn(steps),
    }
    write_with_columns(root, output, new_columns, {ANCHORS_FILE: provenance}, num_workers)
    return provenance


def check_output(root: Path, output: Path) -> None:
    if output.exists():
        raise PosaError(f"{output} exists already: choose another --output or remove it")
    if root.resolve() in output.resolve().parents:
        raise PosaError(f"{output} lies inside the dataset {root}, which must not change: choose another --output")


def describe(
    rig: Rig, labels: list[EpisodeLabels], anchors: np.ndarray, found: Detection, source: str
) -> dict[str, Any]:
    """The provenance file: rig, detectors, version, counts, and how much of it is in view."""
    kinds = count_kinds(found.interactions)
    gripper = {
        "closes": kinds.pop("close", 0),
        "openings": kinds.pop("open", 0),
        "dropped_closes": sum(episode.dropped for episode in found.interactions),
    }
    counts = {
        "episodes": len(labels),
        "frames": len(anchors),
        **(gripper if found.config.uses(GRIPPER) else {}),
        **(kinds if found.config.names != (GRIPPER,) else {}),
        "episodes_without_interaction": sum(len(episode.frames) == 0 for episode in found.interactions),
        "frames_without_task_anchor": int((anchors[:, 0, TASK_ANCHOR, 3] < 0).sum()),
    }
    return {
        "version": __version__,
        "source": source,
        "cameras": list(rig.camera_names),
        "anchors": list(ANCHOR_NAMES),
        "rig": rig.to_dict(),
        "detectors": describe_detectors(found, rig),
        "counts": counts,
        "in_frame": in_frame_shares(anchors, rig.camera_names),
    }


def workspace_of(positions: np.ndarray) -> list[list[float]]:
    """Lowest and highest corner of the hand's positions (N, 3), metres, world."""
    return np.round([positions.min(axis=0), positions.max(axis=0)], 6).tolist()


def in_frame_shares(anchors: np.ndarray, cameras: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    """Share of the known anchors (N, C, 2, 4) that lie inside the image; None where none is known."""
    known = anchors[..., 3] >= 0
    inside = known & in_view(anchors)
    return {
        camera: {
            anchor: round(float(inside[:, c, a].sum() / known[:, c, a].sum()), 4) if known[:, c, a].any() else None
            for a, anchor in enumerate(ANCHOR_NAMES)
        }
        for c, camera in enumerate(cameras)
    }


def check_interactions(provenance: Mapping[str, Any], found: Detection, numbers: Sequence[int]) -> None:
    """An error where no episode has an interaction; a warning where some have none, by their ``numbers``."""
    counts = provenance["counts"]
    check_found(found, counts)
    without = [str(number) for number, item in zip(numbers, found.interactions, strict=True) if not len(item.frames)]
    if without:
        some = ", ".join(without[:SOME]) + (", …" if len(without) > SOME else "")
        print(
            f"warning: {len(without)} of {counts['episodes']} episodes have no interaction ({some}); their task "
            "anchor is unknown",
            file=sys.stderr,
        )


def summary(provenance: Mapping[str, Any]) -> str:
    counts = json.dumps(provenance["counts"]).strip("{}").replace('"', "").replace("_", " ")
    shares = "; ".join(
        f"{camera} "
        + ", ".join(f"{anchor} {'-' if share is None else f'{share:.1%}'}" for anchor, share in anchors.items())
        for camera, anchors in provenance["in_frame"].items()
    )
    return f"{counts}\nanchors in view: {shares}"
