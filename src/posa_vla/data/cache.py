"""The frame cache: a dataset decoded once into memory-mapped arrays, and the command that builds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import numpy as np

from posa_vla import contract
from posa_vla.data.cache_build import build_cache, default_cache_root
from posa_vla.data.manifest import damaged, read_manifest, verify_checksums
from posa_vla.data.source import dataset_fingerprint
from posa_vla.errors import PosaError

__all__ = ["FrameCache", "build_cache", "default_cache_root", "main"]


@dataclass(frozen=True)
class FrameCache:
    """Every frame and every column of a dataset, N frames in the dataset's order; read-only.

    Args:
        root: the cache's folder.
        images: by camera name, uint8 (N, H, W, 3) RGB; cameras may differ in size.
        image_keys: by camera name, the key of the dataset's feature.
        columns: by key, (N, *shape); LeRobot's own index columns and timestamp are (N,).
        tasks: sentences by task_index.
        task_ids: (len(tasks),) int64, the goal that each sentence means.
        stats: by key, as LeRobotDatasetMetadata.stats.
        features: as LeRobotDatasetMetadata.features.
        fps: frames per second.
        fingerprint: of the dataset that was decoded.
    """

    root: Path
    images: dict[str, np.memmap]
    image_keys: dict[str, str]
    columns: dict[str, np.ndarray]
    tasks: list[str]
    task_ids: np.ndarray
    stats: dict[str, dict[str, np.ndarray]]
    features: dict[str, dict[str, Any]]
    fps: float
    fingerprint: str

    @classmethod
    def open(cls, root: Path, dataset_root: Path | None = None, verify: bool = False) -> "FrameCache":
        """Maps the cache at `root`; the sizes of its files are always checked.

        Args:
            root: the cache's folder.
            dataset_root: given, the cache must have been built from this dataset as it is now.
            verify: read every byte and compare the checksums, about a second per two gigabytes.

        Raises:
            PosaError: absent, damaged, or of another state of the dataset.
        """
        root = Path(root)
        manifest = read_manifest(root)
        if dataset_root is not None and dataset_fingerprint(dataset_root) != manifest["fingerprint"]:
            raise PosaError(
                f"the dataset {dataset_root} has changed since the frame cache {root} was built: "
                f"run posa-vla cache --dataset.root={dataset_root} --output={root}"
            )
        if verify:
            verify_checksums(root, manifest)
        entries = {contract.camera_name(entry["key"]): entry for entry in manifest["images"].values()}
        images = {
            name: np.memmap(root / entry["file"], np.uint8, mode="r", shape=tuple(entry["shape"]))
            for name, entry in entries.items()
        }
        return cls(
            root=root,
            images=images,
            image_keys={name: entry["key"] for name, entry in entries.items()},
            columns={key: _load_column(root, entry) for key, entry in manifest["columns"].items()},
            tasks=manifest["tasks"],
            task_ids=np.asarray(manifest["task_ids"], np.int64),
            stats={k: {n: np.asarray(v) for n, v in s.items()} for k, s in manifest["stats"].items()},
            features={k: {**f, "shape": tuple(f["shape"])} for k, f in manifest["features"].items()},
            fps=manifest["fps"],
            fingerprint=manifest["fingerprint"],
        )

    @property
    def num_frames(self) -> int:
        return len(self.columns["index"])

    @property
    def num_episodes(self) -> int:
        return len(self.episode_bounds)

    @property
    def episode_bounds(self) -> np.ndarray:
        """(E, 2) int64: first row and one past the last row of each episode, in the dataset's order."""
        starts = np.flatnonzero(np.diff(self.columns["episode_index"], prepend=-1))
        return np.stack([starts, np.append(starts[1:], self.num_frames)], axis=1)

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return sum(images.nbytes for images in self.images.values())


def _load_column(root: Path, entry: dict[str, Any]) -> np.ndarray:
    """Read whole: columns are small beside the frames and are indexed at every step."""
    try:
        array = np.load(root / entry["file"], allow_pickle=False)
    except (OSError, ValueError) as error:
        raise damaged(root, f"{entry['file']} cannot be read ({error})") from error
    if array.shape != tuple(entry["shape"]) or str(array.dtype) != entry["dtype"]:
        raise damaged(root, f"{entry['file']} holds {array.dtype} {array.shape}")
    return array


@dataclass
class DatasetArgs:
    """Args:
    root: folder of the LeRobotDataset v3.
    """

    root: Path


@dataclass
class CacheConfig:
    """Decodes a LeRobotDataset once into memory-mapped frames; does nothing if that is up to date.

    Args:
        dataset: the dataset, `--dataset.root=DIR`.
        output: folder of the cache; by default DIR.cache beside the dataset.
        workers: files decoded at a time; by default one per CPU.
        verify: read the finished cache back and compare every checksum.
        rebuild: build it again even if it is up to date.
    """

    dataset: DatasetArgs
    output: Path | None = None
    workers: int | None = None
    verify: bool = False
    rebuild: bool = False


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=CacheConfig, args=argv)
    if config.workers is not None and config.workers < 1:
        raise PosaError(f"--workers must be at least 1, found {config.workers}")
    root = build_cache(config.dataset.root, config.output, config.workers, config.rebuild)
    cache = FrameCache.open(root, verify=config.verify)
    print(
        f"{root}: {cache.num_frames} frames of {cache.num_episodes} episodes, cameras {', '.join(cache.images)}, "
        f"{cache.nbytes / 1e9:.2f} GB{', checksums verified' if config.verify else ''}"
    )
    return 0
