"""Contact: the hand begins to touch something, or lets go of it, by a force, an effort or a simulator's flag."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from posa_vla.anchors.events import CONTACT, Event
from posa_vla.anchors.interaction import held_states
from posa_vla.errors import PosaError

ON, OFF = 0.25, 0.125
"""Where touching begins and ends, from the free level (0) to the touching one (1). Ours: low, so that a touch is seen
while the force still builds up, and the hysteresis lies above what a free hand measures."""

NOISE = 6.0
"""Standard deviations of a free hand's signal that the threshold keeps clear of."""

APART = 5.0
"""Standard deviations of the lower level by which two levels must differ. Noise alone, cut in two at its middle, gives
2.7 (normal) to 3.5 (uniform)."""

CLIP = 99.0
"""Percentile above which forces are cut off before levels are sought: impacts are many times what holding takes."""

REST_SECONDS = 0.5


@dataclass(frozen=True)
class ContactConfig:
    """Which numbers say that the hand touches something, and from which value on.

    Several numbers, as of a wrench or of all joints' efforts, count as their Euclidean norm, one as its size.

    Args:
        column: dataset column; None: `contact`, which posa-vla record writes where the task family asks for it.
        indices: its numbers; None: all.
        rest: whether what each episode measures in its first half second is taken off first: for a sensor with an
            offset, where the hand starts free.
        on: value at or above which it touches. None: from the data, a quarter of the way from the level of a free
            hand to that of a touching one, at least six standard deviations of the former; each the median over
            the episodes that show two levels, so that one hard blow decides nothing.
        off: value at or below which it no longer does. None: half of that way.
        gap_seconds: up to which a break belongs to the contact, because a pushing hand taps rather than presses.
            Ours: 0.5; 0 where separate touches follow each other faster.
        min_seconds: for which a change must last, once breaks are bridged. Ours: 0.1, longer than a lone spike.
        release: whether the end of a contact is an interaction too, as an opening of the gripper is.
    """

    column: str | None = None
    indices: tuple[int, ...] | None = None
    rest: bool = False
    on: float | None = None
    off: float | None = None
    gap_seconds: float = 0.5
    min_seconds: float = 0.1
    release: bool = True

    def __post_init__(self) -> None:
        if (self.on is None) != (self.off is None):
            raise PosaError(f"contact: expected both on and off or neither, got on={self.on} and off={self.off}")
        if self.on is not None and self.off is not None and not 0 <= self.off <= self.on:
            raise PosaError(f"contact: expected 0 <= off <= on, got on={self.on} and off={self.off}")
        if min(self.gap_seconds, self.min_seconds) < 0 or (self.indices is not None and not self.indices):
            raise PosaError(
                "contact: expected gap_seconds and min_seconds >= 0, and indices, got "
                f"{self.gap_seconds}, {self.min_seconds}, {self.indices}"
            )


def contact_size(values: np.ndarray, fps: float, rest: bool) -> np.ndarray:
    """One episode's recorded numbers (T, D), any unit -> their size (T,); see `ContactConfig`."""
    values = values.astype(np.float64)
    if rest:
        values = values - np.median(values[: max(1, round(REST_SECONDS * fps))], axis=0)
    return np.linalg.norm(values, axis=1)


def resolve(config: ContactConfig, sizes: Sequence[np.ndarray], what: str = "the contact signal") -> ContactConfig:
    """The configuration with ``on`` and ``off`` filled in from the sizes (T,) of all episodes.

    Raises:
        PosaError: the signal never changes, shows no two levels, or never passes the thresholds that were asked for.
    """
    values = np.concatenate(list(sizes))
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise PosaError(
            f"{what} is {low:.4g} in all {len(values)} frames, so the hand never touches anything or it is another "
            "column: correct --contact.column, or leave contact out of --detectors"
        )
    if config.on is not None and config.off is not None:
        if high < config.on or low > config.off:
            raise PosaError(
                f"{what} runs from {low:.4g} to {high:.4g} and never passes between off={config.off:g} and "
                f"on={config.on:g}: correct them (the unit is the column's), or leave both out"
            )
        return config
    found = [levels(size) for size in sizes if size.max() > size.min()]
    told = [three for three in found if _are_two(*three)]
    if not told or not _are_two(*levels(values)):  # few frames of noise may look like two levels, not all together
        raise PosaError(
            f"{what} shows no two levels, free and touching (it runs from {low:.4g} to {high:.4g}): give --contact.on "
            "and --contact.off, take an offset off with --contact.rest=true, or choose another column"
        )
    free, touching, noise = np.median(told, axis=0).tolist()
    above = max(ON * (touching - free), NOISE * noise)
    return replace(config, on=free + above, off=free + OFF / ON * above)


def _are_two(free: float, touching: float, noise: float) -> bool:
    return touching - free >= APART * noise


def levels(values: np.ndarray) -> tuple[float, float, float]:
    """Sizes (N,) -> the level of a free hand, of a touching one, and the standard deviation of the former.

    Otsu's threshold divides the square roots, which a few large forces do not pull so far; the levels are the
    medians on its two sides, the deviation is the median one, scaled as for normal noise.
    """
    low = values.min()
    roots = np.sqrt(np.minimum(values, np.percentile(values, CLIP)) - low)
    grey = np.round(roots / max(float(roots.max()), 1e-12) * 255).astype(np.uint8)
    cut, _ = cv2.threshold(grey[None], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    below, above = values[grey <= cut], values[grey > cut]
    if not len(above):  # touched too seldom for the percentile: the largest values are the touches
        below, above = values[values < values.max()], values[values == values.max()]
    free = float(np.median(below))
    return free, float(np.median(above)), 1.4826 * float(np.median(np.abs(below - free)))


def find_contacts(size: np.ndarray, fps: float, config: ContactConfig) -> list[Event]:
    """Touches and releases of one episode, at their first frames.

    A contact in which the episode begins is no touch; its end is a release, if it lasted.

    Args:
        size: (T,), see `contact_size`.
        fps: frames per second.
        config: as `resolve` gives it.
    """
    if config.on is None or config.off is None:
        raise ValueError("expected a resolved ContactConfig, with on and off")
    min_steps = max(1, round(config.min_seconds * fps))
    touching = bridged(held_states(size >= config.on, size <= config.off, 1), round(config.gap_seconds * fps))
    touching = held_states(touching, ~touching, min_steps)
    changes = np.flatnonzero(np.diff(touching.astype(np.int8))) + 1
    ends = np.append(changes, len(size))[1:]
    return [
        _event(frame, end, bool(touching[frame]), size, config)
        for frame, end in zip(changes.tolist(), ends.tolist(), strict=True)
        if touching[frame] or (config.release and frame >= min_steps)
    ]


def bridged(touching: np.ndarray, steps: int) -> np.ndarray:
    """Frames of contact, bool (T,), with the breaks of at most `steps` frames between two of them filled."""
    frames = np.flatnonzero(touching)
    breaks = np.diff(frames) - 1
    filled = touching.copy()
    for at in np.flatnonzero((breaks > 0) & (breaks <= steps)):
        filled[frames[at] : frames[at + 1]] = True
    return filled


def _event(frame: int, end: int, touches: bool, size: np.ndarray, config: ContactConfig) -> Event:
    assert config.on is not None and config.off is not None
    numbers = {
        "before": float(size[frame - 1]),
        "size": float(size[frame]),
        "threshold": config.on if touches else config.off,
        "frames": end - frame,
    }
    return Event(frame, CONTACT, "touch" if touches else "release", frame, numbers)
