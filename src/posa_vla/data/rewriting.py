"""A LeRobotDataset with more columns, written beside its place and put there in one rename.

LeRobot's own ``add_features`` goes through a data frame and manages 400 to 2,500 frames/s. Here tables stay
in Arrow, row group by row group (one per episode, which random access relies on), and videos are linked.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from posa_vla.data.files import alone_in, dataset_files, sync_folder
from posa_vla.errors import PosaError

INFO_FILE = "meta/info.json"
MARK = ".being-written"
"""In a folder that is being built: the fingerprint of what it will hold."""
LINKED_FOLDERS = ("videos", "images")
"""Large files that LeRobot replaces rather than edits: the new dataset shares them with the old one."""

LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
"""What columns of several numbers are stored as; the large ones by tools other than LeRobot's."""


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
        whole = (key for key, item in features.items() if isinstance(item, dict) and {"dtype", "shape"} <= set(item))
        wrong += [f"features.{key} (dtype and shape)" for key in sorted(set(features) - set(whole))]
    else:
        wrong.append("features")
    if wrong:
        raise PosaError(f"{path} has no usable {', '.join(wrong)}: copy the dataset again, or correct the file")


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


def write_with_columns(
    root: Path,
    output: Path,
    columns: Mapping[str, NewColumn],
    documents: Mapping[str, Any],
    num_workers: int | None = None,
) -> None:
    """Writes ``root`` plus ``columns`` and JSON ``documents`` (by relative path) as the new folder ``output``.

    ``output`` appears complete or not at all; ``root`` is only read. A run that was killed is continued by the
    next one with the same input: tables that it finished are kept.

    Args:
        root: the dataset.
        output: a folder that does not exist.
        columns: by feature name.
        documents: by path inside the dataset.
        num_workers: tables written at the same time, by threads (Arrow works outside Python's lock); None: one
            per processor.
    """
    root, output = root.resolve(), output.absolute()
    with built_beside(output, _fingerprint(root, columns, documents)) as partial:
        tables = set(table_paths(root))
        for source in dataset_files(root):
            relative = source.relative_to(root)
            if source not in tables and relative.as_posix() != INFO_FILE:
                _carry(source, partial / relative, linked=relative.parts[0] in LINKED_FOLDERS)
        _write_tables(root, partial, columns, num_workers or len(os.sched_getaffinity(0)))
        info = read_info(root)
        info["features"] |= {key: column.feature() for key, column in columns.items()}
        for name, content in {INFO_FILE: info, **documents}.items():
            _write_text(partial / name, json.dumps(content, indent=4, ensure_ascii=False))


@contextmanager
def built_beside(output: Path, fingerprint: str) -> Iterator[Path]:
    """A folder beside ``output``, synced and renamed to it at the end.

    It is removed if anything fails. After a kill or an interrupt it stays, and the next run that would write the
    same (equal ``fingerprint``) finds it as it was.
    """
    if output.exists():
        raise PosaError(f"{output} exists already: choose another --output or remove it")
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with alone_in(partial, f"writing {output}"):
            try:
                if not _is_continued(partial, fingerprint):
                    _empty(partial)
                    _write_text(partial / MARK, fingerprint)
                yield partial
                (partial / MARK).unlink()
                for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
                    sync_folder(folder)
                partial.rename(output)
                sync_folder(output.parent)
            except Exception:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise PosaError(f"could not write {output}: {error}; nothing was left there") from error


def _is_continued(partial: Path, fingerprint: str) -> bool:
    mark = partial / MARK
    return mark.is_file() and mark.read_text(encoding="utf-8") == fingerprint


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fingerprint(root: Path, columns: Mapping[str, NewColumn], documents: Mapping[str, Any]) -> str:
    """Changes with the new columns, the documents, and any file's name, size or date in ``root``."""
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode())
    for key, column in columns.items():
        digest.update(f"{key} {column.feature()}".encode())
        digest.update(np.ascontiguousarray(column.values).tobytes())
    for path in dataset_files(root):
        status = path.stat()
        digest.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _write_tables(root: Path, partial: Path, columns: Mapping[str, NewColumn], num_workers: int) -> None:
    paths = table_paths(root)
    lengths = [pq.read_metadata(path).num_rows for path in paths]
    total = len(next(iter(columns.values())).values)
    if sum(lengths) != total:
        raise ValueError(f"expected {sum(lengths)} rows of the new columns, got {total}")
    firsts = np.cumsum([0, *lengths[:-1]])

    def write(number: int) -> int:
        _write_table(paths[number], partial / paths[number].relative_to(root), columns, int(firsts[number]))
        return lengths[number]

    with (
        tqdm(total=total, unit="frames", desc="write", leave=False) as progress,
        ThreadPoolExecutor(max_workers=num_workers) as pool,
    ):
        try:
            for length in pool.map(write, range(len(paths))):
                progress.update(length)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_table(source: Path, target: Path, columns: Mapping[str, NewColumn], row: int) -> None:
    """Copies one table with the columns' rows from ``row`` on; one that is complete already is left as it is."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{target.name}.tmp")
    with pq.ParquetFile(source) as old, beside.open("wb") as file:
        schema = old.schema_arrow
        for key, column in columns.items():
            schema = schema.append(pa.field(key, _nested(column.values[:0]).type))
        schema = schema.with_metadata(_announce(old.schema_arrow.metadata, columns))
        with pq.ParquetWriter(file, schema, compression="snappy") as writer:
            for group in range(old.num_row_groups):
                table = _row_group(old, group, source)
                stop = row + table.num_rows
                for key, column in columns.items():
                    table = table.append_column(key, _nested(column.values[row:stop]))
                writer.write_table(table.cast(schema))
                row = stop
        file.flush()
        os.fsync(file.fileno())
    beside.rename(target)


def _row_group(table: pq.ParquetFile, number: int, path: Path) -> pa.Table:
    try:
        return table.read_row_group(number)
    except (OSError, pa.ArrowException) as error:
        raise PosaError(f"cannot read {path}: {str(error).splitlines()[0]}; copy or record it again") from error


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
    values, empty = flat_values(column)
    if empty:
        raise PosaError(f"the column {key!r} holds empty cells: expected a number in every frame")
    if values.dtype.kind not in "biuf":
        raise PosaError(f"the column {key!r} holds {column.type}: expected numbers; choose another column")
    if len(column) == 0 or len(values) % len(column):
        raise PosaError(f"the column {key!r} has rows of different lengths, or none at all")
    return values.reshape(len(column), -1)


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


def _carry(source: Path, target: Path, linked: bool) -> None:
    """Links a large file, copies a small one; the hub's local folders hold symbolic links, which are followed."""
    if target.exists():  # of an interrupted run
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    if linked:
        try:
            os.link(real, target)
            return
        except OSError as error:
            # Another disk, or a file system without hard links: the copy below is the same file.
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
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
