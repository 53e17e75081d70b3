"""The detectors of interactions, chosen by name: which there are, what each needs, what they find in an episode."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from posa_vla.anchors.contact import ContactConfig, find_contacts
from posa_vla.anchors.dwell import DwellConfig, find_dwells
from posa_vla.anchors.events import CONTACT, DETECTORS, DWELL, END, GRIPPER, Event, Interactions, combine
from posa_vla.anchors.interaction import InteractionConfig, find_interactions
from posa_vla.errors import PosaError, unknown_name
from posa_vla.options import listed


@dataclass(frozen=True)
class DetectorConfig:
    """Which detectors look for interactions, and how.

    Args:
        names: of `DETECTORS`; gripper alone is the paper's method.
        dwell: when the hand stands still.
        contact: when it touches something.
        merge_seconds: within which two detectors see one interaction (`combine`). Ours: 0.5, longer than fingers
            take to follow their command (0.1 to 0.4 s) and than a hand rests before it grasps.
    """

    names: tuple[str, ...] = (GRIPPER,)
    dwell: DwellConfig = field(default_factory=DwellConfig)
    contact: ContactConfig = field(default_factory=ContactConfig)
    merge_seconds: float = 0.5

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in DETECTORS:
                raise unknown_name("detector", name, DETECTORS)
        if not self.names or len(set(self.names)) < len(self.names):
            raise PosaError(f"expected different detectors among {', '.join(DETECTORS)}, got {list(self.names)}")
        if not 0 <= self.merge_seconds < float("inf"):
            raise PosaError(f"merge_seconds must be a number of seconds, 0 or more, got {self.merge_seconds}")

    def uses(self, name: str) -> bool:
        return name in self.names


def detector_names(text: str) -> tuple[str, ...]:
    """``gripper,dwell`` -> (gripper, dwell), in the order of `DETECTORS`."""
    chosen = DetectorConfig(listed(text))
    return tuple(name for name in DETECTORS if chosen.uses(name))


@dataclass(frozen=True)
class Signals:
    """What the detectors look at in one episode of T frames; None where none of them needs it.

    Args:
        position: (T, 3), the hand in the world frame, metres.
        gripper: (T,), 0 open … 1 closed.
        width: (T,), metres between the fingers; None also where it is not measured.
        contact: (T,), the size of the contact signal.
    """

    position: np.ndarray
    gripper: np.ndarray | None = None
    width: np.ndarray | None = None
    contact: np.ndarray | None = None


def detect(signals: Signals, config: DetectorConfig, thresholds: InteractionConfig | None, fps: float) -> Interactions:
    """The interactions of one episode.

    Args:
        signals: see `Signals`.
        config: with the thresholds of dwell and contact resolved.
        thresholds: of the gripper; None will do where it is not among the detectors.
        fps: frames per second.
    """
    found: list[Event] = []
    dropped = 0
    if config.uses(GRIPPER):
        assert signals.gripper is not None and thresholds is not None
        of_gripper = find_interactions(signals.gripper, thresholds, signals.width)
        found.extend(of_gripper.events)
        dropped = of_gripper.dropped
    if config.uses(CONTACT):
        assert signals.contact is not None
        found.extend(find_contacts(signals.contact, fps, config.contact))
    if config.uses(DWELL):
        found.extend(find_dwells(signals.position, fps, config.dwell))
    if config.uses(END):
        found.append(_end(len(signals.position)))
    return combine(found, round(config.merge_seconds * fps), dropped)


def _end(length: int) -> Event:
    """The episode's last frame."""
    return Event(length - 1, END, "end", length - 1, {"frames": length})


def count_kinds(interactions: Iterable[Interactions]) -> dict[str, int]:
    """How many events of each kind were taken, and how many of others stood for the same interaction."""
    counts: dict[str, int] = {}
    merged = 0
    for episode in interactions:
        for event in episode.events:
            counts[event.kind] = counts.get(event.kind, 0) + 1
        merged += len(episode.merged)
    return counts | {"merged": merged}
