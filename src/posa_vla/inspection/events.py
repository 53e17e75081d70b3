"""Why something became an interaction, or did not: the detectors' decisions in words."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from posa_vla.anchors.events import GRIPPER, Interactions
from posa_vla.anchors.events import Event as Detected
from posa_vla.anchors.interaction import InteractionConfig, closed_states

Kind = Literal["close", "open", "touch", "release", "dwell", "end", "dropped", "ignored", "bounce", "merged"]
TAKEN = ("close", "open", "touch", "release", "dwell", "end")


@dataclass(frozen=True)
class Event:
    """One change of the gripper, or what another detector saw.

    Args:
        frame: its first frame in the episode.
        kind: those of `TAKEN` are interactions; dropped (a close that held nothing), ignored (an opening that lets
            nothing go), bounce (too short) and merged (another event stands for it) are not.
        why: the numbers that decided.
    """

    frame: int
    kind: Kind
    why: str

    @property
    def taken(self) -> bool:
        return self.kind in TAKEN


def explain(
    signal: np.ndarray, width: np.ndarray | None, config: InteractionConfig, interactions: Interactions
) -> list[Event]:
    """Every change of one episode's gripper and every event of the other detectors, in order.

    Args:
        signal: (T,), 0 open … 1 closed.
        width: (T,), finger width in metres, or None.
        config: the thresholds that were used.
        interactions: what the detector made of them.
    """
    closed = closed_states(signal, config)
    changes = np.flatnonzero(np.diff(closed.astype(np.int8))) + 1
    ends = np.append(changes, len(signal))[1:]
    taken = {event.frame for event in interactions.events if event.detector == GRIPPER}
    events = [
        _change(int(frame), int(end), bool(closed[frame]), int(frame) in taken, signal, width, config)
        for frame, end in zip(changes, ends, strict=True)
    ]
    others = [event for event in interactions.events + interactions.merged if event.detector != GRIPPER]
    return sorted([*events, *_bounces(signal, closed, config), *map(explain_detected, others)], key=_frame)


def _frame(event: Event) -> int:
    return event.frame


def explain_detected(event: Detected) -> Event:
    """An event of contact, dwell or end."""
    n = event.numbers
    if event.kind == "dwell":
        why = (
            f"speed {n['before']:.3f} → {n['speed']:.3f} m/s, ≤ {n['threshold']:.3f} (dwell.speed), for "
            f"{n['frames']:g} frames, {n['travel']:.3f} m after the last stop"
        )
    elif event.kind in ("touch", "release"):
        name = "≥ {:.3g} (contact.on)" if event.kind == "touch" else "≤ {:.3g} (contact.off)"
        why = f"contact {n['before']:.3g} → {n['size']:.3g}, {name.format(n['threshold'])}, for {n['frames']:g} frames"
    else:
        why = f"the last of {n['frames']:g} frames"
    if event.merged_into >= 0:
        return Event(event.frame, "merged", f"{event.kind}: {why}; the event at {event.merged_into} stands for it")
    return Event(event.frame, event.kind, why)


def _change(
    frame: int,
    end: int,
    closes: bool,
    taken: bool,
    signal: np.ndarray,
    width: np.ndarray | None,
    config: InteractionConfig,
) -> Event:
    crossed = f"≥ {config.close_above:g} (close_above)" if closes else f"≤ {config.open_below:g} (open_below)"
    why = f"signal {signal[frame - 1]:.2f} → {signal[frame]:.2f}, {crossed}, for {end - frame} frames"
    at_end = "" if width is None or not closes else f"; fingers {width[end - 1]:.4f} m apart at the end"
    if taken:
        kept = f" > {config.shut_width:g} (shut_width), so they hold something" if at_end else ""
        return Event(frame, "close" if closes else "open", why + at_end + kept)
    if closes:
        return Event(frame, "dropped", f"{why}{at_end} ≤ {config.shut_width:g} (shut_width): they hold nothing")
    return Event(frame, "ignored", f"{why}: nothing was held, so nothing is let go")


def _bounces(signal: np.ndarray, closed: np.ndarray, config: InteractionConfig) -> list[Event]:
    """Runs across a threshold that were too short to count."""
    across = (signal >= config.close_above) & ~closed | (signal <= config.open_below) & closed
    edges = np.flatnonzero(np.diff(across.astype(np.int8), prepend=0, append=0))
    return [
        Event(
            int(start),
            "bounce",
            f"signal {signal[start]:.2f} for {stop - start} frames, fewer than {config.min_steps} (min_steps)",
        )
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]
