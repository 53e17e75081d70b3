"""Why the gripper's changes became interactions, or did not: the detector's decisions in words."""

from dataclasses import dataclass

import numpy as np

from posa_vla.anchors.interaction import InteractionConfig, Interactions, closed_states

GRIPPER = "gripper"


@dataclass(frozen=True)
class Decision:
    """One thing that a detector saw, and what it made of it.

    Args:
        frame: its first frame in the episode.
        detector: its name.
        kind: of the gripper: close and open are interactions; dropped (a close that held nothing), ignored (an
            opening that lets nothing go) and bounce (too short) are not.
        taken: whether it is an interaction.
        why: the numbers that decided.
    """

    frame: int
    detector: str
    kind: str
    taken: bool
    why: str


def explain(
    signal: np.ndarray, width: np.ndarray | None, config: InteractionConfig, interactions: Interactions
) -> list[Decision]:
    """Every change of one episode's gripper, in order.

    Args:
        signal: (T,), 0 open … 1 closed.
        width: (T,), finger width in metres, or None.
        config: the thresholds that were used.
        interactions: what the detector made of them.
    """
    closed = closed_states(signal, config)
    changes = np.flatnonzero(np.diff(closed.astype(np.int8))) + 1
    ends = np.append(changes, len(signal))[1:]
    taken = set(interactions.frames.tolist())
    events = [
        _change(int(frame), int(end), bool(closed[frame]), int(frame) in taken, signal, width, config)
        for frame, end in zip(changes, ends, strict=True)
    ]
    return sorted([*events, *_bounces(signal, closed, config)], key=lambda event: event.frame)


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
