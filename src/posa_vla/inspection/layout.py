"""The parts of a LeRobotDataset v3 that say where everything else is: meta/info.json, tasks, episodes.

Read with Arrow alone: LeRobot's own reader stops at the first thing that is wrong, and takes ten seconds to load.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posa_vla.contract import TASK_IDS_FILE
from posa_vla.data.tables import INFO_FILE, read_info
from posa_vla.data.tasks import task_ids
from posa_vla.errors import PosaError
from posa_vla.inspection.findings import Finding, as_episodes

EPISODES_FOLDER, TASKS_FILE = "meta/episodes", "meta/tasks.parquet"
NEEDED_INFO = {"features": dict, "fps": float | int, "total_episodes": int, "total_frames": int, "data_path": str}
SPAN_COLUMNS = ("episode_index", "length", "dataset_from_index", "dataset_to_index")
IMAGE_KINDS, TEXT_KINDS = ("video", "image"), ("string", "language")
LONGEST_EPISODE = 10_000_000
"""Frames: more are days of recording, and a damaged number."""


@dataclass(frozen=True)
class Layout:
    """What the metadata promises.

    Args:
        root: the dataset's folder.
        info: meta/info.json.
        episodes: columns of the episode table (E,), ascending by episode_index; without statistics.
        tasks: sentence by task_index.
    """

    root: Path
    info: dict[str, Any]
    episodes: Mapping[str, np.ndarray]
    tasks: Mapping[int, str]

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        return self.info["features"]

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def numeric_keys(self) -> list[str]:
        return [k for k, f in self.features.items() if f["dtype"] not in IMAGE_KINDS + TEXT_KINDS]

    def keys_of(self, kind: str) -> list[str]:
        """Features stored as ``video`` or as ``image``."""
        return [key for key, feature in self.features.items() if feature["dtype"] == kind]

    def files(self, prefix: str, pattern: str, **names: str) -> dict[str, np.ndarray]:
        """Relative path -> rows of `episodes` in it, by their ``prefix/chunk_index`` and ``file_index``."""
        chunks, numbers = (self.episodes[f"{prefix}/{part}_index"] for part in ("chunk", "file"))
        found = defaultdict(list)
        for row, (chunk, number) in enumerate(zip(chunks, numbers, strict=True)):
            path = pattern.format(chunk_index=int(chunk), file_index=int(number), **names)
            found[path].append(row)
        return {path: np.array(rows) for path, rows in found.items()}

    def numbers(self, rows: np.ndarray) -> tuple[int, ...]:
        """Episode numbers of rows of `episodes`."""
        return as_episodes(self.episodes["episode_index"][rows])


def read_layout(root: Path) -> tuple[Layout | None, list[Finding]]:
    """The layout, None where it is too damaged to look further, and what is wrong with it.

    Raises:
        PosaError: ``root`` is no dataset at all, or one of another LeRobot version.
    """
    if not (root / "meta").is_dir() and not (root / "data").is_dir():
        raise PosaError(f"{root} is no LeRobotDataset: it has neither meta nor data; check the path")
    try:
        info = read_info(root)
    except PosaError as error:
        if "expected a LeRobotDataset v3" in str(error):
            raise
        return None, [Finding("info", INFO_FILE, str(error))]
    wrong = [name for name, kind in NEEDED_INFO.items() if not isinstance(info.get(name), kind)]
    if wrong or not info["fps"] > 0:
        return None, [Finding("info", INFO_FILE, f"expected usable values of {', '.join(wrong or ['fps'])}")]
    if problem := _path_problem(info):
        return None, [Finding("info", INFO_FILE, problem)]
    tasks, findings = _read_tasks(root, info)
    episodes, episode_findings = _read_episodes(root, info)
    findings += episode_findings
    if episodes is None:
        return None, findings
    layout = Layout(root, info, episodes, tasks)
    findings += [*_check_episodes(layout), *_check_videos(layout), *_check_goals(layout)]
    lengths = episodes["length"]
    return None if ((lengths < 0) | (lengths > LONGEST_EPISODE)).any() else layout, findings


def _path_problem(info: dict[str, Any]) -> str | None:
    """What keeps the files from being found by their numbers, if anything."""
    patterns: dict[str, dict[str, str]] = {"data_path": {}, "video_path": {"video_key": "camera"}}
    if not any(feature["dtype"] == "video" for feature in info["features"].values()):
        del patterns["video_path"]
    for name, names in patterns.items():
        try:
            info[name].format(chunk_index=0, file_index=0, **names)
        except (LookupError, ValueError, AttributeError):
            wanted = ", ".join(f"{{{part}}}" for part in (*names, "chunk_index", "file_index"))
            return f"{name} is {info.get(name)!r}, expected a pattern of {wanted}"
    return None


def _read_tasks(root: Path, info: dict[str, Any]) -> tuple[dict[int, str], list[Finding]]:
    try:
        table = pq.read_table(root / TASKS_FILE).to_pandas()
        numbers, sentences = table["task_index"].tolist(), table.index.tolist()
    except (OSError, pa.ArrowException, KeyError) as error:
        return {}, [Finding("tasks", TASKS_FILE, f"cannot be read: {one_line(error)}")]
    findings = []
    if sorted(numbers) != list(range(len(numbers))):
        findings.append(Finding("tasks", TASKS_FILE, f"task_index should count from 0 to {len(numbers) - 1}"))
    if len(numbers) != info.get("total_tasks", len(numbers)):
        message = f"holds {len(numbers)} sentences where {INFO_FILE} promises {info['total_tasks']}"
        findings.append(Finding("tasks", TASKS_FILE, message))
    tasks = dict(zip(numbers, sentences, strict=True))
    empty = [number for number, text in tasks.items() if not isinstance(text, str) or not text.strip()]
    if empty:
        findings.append(Finding("tasks", TASKS_FILE, f"task {empty[0]} has no sentence ({len(empty)} in all)"))
    return tasks, findings


def _read_episodes(root: Path, info: dict[str, Any]) -> tuple[dict[str, np.ndarray] | None, list[Finding]]:
    """Columns of every readable episode table, sorted by episode."""
    paths = sorted((root / EPISODES_FOLDER).glob("*/*.parquet"))
    findings, tables = [], []
    for path in paths:
        try:
            file = pq.ParquetFile(path)
            keys = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
            tables.append(file.read(columns=keys))
        except (OSError, pa.ArrowException) as error:
            findings.append(
                Finding("episodes", path.relative_to(root).as_posix(), f"cannot be read: {one_line(error)}")
            )
    if not paths:
        findings.append(Finding("missing-file", EPISODES_FOLDER, "holds no episode table"))
    if not tables:
        return None, findings
    needed = [*SPAN_COLUMNS, "data/chunk_index", "data/file_index"]
    for key, feature in info["features"].items():
        if feature["dtype"] == "video":
            needed += [f"videos/{key}/{n}" for n in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    table = pa.concat_tables(tables, promote_options="default")
    absent = [key for key in needed if key not in table.column_names or table[key].null_count]
    if absent:
        message = f"lacks values of {', '.join(absent[:3])} ({len(absent)} columns in all)"
        return None, [*findings, Finding("episodes", EPISODES_FOLDER, message)]
    odd = [key for key in needed if not _is_number(table.schema.field(key).type, key not in SPAN_COLUMNS)]
    if odd:
        message = f"{odd[0]} is {table.schema.field(odd[0]).type}, expected numbers ({len(odd)} columns in all)"
        return None, [*findings, Finding("episodes", EPISODES_FOLDER, message)]
    order = np.argsort(table["episode_index"].to_numpy(), kind="stable")
    columns = {key: table[key].to_numpy()[order] for key in needed}
    if "tasks" in table.column_names:
        columns["tasks"] = np.array(table["tasks"].to_pylist(), dtype=object)[order]
    return columns, findings


def _is_number(kind: pa.DataType, may_be_fraction: bool) -> bool:
    return bool(pa.types.is_integer(kind) or (may_be_fraction and pa.types.is_floating(kind)))


def _check_episodes(layout: Layout) -> list[Finding]:
    """Numbers, lengths and places of the episodes against each other and against info.json."""
    numbers, lengths, starts, stops = (layout.episodes[key] for key in SPAN_COLUMNS)
    findings = []

    def report(bad: np.ndarray, message: str) -> None:
        if bad.any():
            findings.append(Finding("episodes", EPISODES_FOLDER, message, as_episodes(numbers[bad])))

    absent = as_episodes(set(range(layout.info["total_episodes"])) - set(numbers.tolist()))
    if absent:
        message = f"{INFO_FILE} promises {layout.info['total_episodes']} episodes, the table lacks these"
        findings.append(Finding("missing-episode", EPISODES_FOLDER, message, absent))
    report(numbers >= layout.info["total_episodes"], f"not counted in {INFO_FILE}")
    report(np.append(False, numbers[1:] == numbers[:-1]), "listed twice")
    report(lengths <= 0, "length is not positive")
    report(lengths > LONGEST_EPISODE, f"length is more than {LONGEST_EPISODE:,} frames")
    report(stops - starts != lengths, "dataset_from_index and dataset_to_index do not span length")
    if not absent:
        report(starts != np.append(0, stops[:-1]), "dataset_from_index is not where the episode before it ends")
        if lengths.sum() != layout.info["total_frames"]:
            message = f"total_frames is {layout.info['total_frames']}, the episodes have {lengths.sum()}"
            findings.append(Finding("frame-count", INFO_FILE, message))
    return findings


def _check_videos(layout: Layout) -> list[Finding]:
    """The episodes' places in the video files, as the metadata gives them."""
    findings = []
    lengths, numbers = layout.episodes["length"], layout.episodes["episode_index"]
    for key in layout.keys_of("video"):
        start, stop = (layout.episodes[f"videos/{key}/{end}_timestamp"] for end in ("from", "to"))
        bad = ~(np.abs((stop - start) * layout.fps - lengths) < 0.5)
        if bad.any():
            message = f"{key}: from_timestamp to to_timestamp is not length / fps"
            findings.append(Finding("frame-count", EPISODES_FOLDER, message, as_episodes(numbers[bad])))
    return findings


def _check_goals(layout: Layout) -> list[Finding]:
    if not layout.tasks:
        return []
    try:
        task_ids(layout.root, list(layout.tasks.values()))
    except PosaError as error:
        return [Finding("tasks", TASK_IDS_FILE, str(error).replace(f"{layout.root}/", ""))]
    return []


def one_line(error: Exception) -> str:
    """The first line of an exception's text, or its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
