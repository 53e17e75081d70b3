"""What detectors find, and the one place that says how the findings of several become one list.

Rules of `combine`, in this order:

1. Priority: gripper, contact, dwell, end (`DETECTORS`). A gripper command is a clean step, a contact is measured, a
   dwell is inferred from the motion, and the end says only that somebody stopped recording.
2. An event is left out where one of a detector with a higher priority lies within ``merge_steps`` frames of it, or of
   the time that it lasted: both are the same interaction, and the better witness gives its frame. The fingers follow
   their command by 0.1 to 0.4 s, and a hand stops before it grasps: hence half a second by default.
3. Events of one detector are never merged with each other: each detector debounces its own, and a close and an
   opening a few frames apart are two interactions. So one detector alone gives exactly its own list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

GRIPPER, CONTACT, DWELL, END = "gripper", "contact", "dwell", "end"
DETECTORS = (GRIPPER, CONTACT, DWELL, END)
"""Names of the detectors, by falling priority."""

EventKind = Literal["close", "open", "touch", "release", "dwell", "end"]


@dataclass(frozen=True)
class Event:
    """One interaction of an episode, as a detector saw it.

    Args:
        frame: its first frame.
        detector: one of `DETECTORS`.
        kind: close, open (gripper); touch, release (contact); dwell; end.
        until: the last frame for which what was detected lasted.
        numbers: what decided, by name: the measured numbers and the thresholds they were held against.
        merged_into: frame of the event that stands for it; -1 where it stands for itself.
    """

    frame: int
    detector: str
    kind: EventKind
    until: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    merged_into: int = -1


@dataclass(frozen=True)
class Interactions:
    """The interactions of one episode.

    Args:
        frames: int64 (E,), ascending and different; the first frame of each.
        closes: bool (E,); True for a close of the gripper.
        dropped: closes in which the fingers came shut, left out together with the opening that ends them.
        events: (E,), what was detected at each of ``frames``.
        merged: events that one of these stands for.
    """

    frames: np.ndarray
    closes: np.ndarray
    dropped: int = 0
    events: tuple[Event, ...] = ()
    merged: tuple[Event, ...] = ()


def interactions_of(events: Sequence[Event], dropped: int = 0, merged: Sequence[Event] = ()) -> Interactions:
    """Events in any order, of different frames, as `Interactions`."""
    ordered = tuple(sorted(events, key=lambda event: event.frame))
    frames = np.array([event.frame for event in ordered], dtype=np.int64)
    closes = np.array([event.kind == "close" for event in ordered], dtype=bool)
    return Interactions(frames, closes, dropped, ordered, tuple(sorted(merged, key=lambda event: event.frame)))


def combine(found: Sequence[Event], merge_steps: int, dropped: int = 0) -> Interactions:
    """All events of one episode -> its interactions, by the module's rules.

    Args:
        found: of all detectors, in any order.
        merge_steps: frames within which two detectors see one interaction.
        dropped: passed on.
    """
    taken: list[Event] = []
    merged: list[Event] = []
    for detector in DETECTORS:
        better = list(taken)
        for event in (item for item in found if item.detector == detector):
            gaps = [_gap(event, other.frame) for other in better]
            if gaps and min(gaps) <= merge_steps:
                merged.append(replace(event, merged_into=better[int(np.argmin(gaps))].frame))
            else:
                taken.append(event)
    return interactions_of(taken, dropped, merged)


def _gap(event: Event, frame: int) -> int:
    """Frames between the time that an event lasted and a frame; 0 inside it."""
    return max(event.frame - frame, frame - event.until, 0)
