"""``posa-vla calibrate mark``: one HTML page with frames of a dataset, in which the user clicks; no server."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import draccus
import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.calibration.demos_command import MOUNTS
from posa_vla.calibration.pages import picture_uri, render
from posa_vla.calibration.poses import EpisodePoses, image_size, read_poses
from posa_vla.calibration.rigfile import GripperArgs, PoseArgs, open_rig
from posa_vla.data.files import write_bytes
from posa_vla.data.labelling import DatasetArgs
from posa_vla.errors import PosaError, unknown_name
from posa_vla.inspection.frames import FrameReader

FRAMES_PER_EPISODE = 8
"""Of a camera on the hand: one resting point is marked in so many frames of its episode."""
EARLY = 0.6
"""Share of an episode from which those frames come: later the hand has moved the object."""
RADIAN = 0.15
"""Metres that a radian counts for where frames are chosen to differ in the hand's pose."""
CANDIDATES = 5000


@dataclass
class MarkConfig:
    """posa-vla calibrate mark: write a page in which to click pixels and save them as a CSV.

    Args:
        dataset: the LeRobotDataset.
        camera: its name in the dataset, observation.images.NAME.
        mount: world (click the hand) or end_effector (click a point that rests in the world).
        rig: rig file that says where the EE pose is; or --pose.* as for `calibrate demos`.
        pose: where the EE pose is, without a rig file.
        frames: how many frames to show; they are chosen to differ in the hand's pose.
        output: the page.
    """

    dataset: DatasetArgs = field(default_factory=DatasetArgs)
    camera: str = "head"
    mount: str = "world"
    rig: Path | None = None
    pose: PoseArgs = field(default_factory=PoseArgs)
    frames: int = 48
    output: Path = Path("marks.html")


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=MarkConfig, args=argv)
    if config.mount not in MOUNTS:
        raise unknown_name("mount", config.mount, MOUNTS)
    if config.frames < 1:
        raise PosaError(f"expected at least one frame to mark, got --frames={config.frames}")
    root = config.dataset.folder()
    gripper = GripperArgs() if config.pose.column is None else GripperArgs(column="unused")
    rig = open_rig(config.rig or Path("unwritten.yaml"), config.pose, gripper).rig
    size = image_size(root, config.camera)
    poses = read_poses(root, rig)
    choose = spread_rows if config.mount == "world" else resting_rows
    rows = choose(poses, config.frames)
    write_page(config.output, root, config.camera, config.mount, size, poses, rows)
    print(f"open {config.output} in a browser, click in {len(rows)} frames, save marks.csv")
    return 0


def spread_rows(poses: EpisodePoses, count: int) -> np.ndarray:
    """(count,) ascending rows whose hand positions lie as far apart as can be."""
    total = len(poses.world_from_ee)
    rows = np.unique(np.linspace(0, total - 1, min(total, CANDIDATES)).astype(int))
    return np.sort(rows[farthest(poses.world_from_ee[rows, :3, 3], count)])


def resting_rows(poses: EpisodePoses, count: int) -> np.ndarray:
    """Ascending rows: for some episodes, early frames that differ most in the hand's position and rotation."""
    wanted = min(len(poses.episodes), max(1, round(count / FRAMES_PER_EPISODE)))
    chosen = []
    for index in np.unique(np.linspace(0, len(poses.episodes) - 1, wanted).astype(int)):
        rows = np.arange(poses.episodes[index].rows.start, poses.episodes[index].rows.stop)
        rows = rows[: max(1, round(EARLY * len(rows)))]
        turns = Rotation.from_matrix(poses.world_from_ee[rows, :3, :3])
        vectors = (turns[0].inv() * turns).as_rotvec()
        features = np.concatenate([poses.world_from_ee[rows, :3, 3], RADIAN * vectors], axis=1)
        chosen.append(np.sort(rows[farthest(features, FRAMES_PER_EPISODE)]))
    return np.concatenate(chosen)


def farthest(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to ``count`` of the points (N, D), each the farthest from those chosen before it."""
    chosen = [int(np.argmax(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)) and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def write_page(
    path: Path, root: Path, camera: str, mount: str, size: tuple[int, int], poses: EpisodePoses, rows: np.ndarray
) -> None:
    images = FrameReader(root).read(camera, rows)
    frames: list[dict[str, Any]] = []
    for row, image in zip(rows, images, strict=True):
        episode = next(item for item in poses.episodes if row < item.rows.stop)
        frame = int(row) - episode.rows.start
        frames.append({"episode": episode.number, "frame": frame, "image": picture_uri(image, quality=92)})
    page = render("mark.html", camera=camera, mount=mount, width=size[0], height=size[1], frames=frames)
    try:
        write_bytes(path, page.encode())
    except OSError as error:
        raise PosaError(f"cannot write the page {path}: {error}") from error
