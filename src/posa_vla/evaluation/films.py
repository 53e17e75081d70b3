"""Which episodes are filmed, and filming them.

Nobody knows an outcome beforehand, so the chosen episodes are played again with the camera on. Equal seeds give
equal episodes; whether that held is written down with each film.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from posa_vla.evaluation.metrics import failure_reason
from posa_vla.evaluation.pool import WorkerPool
from posa_vla.evaluation.records import ERROR, FAILURE, SUCCESS, EpisodeRecord, Job
from posa_vla.evaluation.rollout import run_episodes

FOLDER = "videos"


def choose(records: Sequence[EpisodeRecord], per_condition: int) -> list[EpisodeRecord]:
    """Successes and failures half and half as far as there are, spread over targets and ways to fail."""
    chosen: list[EpisodeRecord] = []
    for condition in dict.fromkeys(record.condition for record in records):
        own = [record for record in records if record.condition == condition]
        solved = _varied([r for r in own if r.outcome == SUCCESS], lambda r: r.task)
        failed = _varied([r for r in own if r.outcome == FAILURE], failure_reason)
        failures = min(len(failed), max(per_condition // 2, per_condition - len(solved)))
        chosen += solved[: per_condition - failures] + failed[:failures]
    return chosen


def _varied(records: list[EpisodeRecord], kind: Any) -> list[EpisodeRecord]:
    """First one of every kind in order of the seeds, then the rest."""
    seen: dict[Any, EpisodeRecord] = {}
    for record in records:
        seen.setdefault(kind(record), record)
    first = list(seen.values())
    return first + [record for record in records if record not in first]


def film_episodes(
    records: Sequence[EpisodeRecord], pool: WorkerPool, output: Path, per_condition: int
) -> list[dict[str, Any]]:
    """Film the chosen episodes into OUTPUT/videos; what is already there stays."""
    chosen = choose(records, per_condition)
    films = {record.key: _entry(record) for record in chosen}
    missing = [record for record in chosen if not _complete(output, films[record.key])]
    jobs = [Job(r.condition, r.seed, str(output / FOLDER / f"{r.condition}-{r.seed}")) for r in missing]
    by_key = {record.key: record for record in missing}
    with tqdm(total=len(jobs), desc="film", unit="episode", disable=not jobs) as bar:
        for again in run_episodes(jobs, pool):
            films[again.key]["reproduced"] = by_key[again.key].same_episode(again)
            if again.outcome == ERROR:
                bar.write(f"no film of {again.condition} seed {again.seed}: {again.message}")
            bar.update()
    return [film for film in films.values() if _complete(output, film)]


def _entry(record: EpisodeRecord) -> dict[str, Any]:
    stem = f"{FOLDER}/{record.condition}-{record.seed}"
    return {
        "condition": record.condition,
        "seed": record.seed,
        "task": record.task,
        "outcome": record.outcome,
        "reason": failure_reason(record) if record.outcome == FAILURE else None,
        "steps": record.motion.steps if record.motion else None,
        "video": f"{stem}.mp4",
        "strip": f"{stem}.jpg",
        "reproduced": None,  # known once the episode has been played again in this run
    }


def _complete(output: Path, film: dict[str, Any]) -> bool:
    return all((output / film[kind]).is_file() for kind in ("video", "strip"))
