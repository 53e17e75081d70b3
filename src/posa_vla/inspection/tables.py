"""The tables data/*/*.parquet: readable, complete, finite, on the clock, and agreeing with the episode table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.data.features import image_sides
from posa_vla.data.tables import flat_column
from posa_vla.errors import PosaError
from posa_vla.inspection.findings import Finding, as_episodes
from posa_vla.inspection.layout import Layout, one_line

CLOCK_TOLERANCE = 1e-4
"""Seconds between a timestamp and frame / fps: what LeRobot itself allows (tolerance_s)."""
COUNTERS = ("index", "episode_index", "frame_index", "task_index", "timestamp")


@dataclass
class Tables:
    """What was read of the tables.

    Args:
        columns: by key (N, numbers per frame) of the rows that could be read, in the tables' order.
        episodes: (N,) the episode that each of these rows should belong to.
        complete: whether no row is missing.
        frames: rows and images that were looked at.
        findings: what is wrong.
    """

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    episodes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    complete: bool = True
    findings: list[Finding] = field(default_factory=list)


def check_tables(layout: Layout, every_image: bool, advance: Callable[[int], object]) -> Tables:
    """Reads every table, row group by row group, so that a broken one names its episodes.

    Args:
        layout: what should be there.
        every_image: decode all images of an image-backed dataset, not only each episode's first and last.
        advance: called with the number of frames after each row group.
    """
    tables, pieces = Tables(), []
    expected = layout.files("data", layout.info["data_path"])
    for path, rows in expected.items():
        piece = _read_file(layout, path, rows, every_image, advance, tables)
        if piece is not None:
            pieces.append(piece)
    for found in sorted((layout.root / "data").glob("*/*.parquet")):
        relative = found.relative_to(layout.root).as_posix()
        if relative not in expected:
            tables.findings.append(Finding("stray-file", relative, "no episode is said to be in this table"))
    if pieces:
        tables.episodes = np.concatenate([episodes for episodes, _ in pieces])
        tables.columns = {key: np.concatenate([columns[key] for _, columns in pieces]) for key in pieces[0][1]}
        tables.findings += [*_check_values(tables), *_check_counters(layout, tables), *_check_sentences(layout, tables)]
    return tables


def _read_file(
    layout: Layout, path: str, rows: np.ndarray, every_image: bool, advance: Callable[[int], object], tables: Tables
) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Episode of each row, and the columns; what could not be read is left out and reported."""
    lengths = layout.episodes["length"][rows]
    owners = np.repeat(layout.episodes["episode_index"][rows], lengths)
    try:
        file = pq.ParquetFile(layout.root / path)
    except FileNotFoundError:
        _lost(tables, "missing-file", path, "the table is missing", owners)
        return None
    except (OSError, pa.ArrowException) as error:
        _lost(tables, "corrupt-table", path, f"truncated or not a table: {one_line(error)}", owners)
        return None
    absent = [key for key in (*layout.numeric_keys, *layout.keys_of("image")) if key not in file.schema_arrow.names]
    if absent:
        _lost(tables, "missing-column", path, f"lacks the columns {', '.join(absent)}", owners)
        return None
    if file.metadata.num_rows != len(owners):
        # Which episode the rows are missing from is what their own episode_index says.
        owners = _own_episodes(tables, layout, path, file, rows, owners)
    episodes, groups, start = [], [], 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        columns = _read_group(layout, path, file, group, owners[start:stop], every_image, tables)
        if columns is not None:
            episodes.append(owners[start:stop])
            groups.append(columns)
        advance(stop - start)
        start = stop
    if not groups:
        return None
    return np.concatenate(episodes), {key: np.concatenate([g[key] for g in groups]) for key in groups[0]}


def _lost(tables: Tables, kind: str, path: str, message: str, owners: np.ndarray) -> None:
    tables.complete = False
    tables.findings.append(Finding(kind, path, message, as_episodes(owners)))


def _own_episodes(
    tables: Tables, layout: Layout, path: str, file: pq.ParquetFile, rows: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """Episode of each row by the table's own episode_index; reports the episodes with another number of rows."""
    message = f"holds {file.metadata.num_rows} rows, its episodes have {len(owners)} frames"
    try:
        own = flat_column(file.read(columns=["episode_index"])["episode_index"], "episode_index")[:, 0]
    except (OSError, pa.ArrowException, PosaError):
        _lost(tables, "frame-count", path, message, owners)
        return np.resize(owners, file.metadata.num_rows)
    numbers, lengths = layout.episodes["episode_index"][rows], layout.episodes["length"][rows]
    wrong = [n for n, length in zip(numbers, lengths, strict=True) if (own == n).sum() != length]
    wrong += sorted(set(own.tolist()) - set(numbers.tolist()))
    _lost(tables, "frame-count", path, message, np.array(wrong))
    return own.astype(np.int64)


def _read_group(
    layout: Layout,
    path: str,
    file: pq.ParquetFile,
    group: int,
    owners: np.ndarray,
    every_image: bool,
    tables: Tables,
) -> dict[str, np.ndarray] | None:
    image_keys = layout.keys_of("image")
    try:
        table = file.read_row_group(group, columns=[*layout.numeric_keys, *image_keys])
    except (OSError, pa.ArrowException) as error:
        _lost(tables, "corrupt-table", path, f"row group {group} cannot be read: {one_line(error)}", owners)
        return None
    columns = {}
    for key in layout.numeric_keys:
        try:
            columns[key] = flat_column(table[key], key)
        except PosaError as error:
            _lost(tables, "bad-column", path, str(error), owners)
            return None
        size = int(np.prod(layout.features[key]["shape"]))
        if columns[key].shape[1] != size:
            message = f"{key} has {columns[key].shape[1]} numbers per frame where {size} were expected"
            _lost(tables, "wrong-shape", path, message, owners)
            return None
    for key in image_keys:
        tables.findings += _check_images(layout, path, table[key], key, owners, every_image)
    return columns


def _check_images(
    layout: Layout, path: str, cells: pa.ChunkedArray, key: str, owners: np.ndarray, every: bool
) -> list[Finding]:
    """Images in the table's cells: present, decodable, of the promised size."""
    ends = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]) | np.append(owners[1:] != owners[:-1], True))
    wanted = np.arange(len(owners)) if every else ends
    bad: dict[str, list[int]] = {}
    for row in wanted:
        problem = _image_problem(layout, cells[int(row)].as_py(), key)
        if problem:
            bad.setdefault(problem, []).append(int(owners[row]))
    return [
        Finding("corrupt-image", path, f"{key}: {problem} ({len(rows)} frames)", as_episodes(rows))
        for problem, rows in bad.items()
    ]


def _image_problem(layout: Layout, cell: dict | None, key: str) -> str | None:
    data = (cell or {}).get("bytes")
    outside = Path(layout.root / cell["path"]) if cell and cell.get("path") and not data else None
    if outside is not None and outside.is_file():
        data = outside.read_bytes()
    if not data:
        return "no image in the cell"
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        return "the image cannot be decoded"
    height, width = image_sides(layout.features[key])
    if image.shape[:2] != (height, width):
        return f"the image is {image.shape[1]}x{image.shape[0]}, promised is {width}x{height}"
    return None


def _check_values(tables: Tables) -> list[Finding]:
    """NaN and infinity, and whole numbers where the counters are."""
    findings = []
    for key, values in tables.columns.items():
        bad = ~np.isfinite(values).all(axis=1) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        for episode in as_episodes(tables.episodes[bad]):
            own = np.flatnonzero(bad & (tables.episodes == episode))
            first = own[0] - int(np.argmax(tables.episodes == episode))
            message = f"{key} is NaN or infinite in {len(own)} frames, the first of them frame {first}"
            findings.append(Finding("not-finite", "data", message, (episode,)))
    return findings


def _check_counters(layout: Layout, tables: Tables) -> list[Finding]:
    """index, episode_index, frame_index and timestamp against the order of the rows."""
    missing = [key for key in COUNTERS if key not in tables.columns]
    if missing:
        return [Finding("missing-column", "meta/info.json", f"no feature {', '.join(missing)}")]
    index, own, frame, _, time = (tables.columns[key][:, 0] for key in COUNTERS)
    starts = np.append(True, tables.episodes[1:] != tables.episodes[:-1])
    first = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
    count = np.arange(len(starts)) - first
    offsets = dict(zip(layout.episodes["episode_index"], layout.episodes["dataset_from_index"], strict=True))
    begin = np.array([offsets.get(episode, -1) for episode in tables.episodes])
    clock = frame / layout.fps
    late = np.abs(time - clock) > np.maximum(CLOCK_TOLERANCE, 4 * np.finfo(np.float32).eps * clock)
    backwards = np.append(False, np.diff(time) <= 0) & ~starts
    findings = []
    for kind, bad, text in (
        ("index", own != tables.episodes, "episode_index is not the episode whose row it is"),
        ("index", frame != count, "frame_index does not count from 0"),
        ("index", (index != begin + count) & (begin >= 0), "index is not dataset_from_index + frame_index"),
        ("timestamp", backwards, "timestamp does not increase"),
        ("timestamp", late & ~backwards & np.isfinite(time), f"timestamp is not frame_index / {layout.fps:g}"),
    ):
        if bad.any():
            findings.append(
                Finding(kind, "data", f"{text} ({int(bad.sum())} frames)", as_episodes(tables.episodes[bad]))
            )
    return findings


def _check_sentences(layout: Layout, tables: Tables) -> list[Finding]:
    """Every task_index has a sentence, and it is the one that the episode table gives."""
    if "task_index" not in tables.columns or not layout.tasks:
        return []
    task = tables.columns["task_index"][:, 0]
    findings = []
    unknown = ~np.isin(task, list(layout.tasks))
    if unknown.any():
        message = f"task_index {sorted(set(task[unknown].tolist()))[:5]} has no sentence in meta/tasks.parquet"
        findings.append(Finding("task-without-sentence", "data", message, as_episodes(tables.episodes[unknown])))
    if "tasks" in layout.episodes:
        findings += _check_episode_sentences(layout, tables, task, unknown)
    return findings


def _check_episode_sentences(layout: Layout, tables: Tables, task: np.ndarray, unknown: np.ndarray) -> list[Finding]:
    pairs = np.unique(np.stack([tables.episodes[~unknown], task[~unknown].astype(np.int64)]), axis=1).T
    said = dict(zip(layout.episodes["episode_index"].tolist(), layout.episodes["tasks"], strict=True))
    bad = [episode for episode, number in pairs if layout.tasks[number] not in (said.get(int(episode)) or ())]
    if not bad:
        return []
    message = "the rows' sentence is not among the episode's tasks"
    return [Finding("task-without-sentence", "meta/episodes", message, as_episodes(bad))]
