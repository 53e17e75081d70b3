"""``posa-vla record``: demonstrations of the scripted expert as one LeRobotDataset with videos.

Shards are recorded in parallel beside the output, in ``OUTPUT.partial``; the same command continues after an
interruption. The dataset appears under its own name in one rename, when it is complete.
"""

import functools
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import draccus
from draccus.utils import DecodingError
from tqdm import tqdm

import posa_vla
from posa_vla.data.files import alone_in, write_json
from posa_vla.errors import PosaError, unknown_name
from posa_vla.options import listed, names
from posa_vla.sim.recording_shards import SHARDS, explained, merge_shards, shard_path
from posa_vla.sim.recording_video import VideoOptions
from posa_vla.sim.recording_workers import RETRY_STRIDE, Job, Recipe, run

OPTIONS_FILE = "options.json"
MERGED = "merged"
MAX_SHARD = 20
FUMBLES = 0.3  # share of the episodes, where the hand opens and closes
SPLITS = ("train", "val")
"""Splits that may be recorded: the third, ``eval``, is for reported numbers only."""


@dataclass
class RecordConfig:
    """Record demonstrations of the scripted expert.

    Args:
        output: root folder of the new dataset.
        repo_id: its name in LeRobot.
        episodes: successful demonstrations to record.
        seed: seed of the first episode; episode i uses seed + i, an attempt that failed is left out and its
            place taken by another seed.
        split: train or val; eval scenes are for evaluation only.
        condition: ``basic``, as the paper's training data; ``randomised``: looks and clutter that no test condition
            has; or a test condition, whose results then mean nothing.
        image_size: side of the square images, pixels, even.
        categories: comma list of object categories, or ``all``.
        colours: comma list of colours, or ``all``.
        held_out: comma list of pairs (``cyan cube,purple bottle``) that are never on the table; if not given, a
            diagonal of the table of categories and colours.
        num_distractors: other objects on the table.
        episode_length: control steps (20 per second) after which an attempt counts as failed; the family's own if
            not given.
        family: what there is to do: pick, box, place, push …; an unknown name lists them all.
        action_noise: standard deviation of the noise added to the executed translation while an episode is
            perturbed (about a third of the time), in action units: 1 = 5 cm per step. Rotation gets a share.
        fumbles: share of the episodes in which the hand once closes and lifts on its own, around the time of the
            first grasp, so that the way back from a missed grasp is in the data; 0.3 if not given, 0 where the
            family's hand stays closed, which cannot fumble.
        workers: recording processes; 0 records in this one.
        vcodec: video encoder.
        pix_fmt: how pixels are stored. ``yuv420p`` plays in every browser but halves the resolution of colour,
            of which a small object has little: on 128-px frames it costs 8 dB (34.6 instead of 42.8).
        crf: its quality, lower is better.
        preset: its speed; empty for the encoder's default.
        gop: frames from one key frame to the next; small is fast to read at random positions.
        visibility: also record how much of what the hand acts on next each camera sees, for `posa-vla label
            --visibility=visibility`; four more renderings a frame.
        contact: also record how hard the hand presses on objects, for `posa-vla label --detectors=contact`; if not
            given, where the family's interactions are touches: push.
    """

    output: Path
    repo_id: str = "local/posa_tabletop"
    episodes: int = 200
    seed: int = 0
    split: str = "train"
    condition: str = "basic"
    image_size: int = 128
    categories: str = "all"
    colours: str = "all"
    held_out: str | None = None
    num_distractors: int = 4
    episode_length: int | None = None
    family: str = "pick"
    action_noise: float = 0.2
    fumbles: float | None = None
    workers: int = 2
    vcodec: str = "h264"
    pix_fmt: str = "yuv444p"
    crf: int = 18
    preset: str = "ultrafast"
    gop: int = 2
    visibility: bool = False
    contact: bool | None = None


def main(argv: list[str]) -> int:
    try:
        config = draccus.parse(config_class=RecordConfig, args=argv)
    except DecodingError as error:
        raise PosaError(str(error)) from error
    check_names(config)
    began = time.monotonic()
    try:
        made = record(config)
    except KeyboardInterrupt:
        print(f"interrupted: finished shards are kept in {partial_folder(config)}; run again to continue")
        return 130
    print(
        f"{made['episodes']} demonstrations ({made['frames']} frames, {made['failures_left_out']} failed "
        f"attempts left out) in {config.output}, {time.monotonic() - began:.0f} s"
    )
    return 0


def complete(config: RecordConfig) -> RecordConfig:
    """The same with nothing left to the family."""
    from posa_vla.sim.families import get_family

    family = get_family(config.family)
    fumbles = FUMBLES if family.gripper_open else 0.0
    if config.fumbles and not family.gripper_open:
        raise PosaError(
            f"--fumbles={config.fumbles:g} with --family={config.family}: a fumble is a close beside the object, and "
            "there the fingers are closed throughout; leave --fumbles out"
        )
    return replace(
        config,
        episode_length=family.episode_length if config.episode_length is None else config.episode_length,
        fumbles=fumbles if config.fumbles is None else config.fumbles,
        contact=family.contacts if config.contact is None else config.contact,
    )


def check_names(config: RecordConfig) -> None:
    """Raise on names the suite does not have, each with the list of valid ones."""
    from posa_vla.sim import conditions

    conditions.check_condition(config.condition)
    conditions.chosen_pairs(names(config.categories), names(config.colours), held_out(config))


def check_numbers(config: RecordConfig) -> None:
    limits = {
        "episodes": (1, RETRY_STRIDE),
        "seed": (0, RETRY_STRIDE - config.episodes),
        "image_size": (16, 2048),
        "num_distractors": (0, 100),
        "episode_length": (1, 10_000),
        "action_noise": (0.0, 1.0),
        "fumbles": (0.0, 1.0),
        "workers": (0, 1024),
        "gop": (1, 1000),
    }
    for field, (low, high) in limits.items():
        value = getattr(config, field)
        if not low <= value <= high:
            raise PosaError(f"--{field} must lie between {low} and {high}, found {value}")
    if config.image_size % 2:
        raise PosaError(f"--image_size must be even, as video encoders want it, found {config.image_size}")
    if config.split not in SPLITS:
        raise unknown_name("split to record from", config.split, SPLITS)


def held_out(config: RecordConfig) -> tuple[str, ...] | None:
    return None if config.held_out is None else listed(config.held_out)


def make_tabletop(config: RecordConfig) -> tuple[Any, Any]:
    """The environment of `config` and its expert; called in the process that uses them."""
    from posa_vla.sim.env import TabletopEnv
    from posa_vla.sim.families import make_expert

    env = TabletopEnv(
        condition=config.condition,
        split=config.split,
        image_size=config.image_size,
        categories=names(config.categories),
        colours=names(config.colours),
        held_out=held_out(config),
        num_distractors=config.num_distractors,
        episode_length=config.episode_length,
        family=config.family,
        contacts=bool(config.contact),
    )
    return env, make_expert(env)


def record(config: RecordConfig, make_env: Callable[[RecordConfig], tuple[Any, Any]] = make_tabletop) -> dict[str, Any]:
    """Record, or continue recording, the dataset of `config`; returns its provenance.

    `make_env` returns (environment, expert) and must be importable by other processes.
    """
    config = complete(config)
    check_numbers(config)
    check_output(config.output)
    assert config.fumbles is not None
    recipe = Recipe(
        make_env=functools.partial(make_env, config),
        repo_id=config.repo_id,
        seed=config.seed,
        action_noise=config.action_noise,
        fumbles=config.fumbles,
        visibility=config.visibility,
        contact=bool(config.contact),
        video=VideoOptions(config.image_size, config.vcodec, config.pix_fmt, config.crf, config.preset, config.gop),
    )
    recipe.video.encoder()  # refuses bad options before anything is written
    partial = partial_folder(config)
    with explained(config.output):
        partial.mkdir(parents=True, exist_ok=True)
        with alone_in(partial, f"recording {config.output}"):
            check_resumable(config, partial)
            jobs = shard_jobs(config.episodes, partial)
            record_missing(jobs, recipe, config)
            return publish(config, partial, [job.path for job in jobs])


def partial_folder(config: RecordConfig) -> Path:
    output = config.output.absolute()
    return output.with_name(output.name + ".partial")


def check_output(output: Path) -> None:
    """Refuse an output that exists, except as an empty folder."""
    info = output / "meta/info.json"
    if info.exists():
        episodes = json.loads(info.read_text()).get("total_episodes")
        raise PosaError(
            f"{output} already holds a complete dataset ({episodes} episodes), left as it is: choose another "
            "--output or delete it"
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise PosaError(f"{output} exists and is not an empty folder: choose another --output")


def content_options(config: RecordConfig) -> dict[str, Any]:
    """Everything that decides what the dataset contains: the provenance, and what resuming must match."""
    options = {key: value for key, value in asdict(config).items() if key not in ("output", "workers")}
    return {"version": posa_vla.__version__, "options": options}


def check_resumable(config: RecordConfig, partial: Path) -> None:
    """Refuse to mix shards of two different commands; the first that finishes one leaves its options behind."""
    path, options = partial / OPTIONS_FILE, content_options(config)
    if not any(partial.glob(SHARDS)):  # nothing is kept: a command that was refused may be corrected
        write_json(path, options)
        return
    found = json.loads(path.read_text())
    if found != options:
        old, new = ({"version": o["version"], **o["options"]} for o in (found, options))
        changed = ", ".join(
            f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        )
        raise PosaError(
            f"{partial} holds an interrupted recording with other options ({changed}): repeat its command to "
            "continue it, or delete the folder"
        )


def shard_jobs(episodes: int, partial: Path) -> list[Job]:
    """Equal shards of at most `MAX_SHARD` episodes; at least four, so that small recordings run in parallel."""
    size = min(MAX_SHARD, -(-episodes // 4))
    starts = range(0, episodes, size)
    return [Job(shard_path(partial, index), start, min(start + size, episodes)) for index, start in enumerate(starts)]


def record_missing(jobs: list[Job], recipe: Recipe, config: RecordConfig) -> None:
    missing = [job for job in jobs if not job.path.exists()]
    kept = config.episodes - sum(job.stop - job.start for job in missing)
    with tqdm(total=config.episodes, initial=kept, unit="demo", desc="record") as bar:

        def progress(done: int, failed: int) -> None:
            bar.set_postfix(failed=failed, refresh=False)
            bar.update(kept + done - bar.n)

        if missing:
            run(missing, recipe, config.workers, progress)


def publish(config: RecordConfig, partial: Path, shards: list[Path]) -> dict[str, Any]:
    """Merge the shards and give the dataset its name."""
    merged = partial / MERGED
    shutil.rmtree(merged, ignore_errors=True)
    provenance = merge_shards(shards, merged, config.repo_id, content_options(config))
    os.replace(merged, config.output)
    shutil.rmtree(partial)
    return provenance
