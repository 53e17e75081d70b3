"""The method's known ways to fail, each seen in the training log and said in plain words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from posa_vla.errors import PosaError


@dataclass(frozen=True)
class Thresholds:
    """Where each signature begins; means over one log window.

    Args:
        map_contrast: mean of (max − mean) of an attention map in [0, 1]; a map that points somewhere reaches
            0.3 and more, one constant map has 0.
        end_map_peak: mean maximum of the end map where the end anchor is visible; 1 is the target, an empty
            map has 0.
        pairs_per_sample: same-task pairs (each counted once) divided by the samples in the batch of all processes.
    """

    map_contrast: float = 0.05
    end_map_peak: float = 0.05
    pairs_per_sample: float = 0.25


THRESHOLDS = Thresholds()


def failure_signs(
    means: Mapping[str, float], batch_size: int, warm: bool, limits: Thresholds = THRESHOLDS
) -> dict[str, str]:
    """Which signatures `means` shows: {short name: sentence}. A quantity that was not logged is not judged.

    Args:
        means: window means of the policy's loss dict.
        batch_size: samples in the batch of all processes, which the pairs are counted over.
        warm: whether warm-up is over; maps are flat at the start, so they are judged only then.
        limits: the thresholds.
    """
    signs = {}
    pairs = means.get("same_task_pairs", math.inf) / batch_size
    if pairs < limits.pairs_per_sample:
        signs["few_same_task_pairs"] = (
            f"only {pairs * batch_size:.1f} same-task pairs in a batch of {batch_size}, too few for the "
            "contrastive term: use --sampler=task_balanced or a larger batch"
        )
    if warm:
        signs |= _map_signs(means, limits)
    return signs


def _map_signs(means: Mapping[str, float], limits: Thresholds) -> dict[str, str]:
    signs = {}
    for anchor in ("task", "end"):
        contrast = means.get(f"map_contrast_{anchor}", math.inf)
        if contrast < limits.map_contrast:
            signs[f"flat_{anchor}_map"] = (
                f"the {anchor} attention is nearly uniform (peak − mean = {contrast:.3f}), so it selects "
                "nothing: train the anchor stage longer or raise the weight of the focal loss"
            )
    peak = means.get("end_map_peak", math.inf)
    if peak < limits.end_map_peak:
        signs["end_map_collapsed"] = (
            f"the end-effector map has collapsed towards zero (its peak is {peak:.3f} where the gripper is in "
            "view): check the rig (are the end anchors where the gripper is?) or raise the weight of the focal loss"
        )
    return signs


class Watch:
    """Says each signature once when it appears, and again only after it went away and came back."""

    def __init__(self) -> None:
        self.active: dict[str, str] = {}

    def news(self, signs: Mapping[str, str]) -> list[str]:
        """Sentences of the signatures that the window before did not show."""
        fresh = [sentence for name, sentence in signs.items() if name not in self.active]
        self.active = dict(signs)
        return fresh


def check_finite(means: Mapping[str, float], step: int) -> None:
    """Stop a run whose loss is NaN or infinite: nothing trained after that is worth saving."""
    bad = sorted(name for name, value in means.items() if name.endswith("loss") and not math.isfinite(value))
    if bad:
        raise PosaError(
            f"{', '.join(bad)} became not a number by step {step}: the checkpoints written before are intact; "
            "resume from the newest with a lower learning rate, or check the dataset for NaN"
        )
