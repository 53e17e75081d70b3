"""Where the hand was in every frame of a dataset, as its rig says."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.data.features import colour_cameras, image_sides
from posa_vla.data.label_episodes import EpisodeRows, split_episodes
from posa_vla.data.label_poses import hand_poses
from posa_vla.data.tables import read_columns, read_info
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig


@dataclass(frozen=True)
class EpisodePoses:
    """Args:
    world_from_ee: (N, 4, 4) of all rows.
    episodes: which rows are whose.
    """

    world_from_ee: np.ndarray
    episodes: list[EpisodeRows]

    def episode_of(self, row: int) -> EpisodeRows:
        """The episode that a row belongs to."""
        return next(item for item in self.episodes if row < item.rows.stop)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(N,) first and last row of each row's episode."""
        first, last = np.zeros(len(self.world_from_ee), int), np.zeros(len(self.world_from_ee), int)
        for episode in self.episodes:
            first[episode.rows], last[episode.rows] = episode.rows.start, episode.rows.stop - 1
        return first, last

    def row(self, episode: int, frame: int) -> int:
        for item in self.episodes:
            if item.number == episode:
                length = item.rows.stop - item.rows.start
                if not 0 <= frame < length:
                    raise PosaError(f"a mark names frame {frame} of episode {episode}, which has {length} frames")
                return item.rows.start + frame
        numbers = [item.number for item in self.episodes]
        raise PosaError(f"a mark names episode {episode}: the dataset has episodes {min(numbers)} to {max(numbers)}")


def read_poses(root: Path, rig: Rig) -> EpisodePoses:
    """Poses of every row by the rig's pose source; the tables are read, no picture is decoded."""
    info = read_info(root)
    key = rig.pose.column
    if key not in info["features"]:
        raise PosaError(f"{root} has no column {key!r} for the EE pose: its columns are {', '.join(info['features'])}")
    size = int(np.prod(info["features"][key]["shape"]))
    largest = max(rig.pose.indices)
    if largest >= size:
        raise PosaError(f"the EE pose is taken from {key}[{largest}], but {key} has {size} numbers")
    columns = read_columns(root, sorted({key, "episode_index", "frame_index"}))
    episodes = split_episodes(columns, info)
    return EpisodePoses(hand_poses(columns, rig.pose, episodes).matrix, episodes)


def image_size(root: Path, camera: str) -> tuple[int, int]:
    """Width and height of a camera's pictures in the dataset."""
    recorded = colour_cameras(read_info(root)["features"])
    if camera not in recorded:
        raise PosaError(f"{root} has no camera {camera!r}: its cameras are {', '.join(recorded) or 'none'}")
    height, width = image_sides(recorded[camera])
    return width, height


def rotation_spread(rotations: np.ndarray) -> np.ndarray:
    """(N, 3, 3) -> (3,) degrees: root mean square turning about the three principal axes, largest first."""
    turns = Rotation.from_matrix(rotations)
    vectors = (turns.mean().inv() * turns).as_rotvec(degrees=True)
    return np.linalg.svd(vectors, compute_uv=False) / np.sqrt(len(vectors))
