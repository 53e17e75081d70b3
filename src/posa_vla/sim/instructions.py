"""Sentences: several phrasings of "pick up the {colour} {category}", some kept for evaluation."""

import numpy as np

TRAINING_PHRASINGS = (
    "pick up the {colour} {category}",
    "pick the {colour} {category} up",
    "grab the {colour} {category}",
    "lift the {colour} {category}",
    "take the {colour} {category}",
    "please pick up the {colour} {category}",
)
HELD_OUT_PHRASINGS = (
    "please grab the {colour} {category}",
    "lift up the {colour} {category}",
    "the {colour} {category}, pick it up",
)
"""Drawn beside the training phrasings when the split is `eval`, never otherwise."""


def phrasings(split: str) -> tuple[str, ...]:
    return TRAINING_PHRASINGS + HELD_OUT_PHRASINGS if split == "eval" else TRAINING_PHRASINGS


def instruction(colour: str, category: str, split: str, rng: np.random.Generator) -> tuple[str, bool]:
    """(sentence, whether its phrasing is held out from training)."""
    phrasing = phrasings(split)[rng.integers(len(phrasings(split)))]
    return phrasing.format(colour=colour, category=category), phrasing in HELD_OUT_PHRASINGS
