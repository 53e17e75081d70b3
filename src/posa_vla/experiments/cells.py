"""The cells of an experiment's grid, and the hash that tells whether a result still belongs to its cell."""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from posa_vla.errors import PosaError, unknown_name
from posa_vla.experiments.spec import Dataset, Experiment, Options
from posa_vla.options import listed

SCENE = ("family", "categories", "colours", "held_out", "num_distractors")
"""Options of the task and its scenes that an evaluation takes over from the recording unless it states its own."""


@dataclass(frozen=True)
class Cell:
    """One run: a variant on a dataset with a seed.

    Args:
        experiment, variant, seed: where it stands in the grid.
        dataset: what it is trained on.
        train: options of ``posa-vla train``.
        eval: options of ``posa-vla eval``.
        policy_of: the cell of another experiment whose checkpoint it evaluates; None: it trains its own.
    """

    experiment: str
    variant: str
    dataset: Dataset
    seed: int
    train: Options
    eval: Options
    policy_of: "Cell | None" = None

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.dataset.name}-{self.seed}"

    @property
    def recording_key(self) -> str:
        """The same for all cells, of any experiment, that can share one recording, however it is labelled."""
        return digest({"record": self.dataset.record})

    @property
    def dataset_key(self) -> str:
        """The same for all cells, of any experiment, that can share one labelled dataset."""
        return digest({"record": self.dataset.record, "label": self.dataset.label})

    @property
    def train_hash(self) -> str:
        """Of everything that decides the checkpoint."""
        return digest({"dataset": self.dataset_key, "train": self.train, "seed": self.seed})

    @property
    def hash(self) -> str:
        """Of everything that decides the result, the code apart."""
        return digest({"train": self.train_hash, "eval": self.eval})

    def config(self) -> dict[str, Any]:
        """What the result says about itself."""
        return {
            "variant": self.variant,
            "dataset": self.dataset.name,
            "seed": self.seed,
            "record": self.dataset.record,
            "label": self.dataset.label,
            "train": self.train,
            "eval": self.eval,
            "policy_of": f"{self.policy_of.experiment}/{self.policy_of.name}" if self.policy_of else None,
        }

    # ---- numbers that tables and estimates need ---------------------------------------------------------

    @property
    def demonstrations(self) -> int:
        return int(self.dataset.record.get("episodes", 200))

    @property
    def kind(self) -> tuple[str, str, str]:
        """Policy type, preset and batch size: what the time of a training step depends on most."""
        train = self.train
        return train.get("policy.type", "posa_vla"), train.get("policy.preset", "-"), train.get("batch_size", "-")

    @property
    def steps(self) -> int | None:
        return int(self.train["steps"]) if "steps" in self.train else None

    @property
    def action_steps(self) -> int | None:
        """Steps with the action loss; None where the preset decides."""
        if self.steps is None or self.kind[0] != "posa_vla":
            return self.steps
        return self.steps - int(self.train["policy.anchor_steps"]) if "policy.anchor_steps" in self.train else None

    @property
    def episodes(self) -> int | None:
        """Evaluation episodes; None where the options leave it to the command."""
        conditions = self.eval.get("conditions")
        default = self.eval.get("episodes", "200")
        if conditions is None:
            return None
        return sum(int(entry.partition(":")[2] or default) for entry in listed(conditions))


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def grid(experiment: Experiment) -> list[Cell]:
    """All cells; seeds outermost, so that an interrupted experiment holds every variant as far as it got."""
    return [
        make_cell(experiment, variant, dataset, seed)
        for seed in experiment.seeds
        for variant in experiment.variants
        for dataset in experiment.variants[variant].datasets
    ]


def make_cell(experiment: Experiment, variant: str, dataset: str, seed: int) -> Cell:
    spec, data = experiment.variants[variant], experiment.datasets[dataset]
    scene = {name: data.record[name] for name in SCENE if name in data.record}
    source = experiment.source
    return Cell(
        experiment=experiment.name,
        variant=variant,
        dataset=data,
        seed=seed,
        train=spec.train,
        eval=scene | spec.eval,
        policy_of=make_cell(source, spec.policy, dataset, seed) if source and spec.policy else None,
    )


def select(cells: list[Cell], only: str | None, datasets: str | None, seeds: str | None) -> list[Cell]:
    """The cells of some variants, datasets or seeds, each a comma list."""
    chosen = cells
    for kind, text, of in (
        ("variant", only, lambda cell: cell.variant),
        ("dataset", datasets, lambda cell: cell.dataset.name),
        ("seed", seeds, lambda cell: str(cell.seed)),
    ):
        if text is not None:
            wanted = _names(text, kind, dict.fromkeys(of(cell) for cell in cells))
            chosen = [cell for cell in chosen if of(cell) in wanted]
    if not chosen:
        raise PosaError("no cell has all of the chosen variants, datasets and seeds: choose fewer")
    return chosen


def _names(text: str, kind: str, valid: Collection[str]) -> set[str]:
    names = listed(text)
    for name in names:
        if name not in valid:
            raise unknown_name(kind, name, valid)
    return set(names)


def by_name(cells: Iterable[Cell]) -> dict[str, Cell]:
    return {cell.name: cell for cell in cells}
