"""Batches from a frame cache, gathered by index: a pure function of (seed, step, rank)."""

import warnings
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from posa_vla import contract
from posa_vla.data.cache import FrameCache
from posa_vla.data.sampling import EpochSampler, split_episodes
from posa_vla.errors import PosaError, unknown_name

LABELS = (contract.ANCHORS, contract.STEPS_TO_INTERACTION)
OBSERVATION_COLUMNS = (contract.STATE, *LABELS)
"""Delivered where the dataset has them."""

INDEX_KEYS = ("index", "episode_index", "frame_index", contract.TASK_INDEX)
SPLITS = ("train", "val", "all")


class BatchSource:
    """Draws training batches; equal (seed, step, rank) give equal batches in any process.

    Batches hold LeRobot's keys: images uint8 (B, 3, H, W) in channels-last memory, one entry per camera so that
    sizes may differ; ``observation.state`` (B, S); ``action`` (B, T, A) in the dataset's units with the
    episode's first and last action repeated beyond its borders, marked in ``action_is_pad`` (B, T); anchors
    (B, C, 2, 4) and steps_to_interaction (B, 1) where the dataset is labelled; ``task`` list[str]; `INDEX_KEYS`
    (B,); and ``task_id`` (B,), the goal that the sentence means.

    With `observation_deltas`, every ``observation.*`` gains a time axis after the batch's, (B, O, ...), beside an
    ``observation.*_is_pad`` (B, O): LeRobotDataset's delta_timestamps, frame by frame.

    Args:
        cache: the frames.
        batch_size: samples per rank and step, B.
        chunk_size: actions per sample, T.
        first_action: the chunk's first action, in steps from the current frame: below 0 for policies whose chunk
            begins with their oldest observation.
        observation_deltas: O frames to show, in steps from the current one, such as (-1, 0); None: that one,
            without a time axis.
        device: where batches are delivered.
        seed: of the sampling order; the split does not depend on it.
        rank, world_size: this process among those that train together.
        sampler: "uniform" or "task_balanced", see `EpochSampler`.
        group: samples of one goal that stay together under "task_balanced".
        resident: keep all frames in the memory of `device` instead of gathering them from disk.
        cameras: camera names to deliver; None for all.
        split: "train", "val" or "all" episodes.
        val_fraction: share of the episodes held out for "val".
        exclude_episodes: episodes never drawn, whatever the split.
        after_interaction: share of the frames after an episode's last interaction that each epoch shows. They
            have no task anchor and little to learn (lift and hold), yet may be half of a dataset.
        drop_last_frames: frames at each episode's end that are never the current one (LeRobot's
            ``drop_n_last_frames``).
        labels: deliver `LABELS`.
    """

    def __init__(
        self,
        cache: FrameCache,
        batch_size: int,
        chunk_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        sampler: str = "uniform",
        group: int = 4,
        resident: bool = False,
        cameras: Sequence[str] | None = None,
        split: str = "train",
        val_fraction: float = 0.0,
        exclude_episodes: Collection[int] = (),
        after_interaction: float = 1.0,
        observation_deltas: Sequence[int] | None = None,
        first_action: int = 0,
        drop_last_frames: int = 0,
        labels: bool = True,
    ):
        if chunk_size < 1:
            raise PosaError(f"chunk_size must be at least 1, found {chunk_size}")
        self.cache, self.chunk_size, self.device = cache, chunk_size, torch.device(device)
        self.observation_deltas = None if observation_deltas is None else np.asarray(observation_deltas, np.int64)
        self.action_deltas = first_action + np.arange(chunk_size)
        self.episodes = _choose_episodes(cache, split, val_fraction, exclude_episodes)
        bounds = cache.episode_bounds
        rows = _rows(bounds[self.episodes], drop_last_frames)
        goals = cache.task_ids[cache.columns[contract.TASK_INDEX][rows]]
        spare = _after_interaction(cache, rows) if after_interaction < 1.0 else None
        self.sampler = EpochSampler(
            rows, goals, batch_size, seed, rank, world_size, sampler, group, spare, after_interaction
        )
        self._episode_bounds = np.repeat(bounds, np.diff(bounds)[:, 0], axis=0)  # (N, 2)
        self._images = {name: self._frames(name, resident) for name in self._camera_names(cameras)}
        self._columns = {
            key: torch.from_numpy(_in_contract_dtype(key, cache.columns[key])).to(self.device)
            for key in (*OBSERVATION_COLUMNS, *INDEX_KEYS, contract.ACTION)
            if key in cache.columns and (labels or key not in LABELS)
        }
        if contract.ACTION not in self._columns:
            raise PosaError(f"{cache.root}: expected a column {contract.ACTION!r}, found {sorted(cache.columns)}")

    @property
    def num_frames(self) -> int:
        """Frames that are drawn from."""
        return len(self.sampler.rows)

    @property
    def steps_per_epoch(self) -> float:
        return self.sampler.steps_per_epoch

    def batch(self, step: int) -> dict[str, Tensor | list[str]]:
        """The batch of this rank at `step`, counted from 0."""
        return self.gather(self.sampler.batch_rows(step))

    def gather(self, rows: np.ndarray) -> dict[str, Tensor | list[str]]:
        """The samples at `rows` (B,) of the dataset, in that order."""
        seen, seen_pad = rows, None
        if self.observation_deltas is not None:
            seen, seen_pad = self._around(rows, self.observation_deltas)  # (B, O)
        batch: dict[str, Tensor | list[str]] = {
            self.cache.image_keys[name]: self._gather_images(frames, seen) for name, frames in self._images.items()
        }
        seen_index, index = (torch.from_numpy(part).to(self.device) for part in (seen, rows))
        for key, column in self._columns.items():
            if key != contract.ACTION:
                batch[key] = column[seen_index if key in OBSERVATION_COLUMNS else index]
        if seen_pad is not None:
            observed = [key for key in batch if key not in INDEX_KEYS]
            batch |= {f"{key}_is_pad": torch.from_numpy(seen_pad).to(self.device) for key in observed}
        chunk, chunk_pad = self._around(rows, self.action_deltas)  # (B, T)
        batch[contract.ACTION] = self._columns[contract.ACTION][torch.from_numpy(chunk).to(self.device)]
        batch[f"{contract.ACTION}_is_pad"] = torch.from_numpy(chunk_pad).to(self.device)
        sentences = self.cache.columns[contract.TASK_INDEX][rows]
        batch["task_id"] = torch.from_numpy(self.cache.task_ids[sentences]).to(self.device)
        batch["task"] = [self.cache.tasks[sentence] for sentence in sentences]
        return batch

    def _around(self, rows: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (B, D) at `deltas` (D,) steps from `rows` (B,), held inside the episode; and where that was needed."""
        wanted = rows[:, None] + deltas
        first, end = self._episode_bounds[rows, :1], self._episode_bounds[rows, 1:]
        inside = np.clip(wanted, first, end - 1)
        return inside, inside != wanted

    def _camera_names(self, cameras: Sequence[str] | None) -> list[str]:
        for name in cameras or ():
            if name not in self.cache.images:
                raise unknown_name("camera", name, self.cache.images)
        return list(self.cache.images if cameras is None else cameras)

    def _frames(self, camera: str, resident: bool) -> Tensor:
        """(N, H, W, 3) uint8, on the device or mapped from disk."""
        mapped = np.asarray(self.cache.images[camera])
        if not resident:
            return _read_only_tensor(mapped)
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if mapped.nbytes > free:
                raise PosaError(
                    f"the frames of camera {camera} take {mapped.nbytes:,} bytes where the GPU has {free:,} free: "
                    "keep them on disk with resident=false"
                )
        return _read_only_tensor(mapped).to(self.device, copy=True)

    def _gather_images(self, frames: Tensor, rows: np.ndarray) -> Tensor:
        """(*rows.shape, 3, H, W) uint8 on the device, channels-last in memory."""
        flat = torch.from_numpy(rows.reshape(-1)).to(frames.device)
        gathered = frames.index_select(0, flat)  # (B·O, H, W, 3)
        if gathered.device != self.device:
            # Pinned memory lets the copy overlap with the step that is running.
            pinned = self.device.type == "cuda" and gathered.device.type == "cpu"
            gathered = gathered.pin_memory() if pinned else gathered
            gathered = gathered.to(self.device, non_blocking=True)
        return gathered.unflatten(0, rows.shape).movedim(-1, -3)


def _in_contract_dtype(key: str, column: np.ndarray) -> np.ndarray:
    """The column as the contract has it: whole numbers for `INDEX_KEYS`, float32 for all else.

    Datasets hold states and actions in float64 or integers too; LeRobot's loader hands those over as float32.
    """
    return column if key in INDEX_KEYS else column.astype(np.float32, copy=False)


def _read_only_tensor(array: np.ndarray) -> Tensor:
    """A tensor over read-only memory: torch warns of writing to it, which nothing here does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(array)


def _rows(bounds: np.ndarray, drop_last: int) -> np.ndarray:
    """Rows of the episodes (E, 2), without the last `drop_last` of each."""
    if drop_last < 0:
        raise PosaError(f"drop_last_frames must be at least 0, found {drop_last}")
    rows = np.concatenate([np.arange(first, end - drop_last) for first, end in bounds] or [np.arange(0)])
    if len(bounds) and len(rows) == 0:
        raise PosaError(
            f"leaving out the last {drop_last} frames of each episode leaves none of {len(bounds)} episodes: lower "
            "drop_n_last_frames"
        )
    return rows


def _after_interaction(cache: FrameCache, rows: np.ndarray) -> np.ndarray:
    """(N,) bool: no interaction lies ahead of the row."""
    if contract.STEPS_TO_INTERACTION not in cache.columns:
        raise PosaError(
            f"{cache.root}: after_interaction below 1 needs the column {contract.STEPS_TO_INTERACTION!r}: label the "
            "dataset with posa-vla label, or leave the option at 1"
        )
    return cache.columns[contract.STEPS_TO_INTERACTION][rows].reshape(-1) < 0


def _choose_episodes(cache: FrameCache, split: str, val_fraction: float, exclude: Collection[int]) -> np.ndarray:
    """Positions of the episodes to draw from."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    absent = sorted(set(exclude) - set(range(cache.num_episodes)))
    if absent:
        raise PosaError(f"exclude_episodes names {absent}, the dataset has episodes 0 to {cache.num_episodes - 1}")
    train, val = split_episodes(cache.num_episodes, val_fraction)
    chosen = {"train": train, "val": val, "all": np.arange(cache.num_episodes)}[split]
    if split == "val" and len(val) == 0:
        raise PosaError("the val split is empty: set val_fraction above 0")
    return chosen[~np.isin(chosen, list(exclude))]
