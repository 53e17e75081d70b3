"""What labelling needs of a dataset: its columns, cameras and rows against the rig, and the numbers in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.anchors.contact import ContactConfig
from posa_vla.anchors.pose import Transform, world_from_ee
from posa_vla.contract import ANCHORS, CONTACT, OBS_IMAGES, STEPS_TO_INTERACTION, TASK_INDEX
from posa_vla.data.features import colour_cameras, feature_names, image_sides, other_images
from posa_vla.data.tasks import read_sentences
from posa_vla.errors import PosaError
from posa_vla.rigs import GripperSource, GripperWidth, JointSource, PoseSource, Rig
from posa_vla.rigs.scenes import choose_scene

FARTHEST_POSITION = 10.0
"""Metres. No arm reaches so far from its world frame: larger positions are millimetres."""
UNIT_TOLERANCE = 1e-2
EULER_WORDS = ("roll", "pitch", "yaw", "euler", "rpy")
"""Parts of the names of numbers that are angles about single axes."""
FAR_BEYOND = 2.0
"""How far past open or closed a command may go, in lengths of the way between them: -1 for a rig's 0 … 1, not 255."""
WIDEST = 1.5
"""How many times as wide as the rig's open the fingers may be measured; millimetres are 1,000 times as many."""
OTHER_DETECTORS = "use other detectors: posa-vla label --detectors=dwell, or contact,dwell where a force is recorded"
CONTACT_WORDS = ("contact", "touch", "tactile", "force", "effort", "torque", "wrench", "pressure", "current", "load")
"""Parts of the names of columns that may hold a contact signal."""


def check_features(features: Mapping[str, Any], rig: Rig, with_gripper: bool = True) -> None:
    """Columns, cameras and image sizes against the rig; the gripper's columns only where they are read."""
    for key in (ANCHORS, STEPS_TO_INTERACTION):
        if key in features:
            raise PosaError(f"the dataset has {key!r} already: label the dataset it was made from")
    check_columns(features, rig, with_gripper)

    recorded = colour_cameras(features)
    for name in recorded:
        if name not in rig.camera_names:
            raise PosaError(
                f"the rig {rig.name!r} has no camera {name!r}, which the dataset has: add its calibration "
                f"(the rig has {', '.join(rig.camera_names)})"
            )
    for camera in rig.cameras:
        if camera.name not in recorded:
            found = ", ".join(recorded) or "none"
            others = other_images(features)
            renamed = f", or rename {' and '.join(others)} to {OBS_IMAGES}.NAME in the dataset" if others else ""
            raise PosaError(
                f"the dataset has no {OBS_IMAGES}.{camera.name}, a camera of the rig {rig.name!r}: its cameras "
                f"are {found}; use the rig they were recorded with{renamed}"
            )
        _check_image_size(rig, camera.name, recorded[camera.name])


def check_columns(features: Mapping[str, Any], rig: Rig, with_gripper: bool = True) -> None:
    """The columns that the rig takes pose and gripper from, and how many numbers they hold."""
    meaning = "joints" if isinstance(rig.pose, JointSource) else "EE pose"
    needed = [(meaning, rig.pose.column, max(rig.pose.indices))]
    if rig.state_pose:
        needed.append(("EE pose in the state", rig.state_pose.column, max(rig.state_pose.indices)))
    if with_gripper and rig.gripper.command:
        needed.append(("gripper command", rig.gripper.command.column, rig.gripper.command.index))
    if with_gripper and rig.gripper.width:
        needed.append(("finger width", rig.gripper.width.column, max(rig.gripper.width.indices)))
    for meaning, key, index in needed:
        _check_vector(features, rig, meaning, key, index)


def _check_vector(features: Mapping[str, Any], rig: Rig, meaning: str, key: str, index: int) -> None:
    if key not in features:
        others = [name for name, item in features.items() if item["dtype"].startswith("float")]
        raise PosaError(
            f"the rig {rig.name!r} takes the {meaning} from the column {key!r}, which the dataset lacks: its "
            f"columns are {', '.join(others)}"
        )
    size = int(np.prod(features[key]["shape"]))
    if index >= size:
        raise PosaError(f"the rig {rig.name!r} takes the {meaning} from {key}[{index}], but {key} has {size} numbers")


def _check_image_size(rig: Rig, name: str, feature: Mapping[str, Any]) -> None:
    camera = rig.camera(name)
    height, width = image_sides(feature)
    same_shape = width * camera.height == height * camera.width
    if (width, height) != (camera.width, camera.height) and not (rig.any_image_size and same_shape):
        raise PosaError(
            f"camera {name!r} is calibrated for {camera.width}x{camera.height} images in the rig {rig.name!r}, "
            f"the dataset's are {width}x{height}: calibrate at that size, or scale the intrinsics to it"
        )


def check_sizes(columns: Mapping[str, np.ndarray], features: Mapping[str, Any]) -> None:
    """The tables hold as many numbers of each column (N, numbers per frame) as meta/info.json promises."""
    for key, values in columns.items():
        promised = int(np.prod(features[key]["shape"])) if key in features else values.shape[1]
        if values.shape[1] != promised:
            raise PosaError(
                f"meta/info.json promises {promised} numbers of {key} in each frame, the tables hold "
                f"{values.shape[1]}: correct the feature's shape there, or record the dataset again"
            )


def check_rotation_names(features: Mapping[str, Any], source: PoseSource | JointSource) -> None:
    """An error where three numbers that the rig takes as axis and angle are called roll, pitch, yaw or the like.

    Nothing else tells Euler angles from a rotation vector: both are three angles.
    """
    if not isinstance(source, PoseSource) or source.rotation_format != "axis_angle":
        return
    names = feature_names(features[source.column])
    chosen = [names[index] for index in source.rotation if index < len(names)]
    if any(word in name.lower() for name in chosen for word in EULER_WORDS):
        raise PosaError(
            f"the rig takes {', '.join(chosen)} of {source.column} as axis_angle, but they are named as Euler angles: "
            "give rotation_format: euler_xyz if they are radians about the fixed axes x, y, z, as in ROS; else add a "
            "column with quaternions (scipy's Rotation.from_euler), or rename them if they are axis times angle"
        )


@dataclass(frozen=True)
class EpisodeRows:
    """One episode's number and its rows in the tables."""

    number: int
    rows: slice


def split_episodes(columns: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> list[EpisodeRows]:
    """Runs of equal episode_index, each counting its frames from 0."""
    numbers, frames = columns["episode_index"][:, 0], columns["frame_index"][:, 0]
    if len(numbers) != info["total_frames"]:
        raise PosaError(
            f"meta/info.json promises {info['total_frames']} frames, the tables hold {len(numbers)}: the dataset "
            "is incomplete, copy or record it again"
        )
    starts = np.append(0, np.flatnonzero(np.diff(numbers)) + 1)
    stops = np.append(starts[1:], len(numbers))
    if len(np.unique(numbers)) != len(starts):
        raise PosaError("an episode's rows are not consecutive in the tables: the dataset is damaged")
    expected = np.arange(len(numbers)) - np.repeat(starts, stops - starts)
    if not np.array_equal(frames, expected):
        row = int(np.argmax(frames != expected))
        raise PosaError(
            f"episode {numbers[row]} has frame {frames[row]} where {expected[row]} was expected: the dataset is "
            "damaged, copy or record it again"
        )
    return [
        EpisodeRows(int(numbers[start]), slice(int(start), int(stop)))
        for start, stop in zip(starts, stops, strict=True)
    ]


def hand_poses(
    columns: Mapping[str, np.ndarray], source: PoseSource | JointSource, episodes: list[EpisodeRows]
) -> Transform:
    """world_from_ee of every row, (N, 4, 4); world_from_ee_position where the dataset has no rotation."""
    if isinstance(source, JointSource):
        return _poses_from_joints(columns, source, episodes)
    values = columns[source.column].astype(np.float64)
    position, rotation = values[:, list(source.position)], values[:, list(source.rotation)]
    poses = np.concatenate([position, rotation], axis=1)
    _refuse(~np.isfinite(poses).all(axis=1), episodes, f"{source.column} holds NaN or infinity")
    _refuse(
        (np.abs(position) > FARTHEST_POSITION).any(axis=1),
        episodes,
        f"{source.column} has a position more than {FARTHEST_POSITION:.0f} m away, as if it were in millimetres "
        "(expected metres)",
    )
    norm = np.linalg.norm(rotation, axis=1)
    if rotation.shape[1] == 3:
        turn = norm if source.rotation_format == "axis_angle" else np.abs(rotation).max(axis=1)
        _refuse(turn > 2 * np.pi, episodes, f"{source.column} has a rotation of over one turn (expected radians)")
        _refuse_four(values, source)
    elif source.has_rotation:
        _refuse(np.abs(norm - 1) > UNIT_TOLERANCE, episodes, f"{source.column} has a quaternion that is not unit")
    return world_from_ee(poses, source.rotation_format)


def _refuse_four(values: np.ndarray, source: PoseSource) -> None:
    """Three numbers that are a unit quaternion in every frame with the one beside them are no angles."""
    first, last = min(source.rotation), max(source.rotation)
    for start, other in ((first, last + 1), (first - 1, first - 1)):
        four = values[:, start : start + 4]
        beside = 0 <= other < values.shape[1] and other not in source.position
        if beside and four.shape[1] == 4 and (np.abs(np.linalg.norm(four, axis=1) - 1) < UNIT_TOLERANCE).all():
            raise PosaError(
                f"{source.column}[{start}] to [{start + 3}] are a unit quaternion in every frame, but the rig says "
                f"rotation_format: {source.rotation_format}: give quaternion_xyzw or quaternion_wxyz and all four "
                "indices"
            )


def _poses_from_joints(
    columns: Mapping[str, np.ndarray], source: JointSource, episodes: list[EpisodeRows]
) -> Transform:
    from posa_vla.rigs.kinematics import ForwardKinematics

    values = columns[source.column][:, list(source.indices)].astype(np.float64)
    _refuse(~np.isfinite(values).all(axis=1), episodes, f"{source.column} holds NaN or infinity")
    kinematics = ForwardKinematics(source)
    problem = kinematics.problem(values)
    if problem:
        raise PosaError(f"the joints in {source.column} do not fit the robot model: {problem}")
    return kinematics.world_from_ee(values)


def gripper_signal(columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]) -> np.ndarray:
    """(N,), 0 open … 1 closed: the command, or the measured width on a robot that records no command.

    Raises:
        PosaError: it never moves, or never passes between open and closed.
    """
    values, what, low, high = _gripper_values(columns, source, episodes)
    signal = (values - low) / (high - low)
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
    least, most = np.percentile(signal, (1, 99))  # a spike is none of the rig's faults
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
    values, _, low, high = _gripper_values(columns, source, episodes)
    return (values - low) / (high - low)


def _gripper_values(
    columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]
) -> tuple[np.ndarray, str, float, float]:
    """Recorded numbers (N,), what they are, and what they read open and closed."""
    if source.command is not None:
        command = source.command
        what = f"the gripper command {command.column}[{command.index}]"
        values = columns[command.column][:, command.index].astype(np.float64)
        _refuse(~np.isfinite(values), episodes, f"{what} is NaN or infinite")
        return values, what, command.open, command.closed
    width = finger_width(columns, source, episodes)
    assert width is not None and source.width is not None  # GripperSource wants one of the two
    return width, f"the finger width in {source.width.column}", source.width.open, 0.0


def finger_width(
    columns: Mapping[str, np.ndarray], source: GripperSource, episodes: list[EpisodeRows]
) -> np.ndarray | None:
    """(N,), metres between the fingers, or None where the rig measures none."""
    if source.width is None:
        return None
    width = np.abs(columns[source.width.column][:, list(source.width.indices)].astype(np.float64)).sum(axis=1)
    _refuse(~np.isfinite(width), episodes, f"the finger width in {source.width.column} is NaN or infinite")
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
    _refuse(~np.isfinite(values).all(axis=1), episodes, f"the contact signal in {key} is NaN or infinite")
    return values


def _refuse(bad: np.ndarray | np.bool, episodes: list[EpisodeRows], what: str) -> None:
    """Raises with the first bad row's episode and frame."""
    if not bad.any():
        return
    row = int(np.argmax(bad))
    episode = next(item for item in episodes if row < item.rows.stop)
    raise PosaError(
        f"{what} at episode {episode.number}, frame {row - episode.rows.start} ({int(bad.sum())} frames in all): "
        "repair or remove the episode, or correct the rig"
    )


def rig_of_each_episode(
    rig: Rig, root: Path, columns: Mapping[str, np.ndarray], episodes: list[EpisodeRows]
) -> list[Rig]:
    """The rig as it stands in each episode: by its sentences and number where the rig has scenes."""
    if not rig.scenes:
        return [rig] * len(episodes)
    sentences = read_sentences(root)
    placed = {name: rig.in_scene(name) for name in rig.scene_names}
    chosen = []
    for episode in episodes:
        numbers = np.unique(columns[TASK_INDEX][episode.rows])
        tasks = [sentences.get(int(number), f"task {number}") for number in numbers]
        chosen.append(placed[choose_scene(rig.scenes, tasks, episode.number, rig.name).name])
    return chosen
