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
from posa_vla.data.tables import INFO_FILE, read_info, table_paths
from posa_vla.errors import PosaError

MARK = ".being-written"
"""In a folder that is being built: the fingerprint of what it will hold."""
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
