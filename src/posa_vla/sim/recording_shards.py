"""Demonstrations on disk: shards of a few episodes, each complete or absent, and the dataset made of them.

A shard is itself a small LeRobotDataset with `SHARD_FILE` beside its metadata. It is written under a
temporary name and renamed when complete, so that an interrupted recording keeps every finished shard.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av.logging
import datasets
import numpy as np
import pandas as pd
from lerobot.datasets.aggregate import aggregate_datasets
from lerobot.datasets.io_utils import load_info, load_stats, write_stats

from posa_vla import contract
from posa_vla.errors import PosaError
from posa_vla.sim.recording_episode import Demonstration
from posa_vla.sim.recording_video import QUANTILES, RecordedDataset, VideoOptions

SHARD_FILE = "meta/posa_shard.json"
SHARDS = "shard-*"  # the finished ones in a folder; one that is being written begins with a dot
RECORDING_FILE = "meta/posa_recording.json"
"""Provenance of a recorded dataset: version, options, one seed per episode, attempts, failures left out."""

STATE_NAMES = ["ee_x", "ee_y", "ee_z", "ee_rx", "ee_ry", "ee_rz", "finger_left", "finger_right"]
ACTION_NAMES = ["delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper"]
EE_POSE_NAMES = ["x", "y", "z", "qw", "qx", "qy", "qz"]

VIDEO_FILE_MB = 32
"""Size at which a new video file begins. Merging rewrites the file in progress once per shard, so that LeRobot's
own 200 MB took two minutes for 2,000 demonstrations."""


@dataclass(frozen=True)
class ShardReport:
    """What a finished shard holds.

    Args:
        seeds: the seed of each episode, in order.
        failures: seeds of the attempts left out.
        frames: rows in all.
        task_ids: sentence -> goal id.
    """

    seeds: list[int]
    failures: list[int]
    frames: int
    task_ids: dict[str, int]


def features(image_size: int, visibility: bool = False, contact: bool = False) -> dict[str, dict]:
    """LeRobot's feature table of the recorded columns, see `contract` for their meaning."""
    shares = {"dtype": "float32", "shape": (len(contract.CAMERAS),), "names": list(contract.CAMERAS)}
    image = {
        "dtype": "video",
        "shape": (image_size, image_size, 3),
        "names": ["height", "width", "channels"],
    }
    return {
        **{contract.image_key(camera): dict(image) for camera in contract.CAMERAS},
        contract.STATE: {"dtype": "float32", "shape": (8,), "names": STATE_NAMES},
        contract.ACTION: {"dtype": "float32", "shape": (7,), "names": ACTION_NAMES},
        contract.EE_POSE: {"dtype": "float32", "shape": (7,), "names": EE_POSE_NAMES},
        **({contract.VISIBILITY: shares} if visibility else {}),
        **({contract.CONTACT: {"dtype": "float32", "shape": (1,), "names": ["force"]}} if contact else {}),
    }


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}"


def read_report(shard: Path) -> ShardReport:
    return ShardReport(**json.loads((shard / SHARD_FILE).read_text()))


def write_shard(
    path: Path,
    repo_id: str,
    video: VideoOptions,
    episodes: Iterator[tuple[Demonstration, list[int]]],
    table: dict[str, dict],
) -> None:
    """Write the demonstrations of `episodes`, each with the seeds that failed before it, as one shard.

    `table` is what `features` gives, for the columns that the demonstrations hold.
    """
    be_quiet()
    temporary = path.with_name(f".{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with explained(path), temporary_files_in(temporary):
            _write_episodes(temporary, repo_id, video, episodes, table)
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_episodes(root: Path, repo_id: str, video: VideoOptions, episodes, table: dict) -> None:
    dataset = RecordedDataset.create(
        repo_id,
        fps=contract.FPS,
        features=table,
        root=root,
        robot_type="posa_tabletop",
        rgb_encoder=video.encoder(),
        streaming_encoding=True,
    )
    report = ShardReport([], [], 0, {})
    try:
        for demonstration, failures in episodes:
            _add_episode(dataset, demonstration)
            report.seeds.append(demonstration.seed)
            report.failures.extend(failures)
            report.task_ids[demonstration.task] = demonstration.task_id
    except BaseException:
        dataset.writer.cancel_pending_videos()
        raise
    finally:
        dataset.finalize()
    frames = dataset.meta.total_frames
    (root / SHARD_FILE).write_text(json.dumps(asdict(report) | {"frames": frames}))


def _add_episode(dataset: RecordedDataset, demonstration: Demonstration) -> None:
    for t in range(len(demonstration)):
        row = {contract.image_key(name): frames[t] for name, frames in demonstration.images.items()}
        row[contract.STATE] = demonstration.state[t]
        row[contract.ACTION] = demonstration.action[t]
        row[contract.EE_POSE] = demonstration.ee_pose[t]
        if demonstration.visibility is not None:
            row[contract.VISIBILITY] = demonstration.visibility[t]
        if demonstration.contact is not None:
            row[contract.CONTACT] = demonstration.contact[t]
        dataset.add_frame(row | {"task": demonstration.task})
    dataset.save_episode()


def merge_shards(shards: list[Path], root: Path, repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """One dataset at `root` (absent so far) from complete shards, in order; returns its provenance."""
    be_quiet()
    reports = [read_report(shard) for shard in shards]
    with explained(root), temporary_files_in(root):
        aggregate_datasets(
            [repo_id] * len(shards), repo_id, roots=shards, aggr_root=root, video_files_size_in_mb=VIDEO_FILE_MB
        )
        _write_exact_stats(root)
        seeds = [seed for report in reports for seed in report.seeds]
        failures = [seed for report in reports for seed in report.failures]
        provenance = {
            **options,
            "episodes": len(seeds),
            "frames": sum(report.frames for report in reports),
            "attempts": len(seeds) + len(failures),
            "failures_left_out": len(failures),
            "failed_seeds": failures,
            "episode_seeds": seeds,
        }
        _check_complete(root, provenance)
        task_ids = {sentence: goal for report in reports for sentence, goal in report.task_ids.items()}
        (root / contract.TASK_IDS_FILE).write_text(json.dumps(task_ids, indent=1, sort_keys=True))
        (root / RECORDING_FILE).write_text(json.dumps(provenance, indent=1))
    return provenance


def _check_complete(root: Path, provenance: dict[str, Any]) -> None:
    info = load_info(root)
    found = {"episodes": info.total_episodes, "frames": info.total_frames}
    expected = {key: provenance[key] for key in found}
    if found != expected:
        raise PosaError(f"the shards hold {expected} but the merged dataset {found}: delete the shards")


def _write_exact_stats(root: Path) -> None:
    """Replace the statistics of the numeric columns by those of all rows together.

    LeRobot averages the quantiles of the episodes, which is not the quantile of the data: a gripper that
    closes late in every episode, for example, would get a median in between. Policies normalise by these.
    """
    stats = load_stats(root)
    paths = sorted(root.glob("data/*/*.parquet"))
    numeric = [key for key in stats if key in (contract.STATE, contract.ACTION, contract.EE_POSE, contract.CONTACT)]
    for key in numeric:
        columns = [np.stack(pd.read_parquet(path, columns=[key])[key].to_list()) for path in paths]
        stats[key] = column_stats(np.concatenate(columns))
    write_stats(stats, root)


def column_stats(values: np.ndarray) -> dict[str, np.ndarray]:
    """LeRobot's statistics of a column, (N, D) -> each (D,), `count` (1,)."""
    values = values.astype(np.float64)
    named = {f"q{round(100 * q):02d}": np.quantile(values, q, axis=0) for q in QUANTILES}
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **named,
    }


def be_quiet() -> None:
    """x264 reports on every episode and `datasets` draws a progress bar for each: one bar is enough."""
    av.logging.set_libav_level(av.logging.ERROR)
    datasets.disable_progress_bars()


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Make `tempfile`, which LeRobot's video concatenation uses, stay on the disk of the dataset."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk and a forbidden folder into one sentence; the encoder threads report only text."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            message = f"the disk is full while writing {path}: free some space, then run the same command"
            raise PosaError(f"{message} again to continue") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise PosaError(f"cannot write {path} ({os.strerror(number)}): choose another --output") from error
        raise
