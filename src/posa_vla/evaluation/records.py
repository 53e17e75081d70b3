"""What is written down about one episode, and the file it goes to.

``episodes.jsonl`` holds one JSON object per line, appended as each episode ends, so that an interrupted
evaluation loses at most the episodes that were running.
"""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posa_vla.data.files import write_bytes
from posa_vla.errors import PosaError

SUCCESS, FAILURE, ERROR = "success", "failure", "error"


@dataclass(frozen=True)
class EnvOptions:
    """The environment's options, equal for every episode of an evaluation.

    Args:
        image_size: side of both square views in pixels.
        categories, colours: the object set; None for all.
        held_out: pairs that only the condition objects shows; None: as `sim.conditions.split_pairs` has it.
        num_distractors: other objects on the table.
        episode_length: control steps until an episode counts as failed; None: the family's own.
        family: what there is to do, one of `sim.families.FAMILIES`.
    """

    image_size: int = 128
    categories: tuple[str, ...] | None = None
    colours: tuple[str, ...] | None = None
    num_distractors: int = 4
    episode_length: int | None = None
    family: str = "pick"
    held_out: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Job:
    """One episode to run.

    Args:
        condition: a test condition of the environment.
        seed: the episode's seed; the environment, the policy's noise and every other draw follow from it.
        film: stem of the files to film it to (``.mp4``, ``.jpg``), or None.
    """

    condition: str
    seed: int
    film: str | None = None


@dataclass(frozen=True)
class Motion:
    """How an end effector moved in one episode: steps, path (m), log dimensionless jerk (None: undefined)."""

    steps: int
    path_length: float
    smoothness: float | None


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode's result; an `ERROR` is neither a success nor a failure and carries its message.

    Args:
        wrong_object: the other object that was lifted >= 10 cm at any step, or None.
        motion: of the policy; `expert`: of the scripted expert on the same scene (successes only).
        target_distance: least distance (m) between end effector and target; `other_distance`: to any other.
        target_rise: highest rise (m) of the target above its start.
        policy_seconds: wall-clock of the policy, its processors included; `env_seconds`: of the environment.
        chunk_seconds: wall-clock of each call of the policy in which it computed a chunk of actions.
        anchors: samples of predicted and true anchors (see `anchor_error.AnchorTrack`), or None.
        privileged: what the policy was given that no robot has, or None.
        stages: which stages of the task were reached, in order.
        mistake: the first of the family's known mistakes that was made (`Family.mistake`), or that an action was not
            finite, which ends the episode; None: neither.
    """

    condition: str
    seed: int
    outcome: str
    task: str = ""
    target: str = ""
    wrong_object: str | None = None
    motion: Motion | None = None
    expert: Motion | None = None
    target_distance: float | None = None
    other_distance: float | None = None
    target_rise: float | None = None
    policy_seconds: float = 0.0
    env_seconds: float = 0.0
    chunk_seconds: list[float] = field(default_factory=list)
    anchors: dict[str, Any] | None = None
    privileged: str | None = None
    message: str | None = None
    attempts: int = field(default=1)
    stages: dict[str, bool] = field(default_factory=dict)
    mistake: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.condition, self.seed

    def same_episode(self, other: "EpisodeRecord") -> bool:
        """Whether both records tell of the same movement; times and re-queues may differ."""
        mine, theirs = (dataclasses.replace(record, **_NOT_THE_MOVEMENT) for record in (self, other))
        return mine == theirs


_NOT_THE_MOVEMENT: dict[str, Any] = {
    "policy_seconds": 0.0,
    "env_seconds": 0.0,
    "chunk_seconds": [],
    "anchors": None,
    "expert": None,
    "attempts": 1,
}


def to_json(record: EpisodeRecord) -> dict[str, Any]:
    return dataclasses.asdict(record)


def from_json(data: dict[str, Any]) -> EpisodeRecord:
    data = dict(data)
    for name in ("motion", "expert"):
        data[name] = Motion(**data[name]) if data.get(name) else None
    return EpisodeRecord(**data)


def append_record(path: Path, record: EpisodeRecord) -> None:
    """One complete line, on disk before this returns."""
    line = json.dumps(to_json(record), allow_nan=False) + "\n"
    try:
        with open(path, "a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _cannot_write(path, error) from error


def read_records(path: Path) -> dict[tuple[str, int], EpisodeRecord]:
    """The episodes of a file by (condition, seed); a later line wins, so a repeated error is replaced.

    A last line without its newline is what a kill while writing leaves: it is cut off, the episode runs again.
    Any other unreadable line is not ours to repair.
    """
    if not path.exists():
        return {}
    text = path.read_text()
    complete, _, torn = text.rpartition("\n")
    if torn:
        write_atomically(path, complete + "\n" if complete else "")
    records = {}
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            record = from_json(json.loads(line))
        except (ValueError, TypeError) as error:
            raise PosaError(
                f"line {number} of {path} is not an episode record ({error}): "
                "remove the file or choose another --output"
            ) from error
        records[record.key] = record
    return records


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step: a reader or a full disk never sees half a file."""
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> PosaError:
    return PosaError(f"cannot write {path} ({error.strerror}): free space or choose another --output")
