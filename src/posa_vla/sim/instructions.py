"""Sentences: several phrasings of each goal, some kept for evaluation."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Phrasings:
    """Templates of one goal's sentence.

    Args:
        training: drawn in every split.
        held_out: drawn beside them when the split is `eval`, never otherwise.
    """

    training: tuple[str, ...]
    held_out: tuple[str, ...]

    def of(self, split: str) -> tuple[str, ...]:
        return self.training + self.held_out if split == "eval" else self.training

    def draw(self, split: str, rng: np.random.Generator, **words: str) -> tuple[str, bool]:
        """(sentence, whether its phrasing is held out from training)."""
        phrasing = self.of(split)[rng.integers(len(self.of(split)))]
        return phrasing.format(**words), phrasing in self.held_out


PICKING = Phrasings(
    training=(
        "pick up the {thing}",
        "pick the {thing} up",
        "grab the {thing}",
        "lift the {thing}",
        "take the {thing}",
        "please pick up the {thing}",
    ),
    held_out=(
        "please grab the {thing}",
        "lift up the {thing}",
        "the {thing}, pick it up",
    ),
)
