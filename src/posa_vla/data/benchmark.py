"""``posa-vla bench cache``: training samples per second from the frame cache and from LeRobot's own loader.

Both sides deliver shuffled batches of the same dataset with every camera's image (B, 3, H, W), the state, the
action chunk (B, T, A) and its padding mask, on the CPU and in the same dtype. LeRobot's loader is measured as
lerobot-train uses it, a torch DataLoader over LeRobotDataset, each worker count in a fresh process: a decoder
opened before a fork would spoil the workers' reads. Starting workers and the first batches are not counted.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import torch
from tqdm import tqdm

from posa_vla.contract import ACTION
from posa_vla.data.batches import BatchSource
from posa_vla.data.cache import DatasetArgs, FrameCache, build_cache
from posa_vla.data.files import write_json

BAR = 100.0
"""Samples per second of the cache over the loader's best, that the project promises."""

FLOAT_CHUNK = 4
"""Images converted to float at a time."""

DTYPES = ("float32", "uint8")


@dataclass
class BenchmarkConfig:
    """Measures samples/s of the frame cache beside LeRobotDataset in a DataLoader.

    Args:
        dataset: the dataset, `--dataset.root=DIR`; video-backed to compare with the promise.
        cache: folder of its frame cache, built first if absent; by default DIR.cache.
        batch_size: samples per batch.
        chunk_size: actions per sample.
        seconds: measured time of each setting, in seconds.
        workers: numbers of DataLoader workers to try.
        output: JSON file for the numbers.
    """

    dataset: DatasetArgs
    cache: Path | None = None
    batch_size: int = 64
    chunk_size: int = 16
    seconds: float = 8.0
    workers: tuple[int, ...] = (0, 1, 2)
    output: Path | None = None


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=BenchmarkConfig, args=argv)
    cache = FrameCache.open(build_cache(config.dataset.root, config.cache))
    results = []
    for dtype in DTYPES:
        # The cache is timed before and after the loader and the slower run counts: other load comes and goes.
        before = measure_cache(cache, config, dtype)
        loader = {workers: _in_fresh_process(config, dtype, workers) for workers in config.workers}
        after = measure_cache(cache, config, dtype)
        results.append({"dtype": dtype, "cache": min(before, after), "loader": loader})
    print(_table(config, cache, results))
    if config.output:
        write_json(config.output, {"config": draccus.encode(config), "results": results})
    return 0


def measure_cache(cache: FrameCache, config: BenchmarkConfig, dtype: str) -> float:
    """Samples per second of `BatchSource`."""
    source = BatchSource(cache, config.batch_size, config.chunk_size)
    keys = list(cache.image_keys.values())
    # Written anew at every step: a training step has used its images when the next batch is drawn.
    floats = {
        key: torch.empty(source.batch(0)[key].shape, memory_format=torch.channels_last)  # type: ignore[union-attr]
        for key in keys
    }

    def batches() -> Iterator[dict[str, Any]]:
        step = 0
        while True:
            batch: dict[str, Any] = source.batch(step)
            if dtype == "float32":
                batch |= {key: _to_float(batch[key], floats[key]) for key in keys}
            yield batch
            step += 1

    return _samples_per_second(batches(), config, dtype, keys, warm_up=5)


def _to_float(images: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) as float32 in [0, 1], a few images at a time so that they stay in the CPU's caches."""
    for start in range(0, len(images), FLOAT_CHUNK):
        part = slice(start, start + FLOAT_CHUNK)
        out[part].copy_(images[part]).mul_(1 / 255)
    return out


def measure_loader(config: BenchmarkConfig, dtype: str, workers: int) -> float:
    """Samples per second of LeRobotDataset in a DataLoader; call it in a process that has opened no decoder."""
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    fps = LeRobotDatasetMetadata("local/benchmark", root=config.dataset.root).fps
    dataset = LeRobotDataset(
        "local/benchmark",
        root=config.dataset.root,
        return_uint8=dtype == "uint8",
        delta_timestamps={ACTION: [t / fps for t in range(config.chunk_size)]},
    )
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=len(dataset) > config.batch_size,
        persistent_workers=workers > 0,
    )

    def batches() -> Iterator[dict[str, Any]]:
        while True:
            yield from loader

    return _samples_per_second(batches(), config, dtype, dataset.meta.camera_keys, warm_up=2 * max(workers, 1))


def _samples_per_second(
    batches: Iterator[dict[str, Any]], config: BenchmarkConfig, dtype: str, keys: list[str], warm_up: int
) -> float:
    """Times whole batches for at least `config.seconds`, after checking that they are what is compared."""
    for _ in range(warm_up):
        batch = next(batches)
    for key in keys:
        if batch[key].dtype != getattr(torch, dtype):
            raise RuntimeError(f"{key}: expected {dtype}, got {batch[key].dtype}")
    if batch[ACTION].shape[1] != config.chunk_size:
        raise RuntimeError(f"expected chunks of {config.chunk_size}, got {tuple(batch[ACTION].shape)}")
    samples, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < config.seconds:
        samples += len(next(batches)[ACTION])
    return samples / elapsed


def _in_fresh_process(config: BenchmarkConfig, dtype: str, workers: int) -> float:
    """`measure_loader` in a spawned process, which may itself fork workers."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    arguments: tuple[Any, ...] = (sender, measure_loader, config, dtype, workers)
    process = multiprocessing.get_context("spawn").Process(target=_send_result, args=arguments)
    process.start()
    sender.close()
    with tqdm(total=0, desc=f"LeRobot, {dtype}, {workers} workers", bar_format="{desc} {elapsed}"):
        try:
            result = receiver.recv()
        except EOFError:
            result = None
    process.join()
    if result is None:
        raise RuntimeError(f"the loader's process ended with status {process.exitcode}")
    return result


def _send_result(sender: Any, measure: Callable[..., float], *arguments: Any) -> None:
    sender.send(measure(*arguments))


def _table(config: BenchmarkConfig, cache: FrameCache, results: list[dict[str, Any]]) -> str:
    shapes = ", ".join(f"{name} {images.shape[1]}×{images.shape[2]}" for name, images in cache.images.items())
    kind = {cache.features[key]["dtype"] for key in cache.image_keys.values()}
    lines = [
        f"{config.dataset.root}: {cache.num_frames} frames, {'/'.join(sorted(kind))}, {shapes}",
        f"batch {config.batch_size}, chunk {config.chunk_size}, {torch.get_num_threads()} torch thread(s), "
        f"frames in the page cache, {config.seconds:g} s each; samples/s:",
        f"{'images':<9}{'frame cache':>12}"
        + "".join(f"{f'loader, {w} w':>14}" for w in config.workers)
        + f"{'ratio':>8}",
    ]
    for result in results:
        ratio = result["cache"] / max(result["loader"].values())
        lines.append(
            f"{result['dtype']:<9}{result['cache']:>12,.0f}"
            + "".join(f"{result['loader'][w]:>14,.1f}" for w in config.workers)
            + f"{ratio:>7.0f}×"
            + ("" if ratio >= BAR else f"  below the promised {BAR:g}×")
        )
    return "\n".join(lines)


__all__ = ["BenchmarkConfig", "main", "measure_cache", "measure_loader"]
