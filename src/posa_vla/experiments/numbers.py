"""Cells of one variant put together: what tables and plots show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Any

from posa_vla.contract import CAMERAS
from posa_vla.evaluation.intervals import Interval, Scenes, by_scene, clustered_wilson, wilson
from posa_vla.evaluation.records import ERROR, SUCCESS
from posa_vla.options import listed

ANCHOR = f"{CAMERAS[0]}_first"
"""The anchor error that stands for all: the fixed view's task anchor at the first frame, which only the sentence
gives away."""

ON_TARGET = 0.08
"""Fraction of the image's side within which the task anchor counts as on the target: the bar of the pipeline's
anchor error, about an object's width."""


@dataclass(frozen=True)
class Rate:
    """Successes among episodes that ended without an error.

    Args:
        scenes: successes and episodes of each scene, of all conditions and trainings that met it.
    """

    scenes: Scenes

    @classmethod
    def of(cls, outcomes: Iterable[tuple[int, bool]]) -> "Rate":
        """From every episode's scene and outcome."""
        return cls(by_scene(outcomes))

    @property
    def count(self) -> int:
        return sum(successes for successes, _ in self.scenes.values())

    @property
    def trials(self) -> int:
        return sum(episodes for _, episodes in self.scenes.values())

    @property
    def value(self) -> float | None:
        return self.count / self.trials if self.trials else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 %; each scene counts as one draw."""
        return clustered_wilson(self.scenes)


@dataclass(frozen=True)
class Group:
    """The cells of one variant on one dataset, one per seed.

    Args:
        variant, dataset: names.
        title: what tells it apart: the variant, and the dataset where the experiment has several.
        cells: their results, by seed.
    """

    variant: str
    dataset: str
    title: str
    cells: tuple[dict[str, Any], ...]

    def episodes(self, condition: str | None = None) -> list[dict[str, Any]]:
        """Episodes that ended without an error, of all conditions or of one."""
        rows = [row for cell in self.cells for row in cell_episodes(cell)]
        return [r for r in rows if r["outcome"] != ERROR and condition in (None, r["condition"])]

    def success(self, condition: str | None = None) -> Rate:
        return success(self.episodes(condition))

    def seed_rates(self, condition: str | None = None) -> list[float]:
        """One rate per seed, in the order of the seeds."""
        rates = (success([r for r in cell_episodes(c) if condition in (None, r["condition"])]) for c in self.cells)
        return [rate.value for rate in rates if rate.value is not None]

    def wrong_object(self) -> float | None:
        """Share of the episodes in which another object was lifted."""
        rows = [row for cell in self.cells for row in cell["conditions"]]
        trials = sum(row["episodes"] for row in rows)
        return sum(row["wrong_object"]["count"] for row in rows) / trials if trials else None

    def stages(self) -> dict[str, tuple[float, Interval]]:
        """Share of the episodes that reached each stage of the task, and its 95 % interval.

        Which episode reached what is not stored, so the interval is that of one training under one condition: the
        others play the same scenes.
        """
        rows = [row for cell in self.cells for row in cell["conditions"] if row["stages"]]
        trials = sum(row["episodes"] for row in rows)
        found = {}
        for name in dict.fromkeys(name for row in rows for name in row["stages"]):
            share = sum(row["stages"][name]["count"] for row in rows) / trials
            once = trials / len(rows)
            found[name] = share, wilson(share * once, once)
        return found

    def errors(self) -> int:
        return sum(row["errors"] for cell in self.cells for row in cell["conditions"])

    def median_of_successes(self, column: str) -> float | None:
        return middle(row[column] for row in self.episodes() if row["outcome"] == SUCCESS)

    def path_ratio(self) -> float | None:
        """Median of path over the expert's path, of the scenes that both solved."""
        rows = [row for row in self.episodes() if row["outcome"] == SUCCESS and row["path"] and row["expert_path"]]
        return middle(row["path"] / row["expert_path"] for row in rows)

    def on_target(self) -> Rate:
        """Scenes in which the head view's task anchor is on the target at the first frame."""
        return on_target(self._with_anchor(), ANCHOR)

    def seed_on_target(self) -> list[float]:
        """One rate per seed, in the order of the seeds."""
        rates = (replace(self, cells=(cell,)).on_target() for cell in self.cells)
        return [rate.value for rate in rates if rate.value is not None]

    def first_errors(self) -> list[float]:
        """The head view's task-anchor errors at the first frame, where it is known."""
        return [row[ANCHOR] for row in self._with_anchor()]

    def _with_anchor(self) -> list[dict[str, Any]]:
        return [row for row in self.episodes() if row[ANCHOR] is not None]

    def anchor_error(self) -> float | None:
        """Their mean."""
        errors = self.first_errors()
        return mean(errors) if errors else None

    def training_seconds(self) -> float | None:
        seconds = [cell["training"]["seconds"] for cell in self.cells if cell["training"]]
        return mean(seconds) if seconds else None

    def training_steps(self) -> float | None:
        steps = [cell["training"]["steps"] for cell in self.cells if cell["training"]]
        return mean(steps) if steps else None

    # ---- speed ------------------------------------------------------------------------------------------

    def ms_per_action(self, column: str = "policy_seconds") -> float | None:
        rows = [row for row in self.episodes() if row["steps"]]
        steps = sum(row["steps"] for row in rows)
        return 1000 * sum(row[column] for row in rows) / steps if steps else None

    def ms_per_chunk(self) -> float | None:
        """Policy time over the chunks predicted: one per `n_action_steps`, begun ones counted."""
        executed = self.n_action_steps()
        rows = [row for row in self.episodes() if row["steps"]]
        if not rows or not executed:
            return None
        return 1000 * sum(row["policy_seconds"] for row in rows) / sum(-(-row["steps"] // executed) for row in rows)

    def n_action_steps(self) -> int | None:
        return self.cells[0]["policy"]["n_action_steps"]

    def millions(self) -> float:
        """Parameters and buffers of the policy, in millions."""
        return self.cells[0]["policy"]["numbers"] / 1e6


def demonstrations(record: dict[str, Any]) -> tuple[int, int | None]:
    """How many a recording has, in total and of each category; None where it names no categories."""
    total, categories = int(record.get("episodes", 200)), record.get("categories", "all")
    return total, None if categories == "all" else round(total / len(listed(categories)))


def groups(content: dict[str, Any]) -> list[Group]:
    """All groups that have a finished cell, in the order of variants, then datasets."""
    found = []
    for variant in content["variants"]:
        for dataset in content["datasets"]:
            cells = [
                c for c in content["cells"] if (c["config"]["variant"], c["config"]["dataset"]) == (variant, dataset)
            ]
            if cells:
                title = f"{variant}, {dataset}" if len(content["datasets"]) > 1 else variant
                found.append(Group(variant, dataset, title, tuple(sorted(cells, key=lambda c: c["config"]["seed"]))))
    return found


def conditions(content: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["condition"] for cell in content["cells"] for row in cell["conditions"]))


def cell_episodes(cell: dict[str, Any]) -> list[dict[str, Any]]:
    columns = cell["episodes"]["columns"]
    return [dict(zip(columns, row, strict=True)) for row in cell["episodes"]["rows"]]


def middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None


def on_target(rows: Sequence[dict[str, Any]], error: str) -> Rate:
    """Episodes whose `error` (a column that is known in all of them) is at most `ON_TARGET`."""
    return Rate.of((row["seed"], row[error] <= ON_TARGET) for row in rows)


def success(rows: Sequence[dict[str, Any]]) -> Rate:
    """Of episodes; those that ended in an error do not count."""
    return Rate.of((row["seed"], row["outcome"] == SUCCESS) for row in rows if row["outcome"] != ERROR)
