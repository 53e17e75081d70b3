"""Interactions: the frames at which the gripper is told to close on something or to let it go.

The paper marks frames where the gripper closes or opens (Sec. 3.1). Ours, where it is silent: the event is
the change of the *command*, not of the fingers. A command is a clean step and needs no contact sensor; the
fingers follow 0.1 to 0.4 s later, when the hand has hardly moved. Measured finger width takes its place only
on robots without a recorded command: there the event is the fingers' turn (`finger_signal`), because an object stops
them at any width. A width beside the command says what the fingers hold.
"""

from dataclasses import dataclass

import numpy as np

from posa_vla.anchors.events import GRIPPER, Event, Interactions, interactions_of
from posa_vla.errors import PosaError

SWING = 0.25
"""How far fingers move, as a share of their opening, from surely open to surely closed. Ours: with the thresholds 0.6
and 0.4 they turn after 15 %: objects up to 85 % of the opening are seen, and a held one may give by 15 %."""


@dataclass(frozen=True)
class InteractionConfig:
    """How a gripper signal becomes events. The signal is scaled so that 0 is open and 1 is closed.

    A measured width is scaled by `finger_signal`: there 0.6 is 15 % of the opening closed, and 0.4 as much reopened.

    Args:
        close_above: scaled signal at or above which an open gripper becomes closed. Ours: 0.6.
        open_below: scaled signal at or below which a closed gripper becomes open; the gap between the two is
            the hysteresis. Ours: 0.4.
        min_steps: frames for which a change must last; shorter ones are bounces. Ours: 2, which drops
            one-frame glitches and costs nothing, because the event stands at the change's first frame.
        shut_width: metres between the fingers at or below which they hold nothing, and by which they may move
            without meaning it. Ours: 0.002, thinner than what is picked up.
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

    A signal that begins between the thresholds is open until it closes: a gripper that starts half open may grasp.
    A change at the very end that has not lasted ``min_steps`` frames is not confirmed and not taken.
    """
    on, off = signal >= config.close_above, signal <= config.open_below
    undecided = ~np.logical_or.accumulate(on | off)
    return held_states(on, off | undecided, config.min_steps)


def finger_signal(width: np.ndarray, open_width: float, config: InteractionConfig) -> np.ndarray:
    """The measured width as a gripper signal: 0 where the fingers have opened … 1 where they have closed.

    An object stops the fingers wherever it is as wide as they are apart, and people open them no further than they
    need; so it is not the width that tells a grasp, but that the fingers turned. The signal is the place of the
    fingers in a window, `SWING` of the opening wide, which they push along: motion one way takes it to 0 or 1, and
    the way back counts from where they turned.

    Args:
        width: (T,), metres between the fingers, of one episode.
        open_width: the same, opened.
        config: an episode begins closed where at least ``close_above`` of the opening is.

    Returns:
        (T,), within 0 … 1.
    """
    closing = 1 - width / open_width  # 0 open … 1 shut
    signal = np.empty(len(closing))
    low = closing[0] - SWING if closing[0] >= config.close_above else closing[0]  # the window's open edge
    for t, now in enumerate(closing.tolist()):
        low = min(max(low, now - SWING), now)
        signal[t] = (now - low) / SWING
    return signal


def held_states(on: np.ndarray, off: np.ndarray, min_steps: int) -> np.ndarray:
    """Hysteresis and debouncing: which frames are surely on and surely off, each bool (T,) -> bool (T,), True for on.

    Between the two the state stays; a change that lasts less than ``min_steps`` frames is none, nor is one at the
    very end. Leading frames that are neither take the first definite state there is (off if none).
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

    An episode that begins closed begins with an opening, which counts where the measured width says that the fingers
    let something go.

    Args:
        signal: (T,), gripper command scaled to 0 open … 1 closed, or `finger_signal`.
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
    dropped, holds = 0, False  # until the fingers hold something, an opening lets nothing go
    if width is not None and len(changes) and closed[0]:
        holds = _lets_go(width[: ends[0]], int(changes[0]), config)
    for frame, end in zip(changes.tolist(), ends.tolist(), strict=True):
        if closed[frame]:
            holds = width is None or not holds_nothing(width[frame:end], config)
            dropped += not holds
        if holds:
            events.append(_event(frame, end, bool(closed[frame]), signal))
    return interactions_of(events, dropped)


def holds_nothing(width: np.ndarray, config: InteractionConfig) -> bool:
    """Whether fingers (T,), metres apart while they are closed, end with nothing between them: they come shut.

    The last frames do not tell it: where the signal is no step, or the fingers run ahead of it, they are on their way
    to open before the state is. Yet fingers that come shut, go apart and close again have taken something after all.
    Shut for less than ``min_steps`` frames is a sensor's dip, except at the end.
    """
    last = _last_shut(width, config)
    if last < 0:
        return False
    after = width[last:]
    return bool((np.maximum.accumulate(after) - after).max() <= config.shut_width)


def _last_shut(width: np.ndarray, config: InteractionConfig) -> int:
    """The last frame in which the fingers (T,) are surely shut; -1 if they never are."""
    shut = width <= config.shut_width
    starts, lengths = _runs(shut)
    ends = starts + lengths
    surely = shut[starts] & ((lengths >= config.min_steps) | (ends == len(width)))
    return int(ends[surely].max(initial=0)) - 1


def _lets_go(width: np.ndarray, frame: int, config: InteractionConfig) -> bool:
    """Whether fingers (T,), metres apart and closed from the start, release something when they open at ``frame``.

    Shut fingers held nothing, nor did those that do not go apart: a command that was left over from before.
    """
    opened = width[frame:].max() - width[:frame].min()
    return not holds_nothing(width[:frame], config) and bool(opened > config.shut_width)


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
