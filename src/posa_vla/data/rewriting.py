"""A LeRobotDataset with more columns, written beside its place and put there in one rename.

LeRobot's own ``add_features`` goes through a data frame and manages 400 to 2,500 frames/s. Here tables stay
in Arrow, row group by row group (one per episode, which random access relies on), and videos are linked.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from posa_vla.data.files import sync_folder
from posa_vla.errors import PosaError

INFO_FILE = "meta/info.json"
LINKED_FOLDERS = ("videos", "images")
"""Large files that LeRobot replaces rather than edits: the new dataset shares them with the old one."""


@dataclass(frozen=True)
class NewColumn:
    """One column to add.

    Args:
        values: (N, *shape), one row for each frame in the tables' order.
        names: LeRobot's ``names`` of the feature.
    """

    values: np.ndarray
    names: list[str] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]

    def feature(self) -> dict[str, Any]:
        """Its entry in meta/info.json."""
        return {"dtype": str(self.values.dtype), "shape": list(self.shape), "names": self.names}


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json of a LeRobotDataset v3."""
    path = root / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PosaError(f"{root} is no LeRobotDataset: it has no {INFO_FILE}; check --dataset.root") from None
    except (OSError, ValueError) as error:
        raise PosaError(f"cannot read {path}: {error}") from error
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise PosaError(f"expected a LeRobotDataset v3 at {root}, found {version}: convert it with LeRobot first")
    return info


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
            tables.append(pq.read_table(path, columns=keys))
        except (OSError, pa.ArrowException) as error:
            raise PosaError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
        missing = set(keys) - set(tables[-1].column_names)
        if missing:
            raise PosaError(f"{path} lacks the columns {sorted(missing)} that {INFO_FILE} promises")
    return {key: np.concatenate([flat_column(table[key], key) for table in tables]) for key in keys}


def write_with_columns(
    root: Path, output: Path, columns: Mapping[str, NewColumn], documents: Mapping[str, Any]
) -> None:
    """Writes ``root`` plus ``columns`` and JSON ``documents`` (by relative path) as the new folder ``output``.

    ``output`` appears complete or not at all; ``root`` is only read.
    """
    root, output = root.resolve(), output.absolute()
    with _built_beside(output) as partial:
        tables = set(table_paths(root))
        for source in sorted(path for path in root.rglob("*") if path.is_file()):
            relative = source.relative_to(root)
            if source not in tables and relative.as_posix() != INFO_FILE:
                _carry(source, partial / relative, linked=relative.parts[0] in LINKED_FOLDERS)
        _write_tables(root, partial, columns)
        info = read_info(root)
        info["features"] |= {key: column.feature() for key, column in columns.items()}
        for name, content in {INFO_FILE: info, **documents}.items():
            _write_text(partial / name, json.dumps(content, indent=4, ensure_ascii=False))


@contextmanager
def _built_beside(output: Path) -> Iterator[Path]:
    """A new folder beside ``output``, synced and renamed to it at the end, removed if anything fails."""
    if output.exists():
        raise PosaError(f"{output} exists already: choose another --output or remove it")
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
            sync_folder(folder)
        partial.rename(output)
        sync_folder(output.parent)
    except OSError as error:
        raise PosaError(f"could not write {output}: {error}; nothing was left there") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_tables(root: Path, partial: Path, columns: Mapping[str, NewColumn]) -> None:
    row, total = 0, len(next(iter(columns.values())).values)
    with tqdm(total=total, unit="frames", desc="write", leave=False) as progress:
        for path in table_paths(root):
            target = partial / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetFile(path) as old, target.open("wb") as file:
                row = _write_table(old, file, columns, row, progress)
                file.flush()
                os.fsync(file.fileno())
    if row != total:
        raise ValueError(f"expected {row} rows of the new columns, got {total}")


def _write_table(old: pq.ParquetFile, file: Any, columns: Mapping[str, NewColumn], row: int, progress: tqdm) -> int:
    """Copies one table with the columns' rows from ``row`` on; the row after its last one."""
    schema = old.schema_arrow
    for key, column in columns.items():
        schema = schema.append(pa.field(key, _nested(column.values[:0]).type))
    schema = schema.with_metadata(_announce(old.schema_arrow.metadata, columns))
    with pq.ParquetWriter(file, schema, compression="snappy") as writer:
        for group in range(old.num_row_groups):
            table = old.read_row_group(group)
            stop = row + table.num_rows
            for key, column in columns.items():
                table = table.append_column(key, _nested(column.values[row:stop]))
            writer.write_table(table.cast(schema))
            progress.update(table.num_rows)
            row = stop
    return row


def _announce(metadata: dict[bytes, bytes] | None, columns: Mapping[str, NewColumn]) -> dict[bytes, bytes]:
    """Hugging Face's schema note with the new columns in it; without them `datasets` refuses the file."""
    metadata = dict(metadata or {})
    if b"huggingface" in metadata:
        note = json.loads(metadata[b"huggingface"])
        for key, column in columns.items():
            note["info"]["features"][key] = _hugging_face_feature(column)
        note.pop("fingerprint", None)  # of the table without the new columns
        metadata[b"huggingface"] = json.dumps(note).encode()
    return metadata


def _hugging_face_feature(column: NewColumn) -> dict[str, Any]:
    dtype = str(column.values.dtype)
    if column.shape == (1,):
        return {"dtype": dtype, "_type": "Value"}
    if len(column.shape) == 1:
        return {"feature": {"dtype": dtype, "_type": "Value"}, "length": column.shape[0], "_type": "List"}
    return {"shape": list(column.shape), "dtype": dtype, "_type": f"Array{len(column.shape)}D"}


def _nested(values: np.ndarray) -> pa.Array:
    """(N, *shape) as LeRobot stores it: scalars for (1,), a fixed-size list for (n,), else nested lists."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.shape[1:] == (1,):
        return array
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(array, values.shape[1])
    lists = len(array)
    for size in reversed(values.shape[1:]):
        lists //= size
        array = pa.ListArray.from_arrays(pa.array(np.arange(lists + 1, dtype=np.int32) * size), array)
    return array


def flat_column(column: pa.ChunkedArray, key: str) -> np.ndarray:
    """A column of scalars or (nested) lists of one size -> (N, numbers per frame)."""
    pieces = []
    for chunk in column.chunks:
        flat = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        nulls = flat.null_count
        while pa.types.is_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
            flat = flat.flatten()
            nulls += flat.null_count
        if nulls:
            raise PosaError(f"the column {key!r} holds empty cells: expected a number in every frame")
        pieces.append(flat.to_numpy(zero_copy_only=False))
    values = np.concatenate(pieces) if pieces else np.empty(0)
    if len(column) == 0 or len(values) % len(column):
        raise PosaError(f"the column {key!r} has rows of different lengths, or none at all")
    return values.reshape(len(column), -1)


def _carry(source: Path, target: Path, linked: bool) -> None:
    """Links a large file, copies a small one; the hub's local folders hold symbolic links, which are followed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    if linked:
        try:
            os.link(real, target)
            return
        except OSError as error:
            # Another disk, or a file system without hard links: the copy below is the same file.
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
    shutil.copyfile(real, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
