"""What a LeRobotDataset's tables hold: meta/info.json, and columns as arrays."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from posa_vla.errors import PosaError

INFO_FILE = "meta/info.json"
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
"""What columns of several numbers are stored as; the large ones by tools other than LeRobot's."""


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json of a LeRobotDataset v3."""
    path = root / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PosaError(f"{root} is no LeRobotDataset: it has no {INFO_FILE}; check --dataset.root") from None
    except (OSError, ValueError) as error:
        raise PosaError(f"cannot read {path}: {error}") from error
    if not isinstance(info, dict):
        raise PosaError(f"cannot read {path}: expected a JSON object: copy the dataset again")
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        older = version.startswith(("v1.", "v2."))
        fix = (
            "convert it with python -m lerobot.scripts.convert_dataset_v21_to_v30 (it takes v2.1)"
            if older
            else "this package reads v3 only, so use the LeRobot version that wrote it to convert it"
        )
        raise PosaError(f"expected a LeRobotDataset v3 at {root}, found {version}: {fix}")
    _check_info(info, path)
    return info


def _check_info(info: Mapping[str, Any], path: Path) -> None:
    """What everything else relies on: the features with dtype and shape, the frame rate and the number of frames."""
    features, fps, frames = (info.get(name) for name in ("features", "fps", "total_frames"))
    wrong = [] if isinstance(fps, int | float) and fps > 0 else ["fps"]
    wrong += [] if isinstance(frames, int) else ["total_frames"]
    if isinstance(features, dict):
        broken = sorted(key for key, item in features.items() if not _is_feature(item))
        wrong += [f"features.{key} (dtype and shape)" for key in broken]
    else:
        wrong.append("features")
    if wrong:
        raise PosaError(f"{path} has no usable {', '.join(wrong)}: copy the dataset again, or correct the file")


def _is_feature(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("dtype"), str) and isinstance(item.get("shape"), list)


def table_paths(root: Path) -> list[Path]:
    """The dataset's tables, in the order in which LeRobot joins them."""
    paths = sorted((root / "data").glob("*/*.parquet"))
    if not paths:
        raise PosaError(f"{root} holds no table data/*/*.parquet: the dataset is incomplete")
    return paths


def read_columns(root: Path, keys: list[str]) -> dict[str, np.ndarray]:
    """Numeric columns of all tables, each (N, numbers per frame)."""
    tables = []
    for path in table_paths(root):
        try:
            names = pq.read_schema(path).names
            missing = sorted(set(keys) - set(names))
            tables += [] if missing else [pq.read_table(path, columns=keys)]
        except (OSError, pa.ArrowException) as error:
            raise PosaError(
                f"cannot read {path}: {str(error).splitlines()[0]}; copy or record it again (recording ends with "
                "LeRobotDataset.finalize())"
            ) from error
        if missing:
            raise PosaError(
                f"{path} lacks the columns {missing} that {INFO_FILE} promises (it has {', '.join(names)}): name them "
                f"so, or correct {INFO_FILE}"
            )
    tables = [table for table in tables if table.num_rows]
    if not tables:
        raise PosaError(f"the tables of {root} hold no frame: record the dataset again")
    columns = {key: [flat_column(table[key], key) for table in tables] for key in keys}
    for key, parts in columns.items():
        sizes = {part.shape[1] for part in parts}
        if len(sizes) > 1:
            raise PosaError(
                f"the tables hold {' and '.join(map(str, sorted(sizes)))} numbers of {key}: record it again"
            )
    return {key: np.concatenate(parts) for key, parts in columns.items()}


def flat_column(column: pa.ChunkedArray, key: str) -> np.ndarray:
    """A column of scalars or (nested) lists of one size -> (N, numbers per frame)."""
    values, empty = flat_values(column)
    if empty:
        raise PosaError(f"the column {key!r} holds empty cells: expected a number in every frame")
    if values.dtype.kind not in "biuf":
        raise PosaError(f"the column {key!r} holds {column.type}: expected numbers; choose another column")
    if len(column) == 0 or _is_ragged(column):
        raise PosaError(f"the column {key!r} has rows of different lengths, or none at all")
    return values.reshape(len(column), -1)


def _is_ragged(column: pa.ChunkedArray) -> bool:
    """Whether lists of one level are of different lengths."""
    sizes: dict[int, set[int]] = {}
    for chunk in column.chunks:
        flat, level = (chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk), 0
        while any(is_kind(flat.type) for is_kind in LISTS):
            sizes.setdefault(level, set()).update(pc.list_value_length(flat).unique().to_pylist())
            flat, level = flat.flatten(), level + 1
    return any(len(lengths) > 1 for lengths in sizes.values())


def flat_values(column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """All numbers of a column of scalars or (nested) lists, one after the other, and how many cells are empty."""
    pieces, empty = [], 0
    for chunk in column.chunks:
        flat = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        empty += flat.null_count
        while any(is_kind(flat.type) for is_kind in LISTS):
            flat = flat.flatten()
            empty += flat.null_count
        pieces.append(flat.to_numpy(zero_copy_only=False))
    return (np.concatenate(pieces) if pieces else np.empty(0)), empty
