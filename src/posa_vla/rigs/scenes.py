"""Scenes: where a rig's cameras stand in some of the episodes, when they do not stand in one place in all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from posa_vla.errors import PosaError


@dataclass(frozen=True)
class Scene:
    """Camera placements that hold for some tasks or some episodes.

    Args:
        name: for ``--scene=`` and messages.
        cam_from_mount: (4, 4) by camera name, as in `Camera`; cameras that it leaves out stand where the rig has them.
        tasks: sentences of the episodes it holds for; capitals, spaces and a full stop do not matter.
        episodes: first and last number of runs of episodes it holds for, both included: what a camera that was
            moved between two days of recording needs.
    """

    name: str
    cam_from_mount: dict[str, np.ndarray]
    tasks: tuple[str, ...] = ()
    episodes: tuple[tuple[int, int], ...] = field(default=())

    def __post_init__(self) -> None:
        for first, last in self.episodes:
            if first > last:
                raise PosaError(f"scene {self.name!r}: expected episodes as [first, last], got {[first, last]}")

    def holds_for(self, tasks: Iterable[str], episode: int) -> bool:
        mine = {plain(task) for task in self.tasks}
        by_number = any(first <= episode <= last for first, last in self.episodes)
        return by_number or any(plain(task) in mine for task in tasks)


def choose_scene(scenes: Sequence[Scene], tasks: Sequence[str], episode: int, rig: str) -> Scene:
    """The one scene that holds for an episode with these sentences."""
    fitting = [scene for scene in scenes if scene.holds_for(tasks, episode)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(scene.name for scene in scenes)
    sentence = " / ".join(tasks)
    if fitting:
        found = " and ".join(scene.name for scene in fitting)
        raise PosaError(
            f"episode {episode} ({sentence!r}) belongs to the scenes {found} of the rig {rig!r}: let one of them "
            "name it, or choose one for all episodes with --scene=NAME"
        )
    raise PosaError(
        f"episode {episode} ({sentence!r}) belongs to no scene of the rig {rig!r}, whose scenes are {names}: add the "
        "sentence to a scene's tasks, or choose one for all episodes with --scene=NAME"
    )


def plain(sentence: str) -> str:
    """A sentence without capitals, doubled spaces and a full stop at its end."""
    return " ".join(sentence.lower().split()).rstrip(".")
