"""``posa-vla bench inspect``: mistakes planted in a recorded dataset, and how many the inspection finds.

The episodes are taken in groups, each inspected as if it were a dataset of its own: as it is (false alarms), then
with each mistake in its numbers, its images or the rig.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import draccus
import numpy as np

from posa_vla.contract import ACTION, EE_POSE
from posa_vla.data.label_episodes import split_episodes
from posa_vla.data.label_features import check_features
from posa_vla.data.labelling import DatasetArgs
from posa_vla.data.tables import read_columns, read_info
from posa_vla.errors import PosaError
from posa_vla.inspection.checks import Check
from posa_vla.inspection.command import judge
from posa_vla.inspection.frames import FrameReader
from posa_vla.inspection.subject import source_columns, subject_of
from posa_vla.rigs import PoseSource, Rig, load_rig

Columns = dict[str, np.ndarray]


@dataclass
class InspectBenchmarkConfig:
    """posa-vla bench inspect: planted mistakes, how many are found, and false alarms on the data as it is.

    Args:
        dataset: a recording of the tabletop suite, without mistakes and without labels.
        group: episodes that are inspected together.
    """

    dataset: DatasetArgs = field(default_factory=DatasetArgs)
    group: int = 4


@dataclass(frozen=True)
class Mistake:
    """One planted mistake.

    Args:
        name: what is wrong.
        words: one of them is in the cause that explains it; empty where none of the usual mistakes does.
        columns: makes it in the tables' numbers.
        images: makes it in images (n, H, W, 3).
        rig: makes it in the rig.
        look: whether a verdict of "look" is found too.
    """

    name: str
    words: tuple[str, ...]
    columns: Callable[[Columns], Columns] = lambda columns: columns
    images: Callable[[np.ndarray], np.ndarray] = lambda images: images
    rig: Callable[[Rig], Rig] = lambda rig: rig
    look: bool = False


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=InspectBenchmarkConfig, args=argv)
    if config.group < 1:
        raise PosaError(f"expected --group of at least 1, got {config.group}")
    groups = list(read_groups(config))
    print(f"{len(groups)} groups of {config.group} episodes\n\n| mistake | found | explained |\n|---|---|---|")
    verdicts = [judged(group, NOTHING) for group in groups]
    for verdict in ("wrong", "look"):
        alarms = [check for checks in verdicts for check in checks if check.verdict == verdict]
        names = ", ".join(sorted({check.name for check in alarms}))
        alarmed = sum(any(check.verdict == verdict for check in checks) for checks in verdicts)
        print(f"| none, verdict “{verdict}”{f' ({names})' if names else ''} | {alarmed} of {len(groups)} | |")
    for mistake in MISTAKES:
        answers = [answer(judged(group, mistake), mistake) for group in groups]
        found, explained = (sum(flags) for flags in zip(*answers, strict=True))
        told = f"{explained} of {len(groups)}" if mistake.words else "–"
        print(f"| {mistake.name} | {found} of {len(groups)} | {told} |", flush=True)
    return 0


@dataclass(frozen=True)
class Group:
    """Some episodes as a dataset of their own: columns (n, numbers), images by camera (n, H, W, 3)."""

    source: DatasetArgs
    columns: Columns
    images: dict[str, np.ndarray]

    def read(self, camera: str, rows: np.ndarray) -> np.ndarray:
        """As `FrameReader.read`."""
        return self.images[camera][rows]


def read_groups(config: InspectBenchmarkConfig) -> Iterator[Group]:
    """Whole groups only: episodes that are left over at the end are left out."""
    root, rig = config.dataset.folder(), load_rig("tabletop")
    info = read_info(root)
    check_features(info["features"], rig)
    columns, reader = read_columns(root, list(dict.fromkeys(source_columns(rig)))), FrameReader(root)
    episodes = split_episodes(columns, info)
    if len(episodes) < config.group:
        raise PosaError(f"expected at least {config.group} episodes in {root}, found {len(episodes)}")
    for last in range(config.group - 1, len(episodes), config.group):
        rows = np.arange(episodes[last - config.group + 1].rows.start, episodes[last].rows.stop)
        images = {camera: reader.read(camera, rows) for camera in rig.camera_names}
        yield Group(config.dataset, {key: values[rows] for key, values in columns.items()}, images)


def judged(group: Group, mistake: Mistake) -> list[Check]:
    """Every check of a group with a mistake in it."""
    root = group.source.folder()
    columns = mistake.columns({key: values.copy() for key, values in group.columns.items()})
    info = {**read_info(root), "total_frames": len(columns[EE_POSE])}
    subject = subject_of(root, info, mistake.rig(load_rig("tabletop")), columns, stored=False)
    changed = replace(group, images={camera: mistake.images(images) for camera, images in group.images.items()})
    return judge(subject, changed, len(subject.episodes)).checks


def answer(checks: Sequence[Check], mistake: Mistake) -> tuple[bool, bool]:
    """Whether the mistake was found, and explained."""
    alarms = [check for check in checks if check.verdict == "wrong" or (mistake.look and check.verdict == "look")]
    return bool(alarms), any(word in check.cause for check in alarms for word in mistake.words)


def millimetres(columns: Columns) -> Columns:
    columns[EE_POSE][:, :3] *= 1000
    return columns


def other_quaternion(columns: Columns) -> Columns:
    columns[EE_POSE][:, 3:] = np.roll(columns[EE_POSE][:, 3:], -1, axis=1)  # w, x, y, z -> x, y, z, w
    return columns


def dead_gripper(columns: Columns) -> Columns:
    columns[ACTION][:, 6] = -1
    return columns


def late(frames: int) -> Callable[[Columns], Columns]:
    """Each image is kept with what the robot did so many frames later; negative: earlier."""

    def change(columns: Columns) -> Columns:
        number = columns["episode_index"][:, 0]
        for episode in np.unique(number):
            rows = np.flatnonzero(number == episode)
            moved = rows[np.clip(np.arange(len(rows)) + frames, 0, len(rows) - 1)]
            for key in set(columns) - {"episode_index", "frame_index", "task_index"}:
                columns[key][rows] = columns[key][moved]
        return columns

    return change


def moved_world(degrees: float = 0, offset: tuple[float, float, float] = (0, 0, 0)) -> Callable[[Columns], Columns]:
    """Poses in another world frame than the calibration's: turned about z, then shifted by metres."""

    def change(columns: Columns) -> Columns:
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        pose = columns[EE_POSE].astype(np.float64)
        w, x, y, z = pose[:, 3:].T
        c, s = np.cos(angle / 2), np.sin(angle / 2)
        turned = np.stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], axis=1)
        columns[EE_POSE] = np.concatenate([pose[:, :3] @ turn.T + offset, turned], axis=1)
        return columns

    return change


def other_matrix(camera: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Rig], Rig]:
    def changed(rig: Rig) -> Rig:
        cameras = [
            replace(one, cam_from_mount=change(one.cam_from_mount)) if one.name == camera else one
            for one in rig.cameras
        ]
        return replace(rig, cameras=tuple(cameras))

    return changed


def inverted(matrix: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(matrix)
    inverse[3] = (0, 0, 0, 1)
    return inverse


def opengl(matrix: np.ndarray) -> np.ndarray:
    return np.diag([1.0, -1, -1, 1]) @ matrix


def misread(rig: Rig) -> Rig:
    """Pose and rotation are found in the first numbers, in x, y, z, w order."""
    assert isinstance(rig.pose, PoseSource)
    return replace(rig, pose=replace(rig.pose, rotation_format="quaternion_xyzw"))


NOTHING = Mistake("none", ())
MISTAKES = (
    Mistake("images mirrored left-right", ("mirrored left-right",), images=lambda images: images[:, :, ::-1]),
    Mistake("images upside down (half a turn)", ("mirrored both ways",), images=lambda images: images[:, ::-1, ::-1]),
    Mistake("images mirrored top-bottom", ("mirrored top-bottom",), images=lambda images: images[:, ::-1]),
    Mistake("quaternions x, y, z, w in the dataset", ("quaternion is xyzw",), columns=other_quaternion),
    Mistake("quaternions x, y, z, w in the rig", ("quaternion is wxyz",), rig=misread),
    Mistake("positions in millimetres", ("millimetres",), columns=millimetres),
    Mistake("head: mount_from_cam", ("inverted",), rig=other_matrix("head", inverted)),
    Mistake("wrist: mount_from_cam", ("inverted",), rig=other_matrix("wrist", inverted)),
    Mistake("head: OpenGL's axes", ("not OpenCV's",), rig=other_matrix("head", opengl)),
    Mistake("wrist: OpenGL's axes", ("not OpenCV's",), rig=other_matrix("wrist", opengl)),
    Mistake("images 1 frame (0.05 s) late", ("late",), columns=late(1), look=True),
    Mistake("images 2 frames late", ("late",), columns=late(2)),
    Mistake("images 3 frames late", ("late",), columns=late(3)),
    Mistake("images 5 frames late", ("late",), columns=late(5)),
    Mistake("images 3 frames early", ("early",), columns=late(-3)),
    Mistake("world turned by 90° about z", ("world turned",), columns=moved_world(90)),
    Mistake("world turned by 180° about z", ("world turned",), columns=moved_world(180)),
    Mistake("world shifted by 20 cm along x", (), columns=moved_world(offset=(0.2, 0, 0))),
    Mistake("world shifted by 10 cm along x", (), columns=moved_world(offset=(0.1, 0, 0))),
    Mistake("world shifted by 5 cm along x", (), columns=moved_world(offset=(0.05, 0, 0))),
    Mistake("gripper command never changes", ("never moves",), columns=dead_gripper),
)
