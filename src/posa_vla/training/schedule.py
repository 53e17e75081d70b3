"""Learning rate and seeds as pure functions of the step, so that a resumed run needs no state for either."""

import math
import random

import numpy as np
import torch


def progress(step: int, steps: int, elapsed: float = 0.0, budget: float | None = None) -> float:
    """Fraction of the run that is over, in [0, 1]: of the steps or of the seconds, whichever is further.

    Args:
        step: optimiser steps done.
        steps: optimiser steps planned.
        elapsed: seconds of training so far, those before a resume included.
        budget: seconds allowed; None = unlimited, and the result depends on the step alone.
    """
    done = step / steps if steps > 0 else 1.0
    if budget is not None:
        done = max(done, elapsed / budget)
    return min(1.0, done)


def lr_factor(step: int, warmup: int, done: float, done_at_warmup: float, floor: float = 0.0) -> float:
    """Linear warm-up to 1, then a cosine to `floor` (paper: warm-up 2,000 steps).

    Step 0 already moves: the factor is (step + 1) / warmup, so that no update is spent on a rate of zero.

    Args:
        step: optimiser steps done before this update.
        warmup: steps of linear warm-up.
        done: `progress` now.
        done_at_warmup: `progress` when the warm-up ended: the cosine runs from there to 1.
        floor: factor at the end.
    """
    if step < warmup:
        return (step + 1) / warmup
    span = 1.0 - done_at_warmup
    cosine_progress = min(1.0, max(0.0, (done - done_at_warmup) / span)) if span > 0 else 1.0
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * cosine_progress))


def step_seed(seed: int, step: int, rank: int) -> int:
    """One well-mixed 63-bit seed per (seed, step, rank)."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed python, numpy and torch for one step.

    Every draw of a step then is a function of (seed, step, rank): there is no generator state to save, and
    nothing that ran in between (an evaluation, a log line) can change what the next step draws.
    """
    mixed = step_seed(seed, step, rank)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)
