"""Why something became an interaction, or did not: the detectors' decisions in words."""

from dataclasses import dataclass

import numpy as np

from posa_vla.anchors.events import GRIPPER, Event, Interactions
from posa_vla.anchors.interaction import InteractionConfig, closed_states
from posa_vla.inspection.subject import Gripper, Subject


@dataclass(frozen=True)
class Decision:
    """One thing that a detector saw, and what it made of it.

    Args:
        frame: its first frame in the episode.
        detector: its name.
        kind: of the gripper: close and open are interactions; dropped (a close that held nothing), ignored (an
            opening that lets nothing go) and bounce (too short) are not. Of the others: touch, release, dwell and end
            are; merged (another event stands for it) is not.
        taken: whether it is an interaction.
        why: the numbers that decided.
    """

    frame: int
    detector: str
    kind: str
    taken: bool
    why: str


def explain_episode(subject: Subject, number: int) -> list[Decision]:
    """`explain` for one of the subject's episodes (position)."""
    gripper = None
    if subject.gripper is not None and subject.detectors.uses(GRIPPER):
        gripper = subject.gripper.part(subject.episodes[number].rows)
    return explain(subject.labels[number].interactions, gripper)


def explain(interactions: Interactions, gripper: Gripper | None) -> list[Decision]:
    """Every change of one episode's gripper and every event of the other detectors, in order.

    Args:
        interactions: what the detectors made of the episode.
        gripper: in it, or None where it was not among the detectors: its changes mean nothing then.
    """
    others = [event for event in interactions.events + interactions.merged if event.detector != GRIPPER]
    decisions = [explain_detected(event) for event in others]
    if gripper is not None:
        decisions += _gripper_decisions(interactions, gripper)
    return sorted(decisions, key=lambda decision: decision.frame)


def _gripper_decisions(interactions: Interactions, gripper: Gripper) -> list[Decision]:
    signal, width, config = gripper.signal, gripper.width, gripper.source.thresholds
    closed = closed_states(signal, config)
    changes = np.flatnonzero(np.diff(closed.astype(np.int8))) + 1
    ends = np.append(changes, len(signal))[1:]
    taken = {event.frame for event in interactions.events if event.detector == GRIPPER}
    events = [
        _change(int(frame), int(end), bool(closed[frame]), int(frame) in taken, signal, width, config)
        for frame, end in zip(changes, ends, strict=True)
    ]
    return [*events, *_bounces(signal, closed, config)]


def explain_detected(event: Event) -> Decision:
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
        merged = f"{event.kind}: {why}; the event at frame {event.merged_into} stands for it"
        return Decision(event.frame, event.detector, "merged", False, merged)
    return Decision(event.frame, event.detector, event.kind, True, why)


def _change(
    frame: int,
    end: int,
    closes: bool,
    taken: bool,
    signal: np.ndarray,
    width: np.ndarray | None,
    config: InteractionConfig,
) -> Decision:
    crossed = f"≥ {config.close_above:g} (close_above)" if closes else f"≤ {config.open_below:g} (open_below)"
    why = f"signal {signal[frame - 1]:.2f} → {signal[frame]:.2f}, {crossed}, for {end - frame} frames"
    at_end = "" if width is None or not closes else f"; fingers {width[end - 1]:.4f} m apart at the end"
    if taken:
        kept = f" > {config.shut_width:g} (shut_width), so they hold something" if at_end else ""
        return Decision(frame, GRIPPER, "close" if closes else "open", True, why + at_end + kept)
    if closes:
        if width is not None and width[end - 1] > config.shut_width:  # on their way to open before the state is
            at_end = f"; fingers down to {width[frame:end].min():.4f} m apart"
        nothing = f"{why}{at_end} ≤ {config.shut_width:g} (shut_width): they hold nothing"
        return Decision(frame, GRIPPER, "dropped", False, nothing)
    return Decision(frame, GRIPPER, "ignored", False, f"{why}: nothing was held, so nothing is let go")


def _bounces(signal: np.ndarray, closed: np.ndarray, config: InteractionConfig) -> list[Decision]:
    """Runs across a threshold that were too short to count."""
    across = (signal >= config.close_above) & ~closed | (signal <= config.open_below) & closed
    edges = np.flatnonzero(np.diff(across.astype(np.int8), prepend=0, append=0))
    return [
        Decision(
            int(start),
            GRIPPER,
            "bounce",
            False,
            f"signal {signal[start]:.2f} for {stop - start} frames, fewer than {config.min_steps} (min_steps)",
        )
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]
