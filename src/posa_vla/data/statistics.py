"""The statistics that policies normalise by: the dataset's own, completed where it lacks some."""

import numpy as np
import torch
from torch import Tensor

from posa_vla import contract
from posa_vla.data.cache import FrameCache

Stats = dict[str, dict[str, Tensor]]
"""By key and name, as LeRobotDatasetMetadata.stats."""


def complete_stats(cache: FrameCache) -> tuple[Stats, list[str]]:
    """The dataset's statistics, and which of the state's and the action's were computed because it lacks them.

    Datasets converted from LeRobot's version 2.1 have no quantiles. LeRobot refuses to normalise by a missing
    statistic, but passes a key without any on as it is, without a word.
    """
    stats = {key: {name: torch.from_numpy(value) for name, value in own.items()} for key, own in cache.stats.items()}
    computed = []
    for key in (contract.STATE, contract.ACTION):
        if key not in cache.columns:
            continue
        found = stats.setdefault(key, {})
        for name, value in _statistics(cache.columns[key]).items():
            if name not in found:
                found[name] = torch.from_numpy(value)
                computed.append(f"{key}.{name}")
    return stats, computed


def _statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of a column (N, D), each (D,), over all frames."""
    values = values.astype(np.float64)
    q01, q99 = np.quantile(values, (0.01, 0.99), axis=0)
    return {
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "q01": q01,
        "q99": q99,
    }
