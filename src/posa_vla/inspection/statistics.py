"""meta/stats.json, which training normalises by: there, finite, and those of the tables."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from posa_vla.contract import ANCHORS, STEPS_TO_INTERACTION
from posa_vla.inspection.findings import Finding
from posa_vla.inspection.layout import TEXT_KINDS, Layout
from posa_vla.inspection.tables import COUNTERS, Tables

STATS_FILE = "meta/stats.json"
NEEDED = ("min", "max", "mean", "std", "count")
TOLERANCE = 1e-3
"""Of a column's range. Statistics that LeRobot aggregates over episodes round, but not by so much."""

WITHOUT = (*COUNTERS, ANCHORS, STEPS_TO_INTERACTION)
"""Labels get none. The counters' are meaningless, nobody reads them, and a dataset merged from shards holds the
shards' own."""


def check_statistics(layout: Layout, tables: Tables) -> list[Finding]:
    """Every feature's statistics; those of numbers are computed again where all rows could be read."""
    path = layout.root / STATS_FILE
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [Finding("stats", STATS_FILE, "is missing: training cannot normalise")]
    except (OSError, ValueError) as error:
        return [Finding("stats", STATS_FILE, f"cannot be read: {error}")]
    if not isinstance(stats, Mapping):
        return [Finding("stats", STATS_FILE, "holds no statistics by feature")]
    findings = []
    for key, feature in layout.features.items():
        if key in WITHOUT or feature["dtype"] in TEXT_KINDS:
            continue
        values = tables.columns.get(key)
        usable = tables.complete and values is not None and np.isfinite(values).all()
        problem = _problem(stats.get(key), values if usable else None)
        if problem:
            findings.append(Finding("stats", STATS_FILE, f"{key}: {problem}"))
    return findings


def _problem(entry: Any, values: np.ndarray | None) -> str | None:
    """What is wrong with one feature's statistics, if anything; values (N, n) are its column."""
    if not isinstance(entry, Mapping):
        return "has no statistics"
    absent = [name for name in NEEDED if name not in entry]
    if absent:
        return f"lacks {', '.join(absent)}"
    try:
        stats = {name: np.asarray(entry[name], np.float64).reshape(-1) for name in NEEDED}
    except (TypeError, ValueError):
        return "holds something that is no number"
    if not all(len(value) for value in stats.values()):
        return "holds empty lists"
    if not all(np.isfinite(value).all() for value in stats.values()):
        return "holds NaN or infinity"
    if len({len(stats[name]) for name in NEEDED[:-1]}) != 1:
        return "min, max, mean and std differ in length"
    slack = TOLERANCE * (np.abs(stats["min"]) + np.abs(stats["max"])) + 1e-9
    if (stats["std"] < 0).any() or (stats["min"] > stats["mean"] + slack).any():
        return "min, mean and std contradict each other"
    if (stats["mean"] > stats["max"] + slack).any():
        return "mean lies above max"
    return None if values is None else _differs(stats, values)


def _differs(stats: Mapping[str, np.ndarray], values: np.ndarray) -> str | None:
    """The first statistic that is not the column's own."""
    if int(stats["count"][0]) != len(values):
        return f"counts {int(stats['count'][0])} frames, the tables hold {len(values)}"
    values = values.astype(np.float64)
    own = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    if len(stats["min"]) != values.shape[1]:
        return f"has {len(stats['min'])} numbers where {values.shape[1]} were expected"
    span = TOLERANCE * (own["max"] - own["min"]) + 1e-5 * (1 + np.abs(own["max"]))
    for name, truth in own.items():
        bad = np.abs(stats[name] - truth) > span
        if bad.any():
            at = int(np.argmax(bad))
            return f"{name}[{at}] is {stats[name][at]:.6g}, the tables give {truth[at]:.6g}"
    return None
