"""``posa-vla eval``: run seeded episodes of a policy, write JSON, a table of the episodes and one HTML report."""

import dataclasses
import hashlib
import json
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import draccus
from draccus.utils import DecodingError
from tqdm import tqdm

from posa_vla import reference
from posa_vla.contract import OBS_IMAGES, camera_name
from posa_vla.data.files import alone_in
from posa_vla.errors import PosaError
from posa_vla.evaluation import held_out, provenance
from posa_vla.evaluation.episode_table import episodes_csv
from posa_vla.evaluation.films import film_episodes
from posa_vla.evaluation.metrics import summarise
from posa_vla.evaluation.pool import WorkerPool
from posa_vla.evaluation.records import (
    ERROR,
    EnvOptions,
    EpisodeRecord,
    Job,
    append_record,
    read_records,
    to_json,
    write_atomically,
)
from posa_vla.evaluation.report import write_report
from posa_vla.evaluation.rollout import Setup, check_conditions, check_options, make_jobs, run_episodes, worker_pool
from posa_vla.evaluation.runner import WEIGHTS, PolicySource, image_size, policy_folder, read_config
from posa_vla.evaluation.training_anchors import mean_anchors
from posa_vla.options import listed, names

EPISODES, HEADER, RESULTS, REPORT = "episodes.jsonl", "evaluation.json", "results.json", "report.html"
TABLE = "episodes.csv"


@dataclass
class PolicyArgs:
    """The policy to run.

    Args:
        path: LeRobot's ``pretrained_model`` folder of any policy; ``reference`` is the one shipped with the package.
        device: torch device; an accelerator where there is one if not given.
    """

    path: Path
    device: str | None = None

    def __post_init__(self) -> None:
        self.path = reference.resolve(self.path)


@dataclass
class DatasetArgs:
    """The labelled training dataset, for the constant baseline of the anchor errors.

    Args:
        root: its folder; without it the baseline is the mean over the evaluated scenes.
    """

    root: Path | None = None


@dataclass
class EvalConfig:
    """Run seeded episodes in parallel processes; write DIR/results.json, DIR/episodes.csv and DIR/report.html.

    Args:
        policy: the policy to run.
        output: folder of the results; an interrupted evaluation in it goes on.
        conditions: comma-separated test conditions, each optionally with its own number of episodes
            (basic:200,lights:20); all five if not given.
        episodes: episodes of each other condition, with seeds seed, seed + 1, …
        seed: first episode seed; everything random in an episode follows from its seed.
        split: the environment's seed range: eval for reported numbers, val for tuning.
        workers: parallel processes, one thread each.
        videos_per_condition: episodes filmed for the report, successes and failures.
        n_action_steps: actions executed of each predicted chunk; the checkpoint's own if not given.
        integration_steps: steps from noise to a chunk, for policies that take such; the checkpoint's own if not given.
        attention_every: steps between two samples of the anchor error; 0 for none.
        expert: compare with the scripted expert on the solved scenes.
        image_size: side of the camera views in pixels; the checkpoint's own if not given.
        categories: comma-separated object categories; all if not given.
        colours: comma-separated object colours; all if not given.
        held_out: comma-separated pairs (cyan cube,purple bottle) that the condition objects names and no other shows;
            those that follow from categories and colours if not given, so repeat what the recording was given.
        num_distractors: other objects on the table.
        episode_length: steps until an episode counts as failed; the family's own if not given.
        family: what there is to do: pick, box, place …; an unknown name lists them all.
        dataset: the labelled training dataset (for the constant baseline).
    """

    policy: PolicyArgs
    output: Path
    conditions: str | None = None
    episodes: int = 200
    seed: int = 0
    split: str = "eval"
    workers: int = 2
    videos_per_condition: int = 4
    n_action_steps: int | None = None
    integration_steps: int | None = None
    attention_every: int = 10
    expert: bool = True
    image_size: int | None = None
    categories: str | None = None
    colours: str | None = None
    held_out: str | None = None
    num_distractors: int = 4
    episode_length: int | None = None
    family: str = "pick"
    dataset: DatasetArgs = field(default_factory=DatasetArgs)


def main(argv: list[str]) -> int:
    try:
        config = draccus.parse(config_class=EvalConfig, args=argv)
    except DecodingError as error:
        raise PosaError(f"{error}: posa-vla eval --help lists the options") from error
    results = run(config, "posa-vla eval " + shlex.join(argv))
    print(brief(results))
    print(f"report: {config.output / REPORT}")
    errors = [record["message"] for record in results["records"] if record["outcome"] == ERROR]
    if errors:
        raise PosaError(
            f"{len(errors)} of {len(results['records'])} episodes ended in an error and count nowhere, the first in "
            f"{errors[0]}: with its cause gone, run this again, which repeats these alone"
        )
    return 0


def run(config: EvalConfig, command: str, setup: Setup | None = None) -> dict[str, Any]:
    """The whole command; `setup` replaces policy and environment (for tests)."""
    _check_numbers(config)
    episodes = episodes_by_condition(config)
    setup = setup or _setup(config)
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PosaError(
            f"cannot make the folder {config.output} ({error.strerror}): choose another --output"
        ) from error
    with alone_in(config.output, f"evaluating into {config.output}"):
        return _run(config, command, setup, episodes)


def _run(config: EvalConfig, command: str, setup: Setup, episodes: dict[str, int]) -> dict[str, Any]:
    from posa_vla.sim.conditions import OBJECTS

    header = _header(config, setup)
    _same_evaluation(config.output / HEADER, header)
    means = mean_anchors(config.dataset.root, _cameras(config.policy.path)) if config.dataset.root else None
    if config.dataset.root and OBJECTS in episodes:
        warning = held_out.warning_of_known_pairs(config.dataset.root, setup.env)
        if warning:
            print(f"warning: {warning}", file=sys.stderr)

    jobs = [job for name, count in episodes.items() for job in make_jobs([name], count, config.seed)]
    started = time.time()
    with worker_pool(setup, config.workers, tqdm.write) as pool:
        records = _play(jobs, pool, config.output / EPISODES)
        films = film_episodes(records, pool, config.output, config.videos_per_condition)
    results = {
        **header,
        "command": command,
        "task": _task(setup.env.family),
        "policy_name": policy_name(config.policy.path),
        "episodes": episodes,
        "seed": config.seed,
        "workers": config.workers,
        "git": provenance.git_revision(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "seconds": round(time.time() - started, 1),
        "summary": summarise(records, means),
        "films": films,
        "records": [to_json(record) for record in records],
    }
    write_atomically(config.output / RESULTS, json.dumps(results, indent=1, allow_nan=False))
    write_atomically(config.output / TABLE, episodes_csv(records))
    write_report(results, config.output)
    return results


def _play(jobs: list[Job], pool: WorkerPool, path: Path) -> list[EpisodeRecord]:
    """Run what `episodes.jsonl` lacks (recorded errors are tried again) and return all in order."""
    known = read_records(path)
    todo = [
        job for job in jobs if (job.condition, job.seed) not in known or known[job.condition, job.seed].outcome == ERROR
    ]
    successes = 0
    with tqdm(total=len(jobs), initial=len(jobs) - len(todo), desc="evaluate", unit="episode") as bar:
        for done, record in enumerate(run_episodes(todo, pool), start=1):
            append_record(path, record)
            known[record.key] = record
            successes += record.outcome == "success"
            if record.outcome == ERROR:
                bar.write(f"{record.condition} seed {record.seed}: {record.message}", file=sys.stderr)
            bar.set_postfix_str(f"{100 * successes / done:.0f} % success", refresh=False)
            bar.update()
    return [known[job.condition, job.seed] for job in jobs]


def brief(results: dict[str, Any]) -> str:
    """The condition table for the terminal."""
    privileged = results["summary"].get("privileged")
    lines = [f"privileged: {privileged}"] if privileged else []
    for row in results["summary"]["conditions"]:
        rate = row["success"]
        share = (
            "no episode ended"
            if rate["rate"] is None
            else (f"{100 * rate['rate']:5.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]")
        )
        errors = f", {row['errors']} errors (not counted)" if row["errors"] else ""
        lines.append(f"{row['condition']:<12} {share} success of {row['episodes']}{errors}{_stage_rates(row)}")
    return "\n".join(lines)


def _stage_rates(row: dict[str, Any]) -> str:
    """The share of the episodes that reached each stage, of a task with several."""
    if len(row["stages"]) < 2 or not row["episodes"]:
        return ""
    return "; " + ", ".join(f"{stage} {100 * rate['rate']:.1f} %" for stage, rate in row["stages"].items())


def episodes_by_condition(config: EvalConfig) -> dict[str, int]:
    """``basic:200,lights`` -> {"basic": 200, "lights": --episodes}."""
    from posa_vla.sim.conditions import CONDITIONS, episode_seed

    chosen: dict[str, int] = {}
    for part in names(config.conditions) or CONDITIONS:
        name, _, count = part.partition(":")
        if name in chosen:
            raise PosaError(f"--conditions names {name} twice: give each condition once, with all its episodes")
        if count and not (count.isdecimal() and int(count) > 0):
            raise PosaError(f"expected NAME or NAME:EPISODES in --conditions, found {part!r}")
        chosen[name] = int(count) if count else config.episodes
    check_conditions(list(chosen), config.split)
    episode_seed(config.split, config.seed + max(chosen.values()) - 1)  # raises beyond the split's range
    return chosen


def policy_name(path: Path) -> str:
    """``run/checkpoints/last/pretrained_model`` -> ``run/004000``, the step that `last` points to."""
    parts = [part for part in path.resolve().parts if part not in ("pretrained_model", "checkpoints", "/")]
    return "/".join(parts[-2:])


def _check_numbers(config: EvalConfig) -> None:
    least = {"episodes": 1, "workers": 1, "seed": 0, "videos_per_condition": 0, "attention_every": 0}
    for name, low in least.items():
        if getattr(config, name) < low:
            raise PosaError(f"expected --{name} of at least {low}, found {getattr(config, name)}")


def _setup(config: EvalConfig) -> Setup:
    from posa_vla.sim.families import get_family

    path = policy_folder(config.policy.path)
    side = image_size(path)
    if side and config.image_size not in (None, side):
        raise PosaError(
            f"expected --image_size={side}, the checkpoint's, found {config.image_size}: leave the option out"
        )
    family = get_family(config.family)
    options = EnvOptions(
        image_size=(side or EnvOptions.image_size) if config.image_size is None else config.image_size,
        categories=names(config.categories),
        colours=names(config.colours),
        num_distractors=config.num_distractors,
        episode_length=family.episode_length if config.episode_length is None else config.episode_length,
        family=config.family,
        held_out=None if config.held_out is None else listed(config.held_out),
    )
    check_options(options)
    source = PolicySource(path, config.policy.device, config.n_action_steps, config.integration_steps)
    return Setup(source, config.split, options, config.attention_every, config.expert)


def _header(config: EvalConfig, setup: Setup) -> dict[str, Any]:
    """What must be equal for episodes to belong to one evaluation."""
    return {
        "policy": {
            "path": str(config.policy.path),
            "sha256": _fingerprint(config.policy.path),
            "n_action_steps": config.n_action_steps,
            "integration_steps": config.integration_steps,
        },
        "split": config.split,
        "env": json.loads(json.dumps(dataclasses.asdict(setup.env))),
        "attention_every": config.attention_every,
        "expert": config.expert,
    }


def _cameras(path: Path) -> list[str]:
    """The policy's cameras, as labels call them."""
    features = read_config(path).get("input_features") or {}
    return [camera_name(name) for name in features if name.startswith(OBS_IMAGES)]


def _task(family: str) -> dict[str, Any]:
    """What the report says about the task."""
    from posa_vla.sim.families import get_family

    task = get_family(family)
    return {"family": family, "aim": task.aim, "success": task.success, "stages": task.stages}


def _fingerprint(path: Path) -> str:
    """Digest of the weights and of every JSON file beside them."""
    digest = hashlib.sha256()
    for file in [*sorted(path.glob("*.json")), path / WEIGHTS]:
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _same_evaluation(path: Path, header: dict[str, Any]) -> None:
    """Refuse to mix episodes of two evaluations in one folder."""
    if not (path.parent / EPISODES).exists():  # nothing to mix with, whatever a refused attempt left
        write_atomically(path, json.dumps(header, indent=1))
        return
    if not path.exists():
        raise PosaError(f"{path.parent} holds episodes but no {HEADER} to tell whose: choose another --output")
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise PosaError(f"{path} is not JSON ({error}): remove the folder or choose another --output") from error
    before["env"] = dataclasses.asdict(EnvOptions()) | before["env"]  # an option added since had its default
    before["policy"]["path"] = header["policy"]["path"]  # the same weights may have moved
    differing = [name for name in header if before.get(name) != header[name]]
    if differing:
        raise PosaError(
            f"{path.parent} holds episodes of another evaluation (other {', '.join(differing)}): "
            "choose another --output, or remove that folder"
        )
