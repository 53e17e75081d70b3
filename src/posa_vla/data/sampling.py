"""Which frames a training step sees: a pure function of (seed, step, rank).

An epoch is a list of rows, drawn afresh from (seed, epoch); the global batch of step s is the s-th slice of all
epochs laid end to end, and a rank takes its part of that slice. So nothing has to be saved to resume.
"""

from collections.abc import Callable

import numpy as np

from posa_vla.errors import PosaError, unknown_name

SAMPLERS = ("uniform", "task_balanced")


class EpochSampler:
    """Rows without replacement within an epoch.

    `uniform`: every row once per epoch. `task_balanced`: rows of one goal come in groups of `group`, so that a
    batch holds pairs of the same task for the contrastive term; each epoch still shows every row, and a few
    twice, to fill each goal's last group.

    Args:
        rows: (N,) rows of the dataset to draw from.
        goals: (N,) goal of each row.
        batch_size: samples per rank and step.
        sampler: one of `SAMPLERS`.
        group: samples of one goal that stay together under `task_balanced`.
        spare: (N,) bool, rows of which each epoch shows only `spare_share`, others every time; None: no row.
        spare_share: in [0, 1].
    """

    def __init__(
        self,
        rows: np.ndarray,
        goals: np.ndarray,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        sampler: str = "uniform",
        group: int = 4,
        spare: np.ndarray | None = None,
        spare_share: float = 1.0,
    ):
        if sampler not in SAMPLERS:
            raise unknown_name("sampler", sampler, SAMPLERS)
        if batch_size < 1 or not 0 <= rank < world_size:
            raise PosaError(
                f"expected batch_size >= 1 and 0 <= rank < world_size, found {batch_size}, {rank}, {world_size}"
            )
        if sampler == "task_balanced" and (group < 1 or batch_size % group):
            raise PosaError(
                f"the task_balanced sampler needs a batch size that is a multiple of {group}, found {batch_size}"
            )
        if len(rows) == 0:
            raise PosaError("no frames to draw from: every episode is excluded")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        if not 0.0 <= spare_share <= 1.0:
            raise PosaError(f"spare_share must lie in [0, 1], found {spare_share}")
        self.rows = rows
        self.spare = np.zeros(len(rows), bool) if spare is None else spare
        self.spare_share = spare_share
        self.goals = [goals == goal for goal in np.unique(goals)]
        self.group = group
        self._make: Callable[[np.random.Generator], np.ndarray] = (
            self._uniform if sampler == "uniform" else self._balanced
        )
        self._latest: tuple[int, np.ndarray] = (-1, rows[:0])
        self.epoch_length = len(self._order(0))

    @property
    def steps_per_epoch(self) -> float:
        return self.epoch_length / (self.batch_size * self.world_size)

    def batch_rows(self, step: int) -> np.ndarray:
        """(batch_size,) rows of the dataset for this rank at `step`, counted from 0."""
        first = (step * self.world_size + self.rank) * self.batch_size
        positions = np.arange(first, first + self.batch_size)
        epochs, offsets = np.divmod(positions, self.epoch_length)
        drawn = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):  # more than one only where epochs meet
            part = epochs == epoch
            drawn[part] = self._order(int(epoch))[offsets[part]]
        return drawn

    def _order(self, epoch: int) -> np.ndarray:
        """All rows of an epoch in the order in which they are used; the latest one is remembered."""
        if self._latest[0] != epoch:
            self._latest = (epoch, self._make(np.random.default_rng([self.seed, epoch])))
        return self._latest[1]

    def _uniform(self, rng: np.random.Generator) -> np.ndarray:
        return self._shuffled(np.ones(len(self.rows), bool), rng)

    def _balanced(self, rng: np.random.Generator) -> np.ndarray:
        groups = []
        for goal in self.goals:
            shuffled = self._shuffled(goal, rng)
            missing = -len(shuffled) % self.group
            groups.append(np.concatenate([shuffled, np.resize(shuffled, missing)]).reshape(-1, self.group))
        return rng.permutation(np.concatenate(groups), axis=0).reshape(-1)

    def _shuffled(self, among: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows of a mask in random order, with this epoch's share of the spare ones; never none at all."""
        kept, spare = self.rows[among & ~self.spare], self.rows[among & self.spare]
        count = max(round(self.spare_share * len(spare)), 0 if len(kept) else 1)
        return rng.permutation(np.concatenate([kept, rng.permutation(spare)[:count]]))


def split_episodes(num_episodes: int, val_fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Episodes (training, validation), whole ones, sorted; the same whatever the training seed.

    Args:
        num_episodes: E.
        val_fraction: share held out, in [0, 1); above 0 it is at least one episode.
    """
    if not 0.0 <= val_fraction < 1.0:
        raise PosaError(f"val_fraction must lie in [0, 1), found {val_fraction}")
    held_out = min(max(round(val_fraction * num_episodes), 1), num_episodes - 1) if val_fraction > 0 else 0
    if val_fraction > 0 and held_out == 0:
        raise PosaError(f"val_fraction {val_fraction} leaves nothing to train on: the dataset has one episode")
    order = np.random.default_rng(0).permutation(num_episodes)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
