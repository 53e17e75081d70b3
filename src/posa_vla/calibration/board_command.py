"""``posa-vla calibrate board``: one camera of a rig from pictures of a board and the hand's pose at each."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import draccus
import numpy as np

from posa_vla.calibration.board import BoardCalibration, calibrate_board
from posa_vla.calibration.board_inputs import find_pictures, read_board_poses
from posa_vla.calibration.boards import Board, parse_board, read_views
from posa_vla.calibration.demos_command import MOUNTS
from posa_vla.calibration.handeye import PoseNoise
from posa_vla.calibration.rigfile import GripperArgs, PoseArgs, open_rig
from posa_vla.errors import PosaError, unknown_name

DISTORTION_WORTH_A_WARNING = 1.0
"""Pixels."""


@dataclass
class BoardConfig:
    """posa-vla calibrate board: lens and place of a camera from pictures of a board.

    Args:
        images: folder of pictures, or a pattern such as "shots/*.png"; taken with the arm at rest.
        poses: CSV or parquet with the columns x, y, z (m) and qw, qx, qy, qz or rx, ry, rz (rad), world_from_ee of the
            very frame that the dataset's pose has (flange, tool or link: nothing notices another one), or, where the
            rig's pose comes from joints, with a column for each of its joints; a row for each picture in the order of
            their names, or with a column image.
        board: charuco:7x5:30mm:22mm:5x5_100 (squares, side, marker, dictionary) or chessboard:9x6:25mm (inner
            corners, side).
        mount: world (default; the board is on the hand) or end_effector (the board rests in the world).
        rig: rig file to update or, with --pose.* and, if there is one, --gripper.*, to create.
        camera: its name in the dataset, observation.images.NAME.
        pose: of a new rig: where the dataset's EE pose is, in the frame of the poses above.
        gripper: of a new rig: where the dataset's gripper command is; left out on a robot without a gripper.
        pose_sigma: expected errors of the recorded poses, metres and degrees; by default 0.002 and 0.3.
        flip_horizontal: the dataset stores its pictures mirrored left-right against these.
        flip_vertical: the dataset stores its pictures mirrored top-bottom.
    """

    images: str | None = None
    poses: Path | None = None
    board: str | None = None
    mount: str = "world"
    rig: Path | None = None
    camera: str | None = None
    pose: PoseArgs = field(default_factory=PoseArgs)
    gripper: GripperArgs = field(default_factory=GripperArgs)
    pose_sigma: tuple[float, float] = (0.002, 0.3)
    flip_horizontal: bool = False
    flip_vertical: bool = False


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=BoardConfig, args=argv)
    if not (config.images and config.poses and config.board and config.rig and config.camera):
        missing = next(name for name in ("images", "poses", "board", "rig", "camera") if not getattr(config, name))
        raise PosaError(f"--{missing}=... is missing")
    if config.mount not in MOUNTS:
        raise unknown_name("mount", config.mount, MOUNTS)
    if not all(0 < sigma < np.inf for sigma in config.pose_sigma):
        raise PosaError(f"--pose_sigma: expected metres and degrees above 0, got {config.pose_sigma}")
    board = parse_board(config.board)
    rig = open_rig(config.rig, config.pose, config.gripper)
    pictures = find_pictures(config.images)
    poses = read_board_poses(config.poses, pictures, rig.rig.pose)
    views, size = read_views(board, pictures)
    noise = PoseNoise(config.pose_sigma[0], float(np.radians(config.pose_sigma[1])))
    result = calibrate_board(views, size, poses, config.mount, noise)  # type: ignore[arg-type]
    flips = (config.flip_horizontal, config.flip_vertical)
    rig.with_camera(result.camera(config.camera, size, config.mount, flips), remark(result))  # type: ignore[arg-type]
    print(summary(result))
    left_out = [path.name for path, keep in zip(pictures, result.used, strict=True) if not keep]
    if left_out:
        missed = sum(view is None for view in views)
        print(
            f"warning: {len(left_out)} pictures were left out ({missed} without a board, {len(left_out) - missed} that "
            f"disagree): {', '.join(left_out)}",
            file=sys.stderr,
        )
    if result.is_scaled:
        print(scale_warning(result, board), file=sys.stderr)
    if result.reach > DISTORTION_WORTH_A_WARNING:
        print(distortion_warning(result), file=sys.stderr)
    print(f"rig: {rig.changed(config.camera)}")
    return 0


def remark(result: BoardCalibration) -> str:
    return (
        f"from {int(result.used.sum())} board views (posa-vla calibrate board), {result.reprojection:.2f} px, "
        f"{1000 * np.median(result.metres):.1f} mm and {np.median(result.degrees):.2f} degrees left one out"
    )


def summary(result: BoardCalibration) -> str:
    k, sigma = result.chain.matrix, 1000 * result.sigma_metres
    place = -result.chain.first[:3, :3].T @ result.chain.first[:3, 3]
    position = ", ".join(f"{x:.4f} ± {s / 1000:.4f}" for x, s in zip(place, sigma, strict=True))
    return "\n".join(
        [
            f"{int(result.used.sum())} of {len(result.used)} pictures, reprojection {result.reprojection:.2f} px rms",
            f"left one out: {1000 * np.median(result.metres):.1f} mm and {np.median(result.degrees):.2f} degrees "
            f"median, {1000 * result.metres.max():.1f} mm and {result.degrees.max():.2f} degrees at most (the recorded "
            "pose's own error included)",
            f"fx {k[0, 0]:.2f}, fy {k[1, 1]:.2f} ± {result.sigma_focal:.2f}, cx {k[0, 2]:.2f}, cy {k[1, 2]:.2f} px",
            "distortion k1, k2, p1, p2: " + ", ".join(f"{x:.5f}" for x in result.chain.distortion),
            f"position in the mount's frame: {position} m; orientation ± {result.sigma_degrees:.2f} degrees",
        ]
    )


def scale_warning(result: BoardCalibration, board: Board) -> str:
    side, sigma = 1000 * board.square * result.scale, 1000 * board.square * result.sigma_scale
    return (
        f"warning: by the hand's own motion the board's squares are {side:.2f} ± {sigma:.2f} mm, not "
        f"{1000 * board.square:g} mm: measure them as printed and correct --board, or the poses' unit"
    )


def distortion_warning(result: BoardCalibration) -> str:
    return (
        f"warning: the lens moves points of the picture by up to {result.reach:.1f} px against a pinhole, and a rig "
        "knows only pinholes: undistort the dataset's pictures with this matrix and these coefficients "
        "(cv2.undistort), or accept this error at the picture's edges"
    )
