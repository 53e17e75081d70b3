"""A rig's gripper against the names that a dataset gives the numbers it takes it from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posa_vla.data.features import feature_names
from posa_vla.errors import PosaError
from posa_vla.rigs.sources import GripperSource

GRIPPER_WORDS = ("gripper", "finger", "jaw")
"""Parts of names that only a gripper has."""
LIKELY_WORDS = (*GRIPPER_WORDS, "grip", "grasp", "hand", "claw", "thumb", "pinch", "open", "clos", "width")
"""Parts of names that a gripper may have."""


def check_gripper_names(features: Mapping[str, Any], source: GripperSource) -> None:
    """An error where the rig takes its gripper from a number of another name beside one that is called a gripper.

    Nothing else tells it from a joint that swings between the rig's open and closed.

    Args:
        features: the dataset's, by column; the gripper's columns are among them.
        source: the rig's gripper.
    """
    if source.command is not None:
        _check_names(features, "command", source.command.column, (source.command.index,))
    if source.width is not None:
        _check_names(features, "width", source.width.column, source.width.indices)


def _check_names(features: Mapping[str, Any], what: str, column: str, indices: tuple[int, ...]) -> None:
    names = [name.lower() for name in feature_names(features[column])]
    likely = [index for index, name in enumerate(names) if _has(name, GRIPPER_WORDS)]
    if not likely or len(names) != int(np.prod(features[column]["shape"])):
        return  # names of groups or of other numbers say nothing of single ones
    if any(_has(names[index], LIKELY_WORDS) for index in indices):
        return
    taken, meant = (", ".join(f"{column}[{i}] ({names[i]})" for i in items) for items in (indices, likely))
    key = "index" if what == "command" else "indices"
    raise PosaError(
        f"the rig takes the gripper's {what} from {taken}, beside {meant}: correct the {key} of the rig's gripper "
        f"{what}, or the feature's names in meta/info.json if they are wrong"
    )


def _has(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name for word in words)
