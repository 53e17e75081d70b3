"""The detectors on a whole dataset: the columns they need, thresholds from all episodes, interactions of each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from posa_vla.anchors import contact, dwell
from posa_vla.anchors.contact import ContactConfig
from posa_vla.anchors.detectors import DetectorConfig, Signals, detect
from posa_vla.anchors.dwell import DwellConfig
from posa_vla.anchors.events import CONTACT, DETECTORS, DWELL, GRIPPER, Interactions
from posa_vla.anchors.pose import Transform
from posa_vla.data.label_episodes import EpisodeRows
from posa_vla.data.label_signals import (
    OTHER_DETECTORS,
    check_width,
    contact_column,
    contact_values,
    finger_width,
    gripper_signal,
    unchecked_gripper_signal,
)
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig


@dataclass(frozen=True)
class Detection:
    """What the detectors made of a dataset.

    Args:
        config: with every threshold filled in.
        signals: of each episode.
        interactions: of each episode.
    """

    config: DetectorConfig
    signals: list[Signals]
    interactions: list[Interactions]


def detector_columns(features: Mapping[str, Any], rig: Rig, config: DetectorConfig) -> set[str]:
    """Dataset columns that the detectors read besides the pose's."""
    keys: set[str] = set()
    if config.uses(GRIPPER):
        keys |= {source.column for source in (rig.gripper.command, rig.gripper.width) if source}
    if config.uses(CONTACT):
        keys.add(contact_column(features, config.contact))
    return keys


def detect_all(
    columns: Mapping[str, np.ndarray],
    features: Mapping[str, Any],
    rig: Rig,
    hands: Sequence[Transform],
    episodes: list[EpisodeRows],
    config: DetectorConfig,
    fps: float,
) -> Detection:
    """Interactions of every episode.

    Args:
        columns: those of `detector_columns`, (N, numbers per frame).
        features: the dataset's, by column.
        rig: pose and gripper; its cameras do not matter here.
        hands: world_from_ee (T, 4, 4) of each episode.
        episodes: the rows of each.
        config: thresholds of dwell and contact that are None are taken from all episodes together.
        fps: frames per second.

    Raises:
        PosaError: a detector's signal is missing, broken, or says nothing.
    """
    tool = np.asarray(rig.pose.tool, dtype=np.float64)
    gripper = width = None
    if config.uses(GRIPPER):
        gripper = _gripper(columns, rig, episodes, config)
        width = finger_width(columns, rig.gripper, episodes)
        if width is not None and rig.gripper.width is not None:
            check_width(width, rig.gripper.width)
    sizes: list[np.ndarray] | None = None
    if config.uses(CONTACT):
        key = contact_column(features, config.contact)
        values = contact_values(columns, key, config.contact, episodes)
        sizes = [contact.contact_size(values[item.rows], fps, config.contact.rest) for item in episodes]
        resolved = contact.resolve(config.contact, sizes, f"the contact signal in {key}")
        config = replace(config, contact=replace(resolved, column=key))
    signals = [
        Signals(
            hands[number].apply(tool),
            None if gripper is None else gripper[episode.rows],
            None if width is None else width[episode.rows],
            None if sizes is None else sizes[number],
        )
        for number, episode in enumerate(episodes)
    ]
    if config.uses(DWELL):
        config = replace(config, dwell=dwell.resolve(config.dwell, [item.position for item in signals], fps))
    interactions = [detect(item, config, rig.gripper.thresholds, fps) for item in signals]
    return Detection(config, signals, interactions)


def _gripper(
    columns: Mapping[str, np.ndarray], rig: Rig, episodes: list[EpisodeRows], config: DetectorConfig
) -> np.ndarray:
    """The scaled gripper (N,). Beside other detectors it may rest; alone, a gripper that never moves is an error."""
    if config.names != (GRIPPER,):
        signal = unchecked_gripper_signal(columns, rig.gripper, episodes)
        if np.ptp(signal) == 0:
            return signal
    return gripper_signal(columns, rig.gripper, episodes)


def describe_detectors(detection: Detection, rig: Rig) -> dict[str, Any]:
    """The provenance: which detectors, on which signals, with which thresholds; the gripper's are in the rig."""
    config = detection.config
    content: dict[str, Any] = {"names": list(config.names), "merge_seconds": config.merge_seconds}
    if config.uses(GRIPPER):
        signal = "gripper_command" if rig.gripper.command else "gripper_width"
        content["gripper"] = {"signal": signal, "drops_closes_on_nothing": rig.gripper.width is not None}
    if config.uses(DWELL):
        content["dwell"] = asdict(config.dwell)
    if config.uses(CONTACT):
        content["contact"] = asdict(config.contact)
    return content


def recorded_detectors(provenance: Mapping[str, Any]) -> DetectorConfig:
    """The detectors that a dataset was labelled with, from its provenance; the gripper where it is older than they.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    content = provenance.get("detectors")
    if content is None:
        return DetectorConfig()
    contacts = dict(content.get("contact") or {})
    if contacts.get("indices") is not None:
        contacts["indices"] = tuple(contacts["indices"])
    return DetectorConfig(
        tuple(content["names"]),
        DwellConfig(**(content.get("dwell") or {})),
        ContactConfig(**contacts),
        content["merge_seconds"],
    )


def check_found(detection: Detection, counts: Mapping[str, int]) -> None:
    """An error where no episode has an interaction.

    Args:
        detection: what the detectors made of the dataset.
        counts: of the provenance.
    """
    if counts["episodes_without_interaction"] < counts["episodes"]:
        return
    if detection.config.names == (GRIPPER,):
        raise PosaError(
            f"the gripper closes on something in none of {counts['episodes']} episodes "
            f"({counts['dropped_closes']} closes ended fully shut): check the rig's gripper column, its open and "
            f"closed values and shut_width, or for tasks without a grasp {OTHER_DETECTORS}"
        )
    thresholds = []
    if detection.config.uses(DWELL):
        used = detection.config.dwell
        thresholds.append(f"dwell.speed {used.speed:.3g} m/s for {used.min_seconds:g} s")
    if detection.config.uses(CONTACT):
        thresholds.append(f"contact.on {detection.config.contact.on:.3g}")
    others = ", ".join(name for name in DETECTORS if not detection.config.uses(name))
    raise PosaError(
        f"the detectors {', '.join(detection.config.names)} find an interaction in none of {counts['episodes']} "
        f"episodes ({', '.join(thresholds) or 'no thresholds'}): change their thresholds, or add one of {others}"
    )
