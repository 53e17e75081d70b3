"""Dwell: the hand stands still for a while where it acts, as keyposes are found in PerAct and RVT.

There (ARM's keypoint discovery) a keypose is a frame at which all joint velocities are near zero, with fixed
numbers for one simulated arm. Ours works on the hand's position alone, so that it needs no joints, and takes its
threshold from how fast the hand moves in the dataset at hand. Turning on the spot counts as standing still.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from posa_vla.anchors.events import DWELL, Event
from posa_vla.anchors.interaction import held_states
from posa_vla.errors import PosaError

FAST = 95
"""Percentile of an episode's speeds that counts as how fast its hand moves."""


@dataclass(frozen=True)
class DwellConfig:
    """When a hand stands still.

    Args:
        speed: metres per second at or below which it does. None: ``share`` of how fast hands move in the dataset, the
            median over its episodes of the 95th percentile of the speed.
        share: see ``speed``. Ours: 0.1, because an arm that stops slows down smoothly: it enters a tenth of its speed
            a few millimetres before it stands, and drifts of a teleoperated hand that waits stay below it.
        leave: times ``speed`` above which the hand moves again; the gap is the hysteresis. Ours: 2.
        min_seconds: for which it must stand. Ours: 0.25, longer than a change of direction takes, at which the
            speed also passes near zero, and shorter than people wait before they act.
        min_travel: metres that it must have gone since it last stood, or since the episode's start; otherwise it is
            the same dwell, and the rest before the first motion is none. Ours: 0.02, a finger's width.
        window: seconds over which the speed is taken; longer ones average the pose's noise away and blur short
            stops. Ours: 0.1, at least the frames before and after.
        at_end: whether standing still until the episode's last frame counts. False for demonstrations that end with
            the hand back at its rest.
    """

    speed: float | None = None
    share: float = 0.1
    leave: float = 2.0
    min_seconds: float = 0.25
    min_travel: float = 0.02
    window: float = 0.1
    at_end: bool = True

    def __post_init__(self) -> None:
        if self.speed is not None and self.speed <= 0:
            raise PosaError(f"dwell.speed must be above 0 metres per second, got {self.speed}")
        if not (0 < self.share < 1 and self.leave >= 1):
            raise PosaError(f"dwell: expected 0 < share < 1 and leave >= 1, got {self.share} and {self.leave}")
        if min(self.min_seconds, self.min_travel, self.window) < 0:
            found = (self.min_seconds, self.min_travel, self.window)
            raise PosaError(f"dwell.min_seconds, min_travel and window must not be negative, got {found}")


def hand_speed(position: np.ndarray, fps: float, window: float) -> np.ndarray:
    """Positions (T, 3) m -> speed (T,) m/s: the way between the ends of a window around each frame, over its time.

    At an episode's ends the window is cut off.
    """
    if position.ndim != 2 or position.shape[1] != 3:
        raise ValueError(f"expected positions (T, 3), got {position.shape}")
    T = len(position)
    half = max(1, round(window * fps / 2))
    first, last = np.maximum(np.arange(T) - half, 0), np.minimum(np.arange(T) + half, T - 1)
    way = np.linalg.norm(position[last] - position[first], axis=1)
    return way * fps / np.maximum(last - first, 1)


def resolve(config: DwellConfig, positions: Sequence[np.ndarray], fps: float) -> DwellConfig:
    """The configuration with its ``speed`` filled in from the positions (T, 3) of all episodes.

    Raises:
        PosaError: the hand never moves, or the speed that was asked for is above or below all there are.
    """
    speeds = [hand_speed(position, fps, config.window) for position in positions]
    moving = float(np.median([np.percentile(speed, FAST) for speed in speeds]))
    if moving == 0:
        raise PosaError("the hand never moves, so no dwell can be told: correct the rig's pose")
    if config.speed is None:
        return replace(config, speed=config.share * moving)
    low, high = min(float(speed.min()) for speed in speeds), max(float(speed.max()) for speed in speeds)
    if not low <= config.speed < high:
        raise PosaError(
            f"dwell.speed is {config.speed:g} m/s, but the hand's speed runs from {low:.3g} to {high:.3g} m/s (it "
            f"moves at about {moving:.3g}): give metres per second, or leave it out to take {config.share:g} of that"
        )
    return config


def find_dwells(position: np.ndarray, fps: float, config: DwellConfig) -> list[Event]:
    """Dwells of one episode, at the first frame of each.

    Args:
        position: (T, 3), the hand in the world frame, metres.
        fps: frames per second.
        config: as `resolve` gives it.
    """
    if config.speed is None:
        raise ValueError("expected a resolved DwellConfig, with a speed")
    speed = hand_speed(position, fps, config.window)
    min_steps = max(2, round(config.min_seconds * fps))
    events: list[Event] = []
    stood = position[0]
    for start, stop in _still(speed, position, min_steps, config):
        travel = float(np.linalg.norm(position[start] - stood))
        counts = config.at_end or stop < len(position)
        if stop - start >= min_steps and travel >= config.min_travel and counts:
            events.append(_event(start, stop, speed, travel, config))
            stood = position[stop - 1]
    return events


def _still(speed: np.ndarray, position: np.ndarray, min_steps: int, config: DwellConfig) -> list[tuple[int, int]]:
    """First frames and frames after the last of the times at which the hand stands, however short.

    Two that are interrupted for less than ``min_steps`` frames and ``min_travel`` are one: noise of the pose.
    """
    assert config.speed is not None
    still = held_states(speed <= config.speed, speed > config.leave * config.speed, 1)
    edges = np.flatnonzero(np.diff(still.astype(np.int8), prepend=0, append=0)).tolist()
    times: list[tuple[int, int]] = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if times:
            first, last = times[-1]
            moved = float(np.linalg.norm(position[start] - position[last - 1]))
            if start - last < min_steps and moved < config.min_travel:
                times[-1] = (first, stop)
                continue
        times.append((start, stop))
    return times


def _event(start: int, stop: int, speed: np.ndarray, travel: float, config: DwellConfig) -> Event:
    assert config.speed is not None
    numbers = {
        "before": float(speed[max(start - 1, 0)]),
        "speed": float(speed[start]),
        "threshold": config.speed,
        "frames": stop - start,
        "travel": travel,
    }
    return Event(start, DWELL, "dwell", stop - 1, numbers)
