"""The rows of each episode in the tables, and the rig as it stands in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.contract import TASK_INDEX
from posa_vla.data.tasks import read_sentences
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig
from posa_vla.rigs.scenes import choose_scene


@dataclass(frozen=True)
class EpisodeRows:
    """One episode's number and its rows in the tables."""

    number: int
    rows: slice


def split_episodes(columns: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> list[EpisodeRows]:
    """Runs of equal episode_index, each counting its frames from 0."""
    numbers, frames = columns["episode_index"][:, 0], columns["frame_index"][:, 0]
    if len(numbers) != info["total_frames"]:
        raise PosaError(
            f"meta/info.json promises {info['total_frames']} frames, the tables hold {len(numbers)}: the dataset "
            "is incomplete, copy or record it again"
        )
    starts = np.append(0, np.flatnonzero(np.diff(numbers)) + 1)
    stops = np.append(starts[1:], len(numbers))
    if len(np.unique(numbers)) != len(starts):
        raise PosaError("an episode's rows are not consecutive in the tables: the dataset is damaged")
    expected = np.arange(len(numbers)) - np.repeat(starts, stops - starts)
    if not np.array_equal(frames, expected):
        row = int(np.argmax(frames != expected))
        raise PosaError(
            f"episode {numbers[row]} has frame {frames[row]} where {expected[row]} was expected: the dataset is "
            "damaged, copy or record it again"
        )
    return [
        EpisodeRows(int(numbers[start]), slice(int(start), int(stop)))
        for start, stop in zip(starts, stops, strict=True)
    ]


def rig_of_each_episode(
    rig: Rig, root: Path, columns: Mapping[str, np.ndarray], episodes: list[EpisodeRows]
) -> list[Rig]:
    """The rig as it stands in each episode: by its sentences and number where the rig has scenes."""
    if not rig.scenes:
        return [rig] * len(episodes)
    sentences = read_sentences(root)
    placed = {name: rig.in_scene(name) for name in rig.scene_names}
    chosen = []
    for episode in episodes:
        numbers = np.unique(columns[TASK_INDEX][episode.rows])
        tasks = [sentences.get(int(number), f"task {number}") for number in numbers]
        chosen.append(placed[choose_scene(rig.scenes, tasks, episode.number, rig.name).name])
    return chosen


def refuse_rows(bad: np.ndarray | np.bool, episodes: list[EpisodeRows], what: str) -> None:
    """Nothing where no row is bad.

    Args:
        bad: (N,) bool.
        episodes: the rows of each.
        what: is wrong with them, as the sentence begins.

    Raises:
        PosaError: names the first bad row's episode and frame, and how many there are.
    """
    if not bad.any():
        return
    row = int(np.argmax(bad))
    episode = next(item for item in episodes if row < item.rows.stop)
    raise PosaError(
        f"{what} at episode {episode.number}, frame {row - episode.rows.start} ({int(bad.sum())} frames in all): "
        "repair or remove the episode, or correct the rig"
    )
