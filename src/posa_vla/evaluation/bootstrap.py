"""Confidence intervals of means, ratios and correlations, by resampling whole episodes."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000


def interval(
    statistic: Callable[..., np.ndarray], *samples: Sequence[float] | np.ndarray
) -> tuple[float, float] | None:
    """95 % percentile interval (Efron 1979) of `statistic(*samples, axis=-1)`; samples are paired by episode.

    The same data give the same interval. Resamples in which the statistic is undefined are left out. None where
    fewer than two episodes, or no resample, say anything.
    """
    if len(samples[0]) < 2:
        return None
    arrays = tuple(np.asarray(sample, np.float64) for sample in samples)
    with warnings.catch_warnings():  # SciPy's, of resamples in which the statistic is undefined
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            arrays, statistic, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile", rng=0
        ).bootstrap_distribution
    drawn = drawn[np.isfinite(drawn)]
    return tuple(np.quantile(drawn, (0.025, 0.975)).tolist()) if len(drawn) else None


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, Any] | None:
    """Sum over sum, {mean, low, high}: a mean per action or per call when each episode has its own number of them."""
    if not sum(denominators):
        return None
    low, high = interval(_ratio, numerators, denominators) or (None, None)
    return {"mean": sum(numerators) / sum(denominators), "low": low, "high": high}


def mean(values: Sequence[float]) -> dict[str, Any] | None:
    """{mean, low, high} of one value per episode; None where there is none."""
    return ratio(values, [1.0] * len(values))


def _ratio(numerators: np.ndarray, denominators: np.ndarray, axis: int = -1) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample without a single call has no mean
        return numerators.sum(axis=axis) / denominators.sum(axis=axis)
