"""Confidence intervals for success rates."""

from math import sqrt

Z_95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
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


def newcombe(successes: int, trials: int, reference_successes: int, reference_trials: int) -> tuple[float, float]:
    """95 % interval of the difference of two independent binomial rates, rate minus reference, in [-1, 1].

    The hybrid score interval, method 10 of Newcombe (1998), "Interval estimation for the difference between
    independent proportions", Statistics in Medicine 17: the two Wilson intervals put together.
    """
    if not trials or not reference_trials:
        return -1.0, 1.0
    rate, reference = successes / trials, reference_successes / reference_trials
    low, high = wilson(successes, trials)
    reference_low, reference_high = wilson(reference_successes, reference_trials)
    difference = rate - reference
    below = sqrt((rate - low) ** 2 + (reference_high - reference) ** 2)
    above = sqrt((high - rate) ** 2 + (reference - reference_low) ** 2)
    return difference - below, difference + above
