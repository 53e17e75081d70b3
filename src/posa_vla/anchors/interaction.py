"""Interactions: the frames at which the gripper is told to close on something or to let it go.

The paper marks frames where the gripper closes or opens (Sec. 3.1). Ours, where it is silent: the event is
the change of the *command*, not of the fingers. A command is a clean step and needs no contact sensor; the
fingers follow 0.1 to 0.4 s later, when the hand has hardly moved. Measured finger width takes its place only
on robots without a recorded command.
"""

from dataclasses import dataclass

import numpy as np

from posa_vla.anchors.events import GRIPPER, Event, Interactions, interactions_of
from posa_vla.errors import PosaError


@dataclass(frozen=True)
class InteractionConfig:
    """How a gripper signal becomes events. The signal is scaled so that 0 is open and 1 is closed.

    Args:
        close_above: scaled signal at or above which an open gripper becomes closed. Ours: 0.6.
        open_below: scaled signal at or below which a closed gripper becomes open; the gap between the two is
            the hysteresis. Ours: 0.4.
        min_steps: frames for which a change must last; shorter ones are bounces. Ours: 2, which drops
            one-frame glitches and costs nothing, because the event stands at the change's first frame.
        shut_width: metres between the fingers at or below which they hold nothing. Ours: 0.002.
    """

    close_above: float = 0.6
    open_below: float = 0.4
    min_steps: int = 2
    shut_width: float = 0.002

    def __post_init__(self) -> None:
        if not 0 <= self.open_below < self.close_above <= 1:
            raise PosaError(
                "gripper thresholds must satisfy 0 <= open_below < close_above <= 1, "
                f"got open_below={self.open_below} and close_above={self.close_above}"
            )
        if self.min_steps < 1 or self.shut_width < 0:
            raise PosaError(f"min_steps must be >= 1 and shut_width >= 0, got {self.min_steps} and {self.shut_width}")


def closed_states(signal: np.ndarray, config: InteractionConfig) -> np.ndarray:
    """Debounced open/closed state of every frame: scaled signal (T,) -> bool (T,), True for closed.

    A signal that begins between the thresholds takes the first definite state there is (open if none).
    A change at the very end that has not lasted ``min_steps`` frames is not confirmed and not taken.
    """
    return held_states(signal >= config.close_above, signal <= config.open_below, config.min_steps)


def held_states(on: np.ndarray, off: np.ndarray, min_steps: int) -> np.ndarray:
    """Hysteresis and debouncing: which frames are surely on and surely off, each bool (T,) -> bool (T,), True for on.

    Between the two the state stays; a change that lasts less than ``min_steps`` frames is none. Starts and ends are
    treated as `closed_states` says.
    """
    definite = np.where(on, 1, np.where(off, 0, -1))
    if not (definite >= 0).any():
        return np.zeros(len(definite), dtype=bool)
    states = _hold_last(definite)
    starts, lengths = _runs(states)
    # The first run is where the episode starts from, however short: there is nothing before it to keep.
    confirmed = lengths >= min_steps
    confirmed[0] = True
    held = np.full(len(states), -1)
    for start, length, sure in zip(starts, lengths, confirmed, strict=True):
        if sure:
            held[start : start + length] = states[start]
    return _hold_last(held).astype(bool)


def find_interactions(signal: np.ndarray, config: InteractionConfig, width: np.ndarray | None = None) -> Interactions:
    """Events of one episode, from the first close on (an opening at home is no interaction).

    Args:
        signal: (T,), gripper command scaled to 0 open … 1 closed.
        config: thresholds.
        width: (T,), measured distance between the fingers in metres; None where the robot does not measure
            it: then no close can be seen to have missed and none is dropped.
    """
    if signal.ndim != 1 or (width is not None and width.shape != signal.shape):
        found = signal.shape if width is None else (signal.shape, width.shape)
        raise ValueError(f"expected signal and width of one shape (T,), got {found}")
    closed = closed_states(signal, config)
    changes = np.flatnonzero(np.diff(closed.astype(np.int8))) + 1
    ends = np.append(changes, len(signal))[1:]  # frame after the last one of each event's state
    events: list[Event] = []
    dropped, missed = 0, True  # until a close holds something, an opening lets nothing go
    for frame, end in zip(changes.tolist(), ends.tolist(), strict=True):
        if closed[frame]:
            missed = width is not None and bool(width[end - 1] <= config.shut_width)
            dropped += missed
        if not missed:
            events.append(_event(frame, end, bool(closed[frame]), signal))
    return interactions_of(events, dropped)


def _event(frame: int, end: int, closes: bool, signal: np.ndarray) -> Event:
    numbers = {"before": float(signal[frame - 1]), "signal": float(signal[frame]), "frames": end - frame}
    return Event(frame, GRIPPER, "close" if closes else "open", frame, numbers)


def next_event(frames: np.ndarray, length: int) -> np.ndarray:
    """First event e >= t of every frame t: ascending frames (E,) -> int64 (length,), -1 after the last."""
    position = np.searchsorted(frames, np.arange(length), side="left")
    return np.append(frames, -1)[position]


def _hold_last(values: np.ndarray) -> np.ndarray:
    """Replace each -1 by the value before it, and leading ones by the first value there is."""
    index = np.maximum.accumulate(np.where(values >= 0, np.arange(len(values)), -1))
    index[index < 0] = np.argmax(values >= 0)
    return values[index]


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the runs of equal values."""
    starts = np.append(0, np.flatnonzero(np.diff(values)) + 1)
    return starts, np.diff(np.append(starts, len(values)))
