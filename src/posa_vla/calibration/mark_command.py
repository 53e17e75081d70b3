"""``posa-vla calibrate mark``: one HTML page with frames of a dataset, in which the user clicks; no server."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import draccus
import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.calibration.clicks import MARKS_ARE, fingertips, in_hand
from posa_vla.calibration.closes import read_closes
from posa_vla.calibration.demos_command import MOUNTS, check_mount
from posa_vla.calibration.poses import EpisodePoses, image_size, read_poses
from posa_vla.calibration.rigfile import GripperArgs, PoseArgs, open_rig
from posa_vla.data.files import write_bytes
from posa_vla.data.labelling import DatasetArgs
from posa_vla.errors import PosaError, unknown_name
from posa_vla.inspection.frames import FrameReader
from posa_vla.pages import picture_uri, render

FRAMES_PER_EPISODE = 8
"""Of a camera on the hand: one resting point is marked in so many frames of its episode."""
EARLY = 0.6
"""Share of an episode from which those frames come: later the hand has moved the object."""
RADIAN = 0.15
"""Metres that a radian counts for where frames are chosen to differ in the hand's pose."""
CANDIDATES = 5000
FRAMES, GRASP_FRAMES = 48, 120
"""Of the latter many show no object: where the camera looks is not known yet."""
ENOUGH_GRASPS = 40
NEAREST_GRASP = 0.04
"""Metres before a grasp: nearer, the fingers hide it."""
VIEW = 45.0
"""Degrees: what lies further from where grasps mostly lie, seen from the hand, is hardly in the picture."""
NEAR_AND_FAR = 0.03
"""Metres from the grasp above which frames differ by the ratio of their distances, and below by the difference."""


@dataclass
class MarkConfig:
    """posa-vla calibrate mark: write a page in which to click pixels and save them as a CSV.

    Args:
        dataset: the LeRobotDataset.
        camera: its name in the dataset, observation.images.NAME; by default head.
        mount: world (default; click the hand) or end_effector.
        marks_are: mount end_effector: grasp (default; click where the gripper will close) or resting (click a point
            that rests in the world).
        rig: rig file that says where EE pose and gripper are; or --pose.* and --gripper.* as for `calibrate demos`.
        pose: where the EE pose is (without a rig file).
        gripper: where the gripper command is, without a rig file (grasp only).
        frames: how many frames to show; they are chosen to differ in the hand's pose. None: 48, or 120 before grasps,
            of which those with the object in view are marked, 40 in all.
        output: the page; by default marks.html.
    """

    dataset: DatasetArgs = field(default_factory=DatasetArgs)
    camera: str = "head"
    mount: str = "world"
    marks_are: str = "grasp"
    rig: Path | None = None
    pose: PoseArgs = field(default_factory=PoseArgs)
    gripper: GripperArgs = field(default_factory=GripperArgs)
    frames: int | None = None
    output: Path = Path("marks.html")


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=MarkConfig, args=argv)
    if config.mount not in MOUNTS:
        raise unknown_name("mount", config.mount, MOUNTS)
    if config.marks_are not in MARKS_ARE:
        raise unknown_name("meaning of the marks", config.marks_are, MARKS_ARE)
    if config.frames is not None and config.frames < 1:
        raise PosaError(f"expected at least one frame to mark, got --frames={config.frames}")
    if config.rig is None and config.pose.column is None:
        raise PosaError("--rig=FILE.yaml or --pose.column=COLUMN is missing: say where the dataset has the EE pose")
    root = config.dataset.folder()
    clicked = "hand" if config.mount == "world" else config.marks_are
    rig = open_rig(config.rig or Path("unwritten.yaml"), config.pose, config.gripper).rig
    check_mount(config.mount, rig)
    size = image_size(root, config.camera)
    poses = read_poses(root, rig)
    closes = read_closes(root, rig, poses) if clicked == "grasp" else None
    if closes is not None:
        rows = grasp_rows(poses, closes, rig.pose.tool, config.frames or GRASP_FRAMES)
    else:
        rows = (spread_rows if clicked == "hand" else resting_rows)(poses, config.frames or FRAMES)
    write_page(config.output, root, config.camera, clicked, size, poses, rows, closes)
    count = min(ENOUGH_GRASPS, len(rows)) if clicked == "grasp" else len(rows)
    print(
        f"open {config.output} in a browser, click in {count} of its {len(rows)} frames, save marks-{config.camera}.csv"
    )
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


def grasp_rows(poses: EpisodePoses, closes: np.ndarray, tool: tuple[float, ...], count: int) -> np.ndarray:
    """Rows before a grasp, from near and far and from all sides, in an order whose every beginning is spread.

    Args:
        closes: (all rows,) of `read_closes`.
        tool: (3,) m in the EE frame, the point between the fingertips.
    """
    rows = np.flatnonzero(closes >= 0)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), CANDIDATES)).astype(int))]
    tip = np.asarray(tool, dtype=np.float64)
    grasps = in_hand(poses.world_from_ee[rows], fingertips(poses.world_from_ee[closes[rows]], tool)) - tip
    distance = np.linalg.norm(grasps, axis=1)
    far = distance >= NEAREST_GRASP
    if not far.any():
        raise PosaError(
            f"the hand is never farther than {100 * distance.max():.1f} cm from where it grasps next: the episodes "
            "must begin earlier, or mark points that rest in the world (--marks_are=resting)"
        )
    rows, directions, distance = rows[far], grasps[far] / distance[far, None], distance[far]
    middle = np.median(grasps[far], axis=0)
    towards = directions @ middle / max(float(np.linalg.norm(middle)), 1e-9)
    in_view = towards >= min(np.cos(np.radians(VIEW)), np.median(towards))
    features = directions * np.log1p(distance / NEAR_AND_FAR)[:, None]
    return rows[in_view][farthest(features[in_view], count)]


def farthest(points: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to ``count`` of the points (N, D), each the farthest from those chosen before it."""
    chosen = [int(np.argmax(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)) and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def write_page(
    path: Path,
    root: Path,
    camera: str,
    clicked: str,
    size: tuple[int, int],
    poses: EpisodePoses,
    rows: np.ndarray,
    closes: np.ndarray | None,
) -> None:
    """The page for the chosen rows; with ``closes`` each shows beside it the frame in which the gripper closes."""
    images = FrameReader(root).read(camera, rows)
    frames: list[dict[str, Any]] = []
    grasps = np.unique(closes[rows]) if closes is not None else np.empty(0, int)
    for row, image in zip(rows, images, strict=True):
        episode = poses.episode_of(row)
        frame = int(row) - episode.rows.start
        frames.append({"episode": episode.number, "frame": frame, "image": picture_uri(image, quality=92)})
        if closes is not None:
            grasp = int(np.searchsorted(grasps, closes[row]))
            frames[-1] |= {"grasp": grasp, "until": int(closes[row] - row)}
    closing = [picture_uri(image) for image in FrameReader(root).read(camera, grasps)] if len(grasps) else []
    page = render(
        "mark.html", camera=camera, clicked=clicked, width=size[0], height=size[1], frames=frames, closing=closing
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, page.encode())
    except OSError as error:
        raise PosaError(f"cannot write the page {path}: {error}") from error
