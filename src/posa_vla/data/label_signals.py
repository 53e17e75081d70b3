"""What the detectors read besides the pose: gripper, finger width, contact."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posa_vla.anchors.contact import ContactConfig
from posa_vla.anchors.interaction import finger_signal
from posa_vla.contract import CONTACT
from posa_vla.data.features import feature_names
from posa_vla.data.label_episodes import EpisodeRows, refuse_rows
from posa_vla.errors import PosaError
from posa_vla.rigs import GripperSource, GripperWidth, Rig

FAR_BEYOND = 2.0
"""How far past open or closed a command may go, in lengths of the way between them: -1 for a rig's 0 … 1, not 255."""
WIDEST = 1.5
"""How many times as wide as the rig's open the fingers may be measured; millimetres are 1,000 times as many."""
OTHER_DETECTORS = "use other detectors: posa-vla label --detectors=dwell, or contact,dwell where a force is recorded"
CONTACT_WORDS = ("contact", "touch", "tactile", "force", "effort", "torque", "wrench", "pressure", "current", "load")
"""Parts of the names of columns that may hold a contact signal."""


def gripper_source(rig: Rig) -> GripperSource:
    """Where the gripper detector finds the gripper.

    Raises:
        PosaError: the rig has none.
    """
    if rig.gripper is None:
        raise PosaError(
            f"the rig {rig.name!r} has no gripper, which the detector gripper (the default) reads: add its gripper "
            "block, or where the robot has none give --detectors=dwell, or contact,dwell where a force is recorded"
        )
    return rig.gripper


def gripper_signal(columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]) -> np.ndarray:
    """(N,), 0 open … 1 closed: the command, or how the measured fingers turn on a robot that records no command.

    Raises:
        PosaError: it never moves, or never passes between open and closed.
    """
    values, what, low, high = _gripper_values(columns, source, episodes)
    signal = _scaled(values, source, episodes)
    if np.ptp(values) == 0:
        raise PosaError(
            f"{what} is {values[0]:.4g} in all {len(values)} frames: the gripper never moves, or the rig takes another "
            f"number for it; correct the rig's gripper, or for tasks without a grasp {OTHER_DETECTORS}"
        )
    if signal.min() > source.thresholds.open_below or signal.max() < source.thresholds.close_above:
        raise PosaError(
            f"{what} runs from {values.min():.4g} to {values.max():.4g}, but the rig says {low:g} is open and {high:g} "
            "is closed, so it never changes between the two: correct open and closed, the index or the thresholds"
        )
    least, most = np.percentile((values - low) / (high - low), (1, 99))  # a spike is none of the rig's faults
    if least < -FAR_BEYOND or most > 1 + FAR_BEYOND:
        raise PosaError(
            f"{what} runs from {values.min():.4g} to {values.max():.4g}, but the rig says {low:g} is open and {high:g} "
            "is closed, as if they were in another unit: give the values that are recorded"
        )
    return signal


def unchecked_gripper_signal(
    columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]
) -> np.ndarray:
    """`gripper_signal` for those who look at what it would refuse."""
    return _scaled(_gripper_values(columns, source, episodes)[0], source, episodes)


def _gripper_values(
    columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]
) -> tuple[np.ndarray, str, float, float]:
    """Recorded numbers (N,), what they are, and what they read open and closed."""
    if source.command is not None:
        command = source.command
        what = f"the gripper command {command.column}[{command.index}]"
        values = columns[command.column][:, command.index].astype(np.float64)
        refuse_rows(~np.isfinite(values), episodes, f"{what} is NaN or infinite")
        return values, what, command.open, command.closed
    width = finger_width(columns, source, episodes)
    assert width is not None and source.width is not None  # GripperSource wants one of the two
    return width, f"the finger width in {source.width.column}", source.width.open, 0.0


def _scaled(values: np.ndarray, source: GripperSource, episodes: list[EpisodeRows]) -> np.ndarray:
    """The numbers of `_gripper_values` (N,) as a signal, 0 open … 1 closed."""
    if source.command is not None:
        command = source.command
        return (values - command.open) / (command.closed - command.open)
    assert source.width is not None
    opened = source.width.open
    return np.concatenate([finger_signal(values[item.rows], opened, source.thresholds) for item in episodes])


def finger_width(
    columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]
) -> np.ndarray | None:
    """(N,), metres between the fingers, or None where the rig measures none."""
    if source.width is None:
        return None
    width = np.abs(columns[source.width.column][:, list(source.width.indices)].astype(np.float64)).sum(axis=1)
    refuse_rows(~np.isfinite(width), episodes, f"the finger width in {source.width.column} is NaN or infinite")
    return width


def check_width(width: np.ndarray, source: GripperWidth) -> None:
    """An error where the fingers (N,) are measured much wider than the rig says they open."""
    if np.percentile(width, 99) > WIDEST * source.open:
        raise PosaError(
            f"the finger width in {source.column} goes up to {width.max():.4g}, but the rig says {source.open:g} m is "
            "open: correct open or the indices, or divide the column by 1000 if it is in millimetres"
        )


def contact_column(features: Mapping[str, Any], config: ContactConfig) -> str:
    """The column of the contact signal.

    Raises:
        PosaError: the dataset lacks it, or some of the numbers asked for; names the columns that might be meant.
    """
    key = config.column or CONTACT
    if key not in features:
        likely = likely_contacts(features)
        hint = f"perhaps {', '.join(likely)} is meant" if likely else f"its columns are {', '.join(features)}"
        raise PosaError(
            f"the contact detector reads the column {key!r}, which the dataset lacks: {hint}; say "
            "--contact.column=NAME (and --contact.indices=[…] for some of its numbers), or leave contact out "
            "of --detectors"
        )
    size = int(np.prod(features[key]["shape"]))
    if config.indices is not None and not 0 <= min(config.indices) <= max(config.indices) < size:
        raise PosaError(f"contact.indices are {list(config.indices)}, but {key} has {size} numbers, 0 to {size - 1}")
    return key


def likely_contacts(features: Mapping[str, Any]) -> list[str]:
    """Columns, or numbers of columns, whose names speak of forces."""
    found = []
    for key, item in features.items():
        if item["dtype"] in ("video", "image", "string"):
            continue
        if any(word in key.lower() for word in CONTACT_WORDS):
            found.append(key)
            continue
        names = feature_names(item)
        parts = [i for i, name in enumerate(names) if any(word in name.lower() for word in CONTACT_WORDS)]
        if parts:
            found.append(f"{key}{parts} ({', '.join(names[i] for i in parts)})")
    return found


def contact_values(
    columns: Mapping[str, np.ndarray], key: str, config: ContactConfig, episodes: list[EpisodeRows]
) -> np.ndarray:
    """The contact signal's numbers, (N, D)."""
    values = columns[key].astype(np.float64)
    values = values if config.indices is None else values[:, list(config.indices)]
    refuse_rows(~np.isfinite(values).all(axis=1), episodes, f"the contact signal in {key} is NaN or infinite")
    return values
