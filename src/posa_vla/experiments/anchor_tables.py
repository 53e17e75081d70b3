"""How far off anchors are, how that relates to success episode by episode, and where the policy looks in failures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from posa_vla.contract import CAMERAS
from posa_vla.evaluation.records import SUCCESS
from posa_vla.experiments.markdown import DASH, folded, number, percent, rate, table
from posa_vla.experiments.numbers import ON_TARGET, Group, middle, on_target, success

FIRST, MEAN, LATE = (f"{CAMERAS[0]}_{when}" for when in ("first", "mean", "late"))
QUANTILES = 4
UNKNOWN = "No episode has an anchor error: evaluate with attention_every above 0."


def anchor_tables(found: Sequence[Group]) -> list[str]:
    """By quarter of the error, and by how the episode ended; variants without anchors have no rows."""
    known = [(group, rows) for group in found if (rows := _known(group))]
    if not known:
        return [UNKNOWN]
    by_first, by_mean = ([row for g, rows in known for row in quarters(g.title, rows, at)] for at in (FIRST, MEAN))
    by_end = [row for group, rows in known for row in endings(group.title, rows)]
    header = ["variant", "error", "episodes", "success [95 %]", "AUC"]
    return [
        folded(
            "Success by the task anchor's error in the head view (fraction of the image's side) at the first frame, "
            "before anything has happened, in quarters of the episodes; AUC: how often a failed episode's error "
            "exceeds a solved one's (0.5: chance)",
            table(header, by_first),
        ),
        folded(
            "The same by the mean error until the target rises or the episode ends, which also sees what a failure "
            "causes: it lasts longer, and the hand that misses pushes the target about",
            table(header, by_mean),
        ),
        folded(
            "Where the policy looks, by how the episode ended (medians; late: the last samples of the reach; on "
            f"target: late error at most {ON_TARGET})",
            table(["variant", "ended", "episodes", "first frame", "reach", "late", "on target late"], by_end),
        ),
    ]


def attention_table(found: Sequence[Group]) -> list[str]:
    """One row per variant: how often it looks at the target, and what looking there is worth."""
    rows = [_attention_row(group, rows) for group in found if (rows := _known(group))]
    if not rows:
        return [UNKNOWN]
    header = [
        *("variant", "episodes", "on target at first [95 %]", "in the end [95 %]"),
        *("success if so [95 %]", "success if not [95 %]", "AUC at first", "AUC of the mean"),
    ]
    legend = (
        "Does the policy look at the target, and succeed where it does? Task anchor in the head view, at the first "
        "frame and at the last samples until the target rises or the episode ends; on target: its error is at most "
        f"{ON_TARGET}. AUC: how often a failed episode's error exceeds a solved one's (0.5: chance), at the first "
        "frame, before anything has happened, and of the mean until the target rises or the episode ends. The mean and "
        "the end also see what a failure causes: it lasts longer, and the hand that misses pushes the target about."
    )
    return [legend, table(header, rows)]


def _attention_row(group: Group, rows: Sequence[dict[str, Any]]) -> list[str]:
    late = [row for row in rows if row[LATE] is not None]
    there = [row for row in late if row[LATE] <= ON_TARGET]
    away = [row for row in late if row[LATE] > ON_TARGET]
    rates = (group.on_target(), on_target(late, LATE), success(there), success(away))
    aucs = (auc(rows, column) for column in (FIRST, MEAN))
    return [group.title, str(len(rows)), *(rate(value) for value in rates), *(number(value, 2) for value in aucs)]


def _known(group: Group) -> list[dict[str, Any]]:
    return [row for row in group.episodes() if row[MEAN] is not None]


def quarters(title: str, rows: Sequence[dict[str, Any]], column: str) -> list[list[str]]:
    """Rows of a table by the error in `column`, smallest first, of the episodes that have one."""
    ordered = sorted((row for row in rows if row[column] is not None), key=lambda row: row[column])
    table_rows = []
    for index, part in enumerate(np.array_split(np.arange(len(ordered)), QUANTILES)):
        if not len(part):
            continue
        chosen = [ordered[i] for i in part]
        span = f"{chosen[0][column]:.3f} – {chosen[-1][column]:.3f}"
        shown = number(auc(ordered, column), 2) if index == 0 else ""
        table_rows.append([title if index == 0 else "", span, str(len(chosen)), rate(success(chosen)), shown])
    return table_rows


def auc(rows: Sequence[dict[str, Any]], column: str) -> float | None:
    """Probability that a failed episode's error in `column` is above a solved one's, ties half; None without both."""
    known = [row for row in rows if row[column] is not None]
    solved = [row[column] for row in known if row["outcome"] == SUCCESS]
    failed = [row[column] for row in known if row["outcome"] != SUCCESS]
    if not solved or not failed:
        return None
    return float(mannwhitneyu(failed, solved).statistic) / (len(solved) * len(failed))


def endings(title: str, rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row per way to end, successes first, then failures by frequency."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row["reason"] or row["outcome"], []).append(row)
    ordered = sorted(kinds.items(), key=lambda item: (item[0] != SUCCESS, -len(item[1])))
    table_rows = []
    for index, (kind, members) in enumerate(ordered):
        late = [row[LATE] for row in members if row[LATE] is not None]
        share = percent(sum(error <= ON_TARGET for error in late) / len(late)) if late else DASH
        errors = [number(middle(row[column] for row in members), 3) for column in (FIRST, MEAN, LATE)]
        table_rows.append([title if index == 0 else "", kind, str(len(members)), *errors, share])
    return table_rows


def space_table(found: Sequence[Group]) -> list[str]:
    """By view and anchor, of the variants that tell depths."""
    rows = [row for group in found for row in _in_space(group)]
    if not rows:
        return ["No variant tells depths, so no anchor has a place in space."]
    legend = (
        "Distance between an anchor's predicted and its true place in space, cm: means over all samples, and the "
        "median of each seed's. An anchor that a view cannot see has no error there."
    )
    header = ["variant", "view", "anchor", "first frame", "whole episode", "samples", "median of each seed"]
    return [legend, table(header, rows)]


def _in_space(group: Group) -> list[list[str]]:
    """One row per view and anchor; none for a variant without depths."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in group.cells:
        for row in (cell["anchors"] or {}).get("space", []):
            found.setdefault((row["view"], row["anchor"]), []).append(row)
    rows = []
    for index, ((view, anchor), seeds) in enumerate(found.items()):
        first, episode = ([row[frames] for row in seeds] for frames in ("first", "episode"))
        medians = ", ".join(number(part["median_cm"], 1) for part in episode)
        means = [number(_pooled(parts), 1) for parts in (first, episode)]
        samples = str(sum(part["samples"] for part in episode))
        rows.append([group.title if index == 0 else "", view, anchor, *means, samples, medians])
    return rows


def _pooled(parts: Sequence[dict[str, Any]]) -> float | None:
    samples = sum(part["samples"] for part in parts)
    return sum(part["samples"] * part["mean_cm"] for part in parts if part["samples"]) / samples if samples else None
