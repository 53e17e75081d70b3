"""What the tests of `posa-vla label` share: a small dataset that grasps, its rig, and ways to change both."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from toy_dataset import TASKS, make_dataset

from posa_vla import contract
from posa_vla.rigs import Rig, parse_rig

TASK_SENTENCES = list(TASKS)
LOOK_DOWN = [[1.0, 0, 0, -0.4], [0, -1.0, 0, 0.4], [0, 0, -1.0, 1.5], [0, 0, 0, 1.0]]
ON_HAND = [[1.0, 0, 0, 0], [0, 1.0, 0, 0.05], [0, 0, 1.0, 0.1], [0, 0, 0, 1.0]]
INTRINSICS = {"width": 32, "height": 32, "fx": 30.0, "fy": 30.0, "cx": 15.5, "cy": 15.5}
RIG = {
    "name": "toy",
    "cameras": [
        {"name": "head", "mount": "world", "cam_from_mount": LOOK_DOWN, **INTRINSICS},
        {"name": "wrist", "mount": "end_effector", "cam_from_mount": ON_HAND, **INTRINSICS},
    ],
    "pose": {"column": contract.EE_POSE},
    "gripper": {
        "command": {"column": contract.ACTION, "index": 6, "open": -1.0, "closed": 1.0},
        "width": {"column": contract.STATE, "indices": [6, 7], "open": 0.08},
    },
}

HEAD, WRIST = RIG["cameras"]


def rig(**changes) -> Rig:
    return parse_rig({**RIG, **changes})


def edit(root: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Applies ``change`` to all columns as arrays and writes the table back, episodes as row groups."""
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    change(columns)
    arrays = [pa.array(columns[name].tolist(), type=table.schema.field(name).type) for name in table.column_names]
    table = pa.table(arrays, schema=table.schema)
    with pq.ParquetWriter(path, table.schema) as writer:
        for number in np.unique(columns["episode_index"]):
            writer.write_table(table.filter(pa.array(columns["episode_index"] == number)))


def close_in_the_middle(columns: dict[str, np.ndarray]) -> None:
    """Every episode closes at frame 6; the fingers stop at 3 cm; an episode with index 1 misses first."""
    late = columns["frame_index"] >= 6
    columns["action"][:, 6] = np.where(late, 1, -1)
    columns["observation.state"][:, 6:] = np.where(late, 0.015, 0.04)[:, None] * [1, -1]
    miss = (columns["episode_index"] == 1) & (columns["frame_index"] >= 1) & (columns["frame_index"] < 4)
    columns["action"][miss, 6] = 1
    columns["observation.state"][miss, 6:] = 0


def make_source(root: Path) -> Path:
    """A dataset of three episodes that each close once."""
    make_dataset(root, episodes=3, labelled=False)
    edit(root, close_in_the_middle)
    (root / "README.md").write_text("about")
    return root


def command_of(**source) -> dict:
    return {"command": {"column": contract.ACTION, **source}, "thresholds": {"min_steps": 1}}


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def column(root: Path, key: str) -> np.ndarray:
    return np.array(pq.read_table(root / "data/chunk-000/file-000.parquet")[key].to_pylist())
