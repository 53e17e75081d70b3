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
    gripper_source,
    unchecked_gripper_signal,
)
from posa_vla.errors import PosaError
from posa_vla.rigs import GripperSource, Rig


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
        gripper = gripper_source(rig)
        keys |= {source.column for source in (gripper.command, gripper.width) if source}
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
    gripper = width = thresholds = None
    if config.uses(GRIPPER):
        source = gripper_source(rig)
        thresholds = source.thresholds
        gripper = _gripper(columns, source, episodes, config)
        width = finger_width(columns, source, episodes)
        if width is not None and source.width is not None:
            check_width(width, source.width)
    sizes = contact_sizes(columns, features, episodes, config, fps)
    signals = signals_of_each([hand.apply(tool) for hand in hands], episodes, gripper, width, sizes)
    config = resolve(config, features, signals, fps)
    interactions = [detect(item, config, thresholds, fps) for item in signals]
    return Detection(config, signals, interactions)


def signals_of_each(
    positions: Sequence[np.ndarray],
    episodes: list[EpisodeRows],
    gripper: np.ndarray | None,
    width: np.ndarray | None,
    contacts: Sequence[np.ndarray] | None,
) -> list[Signals]:
    """What the detectors look at in each episode.

    Args:
        positions: (T, 3) of each: the hand in the world frame, metres.
        episodes: the rows of each.
        gripper, width: (N,) of all rows, or None.
        contacts: (T,) of each, or None.
    """
    return [
        Signals(
            positions[number],
            None if gripper is None else gripper[episode.rows],
            None if width is None else width[episode.rows],
            None if contacts is None else contacts[number],
        )
        for number, episode in enumerate(episodes)
    ]


def contact_sizes(
    columns: Mapping[str, np.ndarray],
    features: Mapping[str, Any],
    episodes: list[EpisodeRows],
    config: DetectorConfig,
    fps: float,
) -> list[np.ndarray] | None:
    """The size of each episode's contact signal, (T,), or None where no detector reads it."""
    if not config.uses(CONTACT):
        return None
    values = contact_values(columns, contact_column(features, config.contact), config.contact, episodes)
    return [contact.contact_size(values[item.rows], fps, config.contact.rest) for item in episodes]


def resolve(
    config: DetectorConfig, features: Mapping[str, Any], signals: Sequence[Signals], fps: float
) -> DetectorConfig:
    """The detectors with the thresholds of dwell and contact that are None taken from all episodes together.

    Raises:
        PosaError: a signal says nothing, or never passes a threshold that was asked for.
    """
    if config.uses(CONTACT):
        key = contact_column(features, config.contact)
        sizes = [item.contact for item in signals if item.contact is not None]
        resolved = contact.resolve(config.contact, sizes, f"the contact signal in {key}")
        config = replace(config, contact=replace(resolved, column=key))
    if config.uses(DWELL):
        config = replace(config, dwell=dwell.resolve(config.dwell, [item.position for item in signals], fps))
    return config


def _gripper(
    columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows], config: DetectorConfig
) -> np.ndarray:
    """The scaled gripper (N,). Beside other detectors it may rest; alone, a gripper that never moves is an error."""
    if config.names != (GRIPPER,):
        signal = unchecked_gripper_signal(columns, source, episodes)
        if np.ptp(signal) == 0:
            return signal
    return gripper_signal(columns, source, episodes)


def describe_detectors(detection: Detection, rig: Rig) -> dict[str, Any]:
    """The provenance: which detectors, on which signals, with which thresholds; the gripper's are in the rig."""
    config = detection.config
    content: dict[str, Any] = {"names": list(config.names), "merge_seconds": config.merge_seconds}
    if config.uses(GRIPPER):
        source = gripper_source(rig)
        signal = "gripper_command" if source.command else "gripper_width"
        content["gripper"] = {"signal": signal, "drops_closes_on_nothing": source.width is not None}
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
            "closed values and shut_width; if the episodes begin with the object held, give the rig's gripper a "
            f"measured width, without which that is not seen; or for tasks without a grasp {OTHER_DETECTORS}"
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
