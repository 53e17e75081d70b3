"""Confidence intervals for success rates, of episodes that may share scenes.

The same seed shows the same layout, target and noise under several test conditions and to every training of a variant.
Such episodes succeed and fail together, so that each scene counts as one draw here, however often it was met.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

import numpy as np
from scipy.stats import t as student_t

Z_95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""

FEW = 10
"""Successes, or failures, from which on the outcomes tell how alike episodes of one scene are."""

Interval = tuple[float, float]
Scenes = Mapping[int, tuple[int, int]]
"""Seed of a scene -> (successes, episodes)."""


def wilson(successes: float, trials: float, z: float = Z_95) -> Interval:
    """Wilson's score interval (Wilson 1927) of a binomial rate, as (low, high) in [0, 1].

    Unlike the normal approximation it stays inside [0, 1] and has a width at 0 and at 100 %, which is where
    small evaluations of good policies end up. No trials say nothing: (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials, found {successes} of {trials}")
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    denominator = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / denominator
    margin = z / denominator * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - margin)  # exact ends, not 1e-17
    high = 1.0 if successes == trials else min(1.0, centre + margin)
    return low, high


def by_scene(outcomes: Iterable[tuple[int, bool]]) -> Scenes:
    """(seed, success) of every episode, put together."""
    scenes: dict[int, tuple[int, int]] = {}
    for seed, success in outcomes:
        successes, episodes = scenes.get(seed, (0, 0))
        scenes[seed] = successes + success, episodes + 1
    return scenes


def effective_trials(scenes: Scenes) -> float:
    """As many independent episodes tell as much about the rate (Kish 1965: episodes over the design effect).

    With fewer than `FEW` successes or failures the outcomes do not tell how alike episodes of one scene are, and each
    scene counts once. Never more than there are episodes.
    """
    successes, trials = _totals(scenes)
    if min(successes, trials - successes) < FEW:
        return float(len(scenes))
    rate, residuals = successes / trials, _residuals(scenes, list(scenes))
    variance = float(residuals @ residuals)
    return min(float(trials), rate * (1 - rate) / variance) if variance > 0 else float(trials)


def clustered_wilson(scenes: Scenes) -> Interval:
    """95 % interval of the rate over all episodes: `wilson` with `effective_trials`."""
    trials = effective_trials(scenes)
    return wilson(min(trials, _rate(scenes) * trials), trials) if scenes else (0.0, 1.0)


def difference_interval(scenes: Scenes, reference: Scenes) -> Interval:
    """95 % interval of the difference of two rates, rate minus reference, in [-1, 1]; scenes of both are paired.

    The hybrid score interval: the two `clustered_wilson` intervals put together with the correlation of the two rates
    over scenes. Without scenes in common, one episode each, it is method 10 of Newcombe (1998), "Interval estimation
    for the difference between independent proportions"; with them that of his paper on paired data in the same volume,
    his correction of the correlation for continuity left out, as by Zou & Donner (2008).
    """
    if not scenes or not reference:
        return -1.0, 1.0
    rate, other = _rate(scenes), _rate(reference)
    low, high = clustered_wilson(scenes)
    other_low, other_high = clustered_wilson(reference)
    correlation = _correlation(scenes, reference)
    below = _together(rate - low, other_high - other, correlation)
    above = _together(high - rate, other - other_low, correlation)
    return rate - other - below, rate - other + above


def welch(values: Sequence[float], reference: Sequence[float]) -> Interval | None:
    """95 % interval of the difference of two means by Welch's t; None with fewer than two values on a side.

    Of trainings' rates: what another draw of the trainings would change, on these scenes.
    """
    if len(values) < 2 or len(reference) < 2:
        return None
    errors = [float(np.var(side, ddof=1)) / len(side) for side in (values, reference)]
    middle, error = float(np.mean(values) - np.mean(reference)), sum(errors)
    if error == 0:
        return middle, middle
    freedom = error**2 / sum(e**2 / (len(side) - 1) for e, side in zip(errors, (values, reference), strict=True))
    margin = float(student_t.ppf(0.975, freedom)) * sqrt(error)
    return middle - margin, middle + margin


def _rate(scenes: Scenes) -> float:
    successes, episodes = _totals(scenes)
    return successes / episodes


def _totals(scenes: Scenes) -> tuple[int, int]:
    return sum(successes for successes, _ in scenes.values()), sum(episodes for _, episodes in scenes.values())


def _correlation(scenes: Scenes, reference: Scenes) -> float:
    """Of the two rates, over scenes; 0 where one of them does not vary."""
    seeds = sorted(scenes.keys() | reference.keys())
    first, second = (_residuals(one, seeds) for one in (scenes, reference))
    product = sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / product if product > 0 else 0.0


def _residuals(scenes: Scenes, seeds: Sequence[int]) -> np.ndarray:
    """What each scene (S,) adds to the rate beyond its share."""
    successes, episodes = np.array([scenes.get(seed, (0, 0)) for seed in seeds], dtype=float).T
    return (successes - _rate(scenes) * episodes) / episodes.sum()


def _together(a: float, b: float, correlation: float) -> float:
    return sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))
