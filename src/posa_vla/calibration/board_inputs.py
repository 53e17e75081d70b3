"""Pictures of a board and the hand's pose at each: found, read, paired."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from posa_vla.anchors.pose import RotationFormat, world_from_ee
from posa_vla.data.label_poses import FARTHEST_POSITION, UNIT_TOLERANCE
from posa_vla.errors import PosaError
from posa_vla.rigs import JointSource, PoseSource

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
POSITION = ("x", "y", "z")
ROTATIONS: dict[tuple[str, ...], RotationFormat] = {
    ("qw", "qx", "qy", "qz"): "quaternion_wxyz",
    ("rx", "ry", "rz"): "axis_angle",
}
"""Columns of the rotation; their names, not their order, say which number is which."""


def find_pictures(pattern: str) -> list[Path]:
    """Pictures of a folder, or of a glob pattern, by name."""
    path = Path(pattern)
    if path.is_dir():
        found = [item for item in path.iterdir() if item.suffix.lower() in PICTURES]
    else:
        found = [item for item in path.parent.glob(path.name) if item.is_file()] if path.parent.is_dir() else []
    if not found:
        raise PosaError(f"--images={pattern}: expected a folder or a pattern with pictures, found none")
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbers in a name count as numbers: shot_2 comes before shot_10, and shot_02 before shot_2."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def read_board_poses(path: Path, pictures: list[Path], source: PoseSource | JointSource | None = None) -> np.ndarray:
    """world_from_ee (V, 4, 4) of each picture, from a CSV or parquet file.

    Columns: x, y, z (m) and qw, qx, qy, qz or rx, ry, rz (rad), of the frame that the dataset's pose has; where the
    rig's ``source`` is joints, its joints' names instead, as the dataset records them. Rows in the order of the
    pictures' names, or a column ``image`` with the name of each.
    """
    table = _read(path)
    found = set(table.column_names)
    rotation = next((names for names in ROTATIONS if {*POSITION, *names} <= found), None)
    pose = {*POSITION, *rotation} if rotation else set()
    if isinstance(source, JointSource) and set(source.names) <= found - pose:  # x, y, z may be a gantry's joints
        return _poses_from_joints(path, _numbers(path, table, source.names)[_pairing(path, table, pictures)], source)
    if rotation is None:
        joints = f", or the rig's joints {', '.join(source.names)}" if isinstance(source, JointSource) else ""
        raise PosaError(
            f"{path}: expected the columns x, y, z (metres) and qw, qx, qy, qz or rx, ry, rz (radians){joints}, "
            f"found {', '.join(table.column_names)}"
        )
    poses = _numbers(path, table, (*POSITION, *rotation))[_pairing(path, table, pictures)]
    _check_numbers(path, poses, ROTATIONS[rotation])
    return world_from_ee(poses, ROTATIONS[rotation]).matrix


def _numbers(path: Path, table: pa.Table, names: tuple[str, ...]) -> np.ndarray:
    """(rows, names) of the table's columns."""
    try:
        return np.stack([np.asarray(table[name].to_numpy(), dtype=np.float64) for name in names], axis=1)
    except (ValueError, TypeError) as error:
        raise PosaError(f"{path} holds something else than numbers in its pose columns: {error}") from error


def _poses_from_joints(path: Path, values: np.ndarray, source: JointSource) -> np.ndarray:
    """world_from_ee (V, 4, 4) from joint values (V, J) as the dataset records them."""
    from posa_vla.rigs.kinematics import ForwardKinematics

    _check_complete(path, values)
    kinematics = ForwardKinematics(source)
    problem = kinematics.problem(values)
    if problem:
        raise PosaError(f"the joints in {path} are not those of the rig: {problem}")
    return kinematics.world_from_ee(values).matrix


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise PosaError(f"cannot read the poses {path}: {str(error).splitlines()[0]}") from error
    names = [name.strip() for name in table.column_names]  # "x, y, z" as people write it
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PosaError(f"{path} has {names.count(twice[0])} columns {twice[0]!r}: give each a name of its own")
    return table.rename_columns(names)


def _pairing(path: Path, table: pa.Table, pictures: list[Path]) -> np.ndarray:
    """(V,) the table's row of each picture."""
    if "image" not in table.column_names:
        if table.num_rows != len(pictures):
            raise PosaError(
                f"{path} holds {table.num_rows} poses for {len(pictures)} pictures: give one row for each picture in "
                "the order of their names, or add a column image with their names"
            )
        return np.arange(len(pictures))
    names = [Path(str(name).strip()).name for name in table["image"].to_pylist()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PosaError(f"{path} names the picture {twice[0]} in {names.count(twice[0])} rows: give each one pose")
    rows = {name: row for row, name in enumerate(names)}
    missing = [picture.name for picture in pictures if picture.name not in rows]
    if missing:
        raise PosaError(
            f"{path} has no pose for {missing[0]} ({len(missing)} of {len(pictures)} pictures in all): add the rows, "
            "or leave the pictures out"
        )
    return np.array([rows[picture.name] for picture in pictures])


def _check_complete(path: Path, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise PosaError(f"{path} holds NaN or empty cells: give a complete pose for each picture")


def _check_numbers(path: Path, poses: np.ndarray, form: RotationFormat) -> None:
    _check_complete(path, poses)
    if np.abs(poses[:, :3]).max() > FARTHEST_POSITION:
        raise PosaError(
            f"{path} has a position of {np.abs(poses[:, :3]).max():.0f}, as if it were in millimetres: expected metres"
        )
    norm = np.linalg.norm(poses[:, 3:], axis=1)
    if form == "axis_angle" and norm.max() > 2 * np.pi:
        raise PosaError(f"{path} has a rotation of {norm.max():.0f}, over one turn: expected radians")
    if form == "quaternion_wxyz" and np.abs(norm - 1).max() > UNIT_TOLERANCE:
        raise PosaError(f"{path} has a quaternion of length {norm[np.abs(norm - 1).argmax()]:.2f}, expected 1")
