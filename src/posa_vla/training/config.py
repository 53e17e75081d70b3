"""Options of ``posa-vla train`` and how a resumed run gets them back."""

import json
import os
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import draccus
import yaml
from draccus.utils import DecodingError, ParsingError
from lerobot.configs import PreTrainedConfig
from lerobot.utils.import_utils import register_third_party_plugins

from posa_vla import options, reference
from posa_vla.data.sampling import SAMPLERS
from posa_vla.errors import PosaError, unknown_name
from posa_vla.evaluation.records import EnvOptions
from posa_vla.evaluation.runner import policy_folder
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.training.bundle import resolve
from posa_vla.training.checkpoint import PRETRAINED_MODEL, TRAINING_STATE, Checkpoints, read_json
from posa_vla.training.peer_config import PeerConfig
from posa_vla.training.recipes import POSA_VLA, Recipe, recipe


@dataclass
class DatasetConfig:
    """Args:
    root: folder of a labelled LeRobotDataset.
    """

    root: Path | None = None


@dataclass
class TrainConfig:
    """Train PosA-VLA, or with --policy.type another policy of LeRobot's; its options are --policy.NAME=VALUE.

    --policy.path=DIR starts from the weights of a PosA-VLA checkpoint instead of new ones: its network, a new
    optimiser, this dataset's statistics, and no first stage unless --policy.anchor_steps asks for one. More can be
    added to its network: --policy.stages=N, --policy.anchor_depth=predicted, --policy.point_tokens=true.

    Args:
        dataset: --dataset.root=DIR, a labelled LeRobotDataset; its frame cache is built or checked first.
        cache: folder of the frame cache (default: beside the dataset).
        output_dir: where checkpoints and the log go.
        resume: continue the newest checkpoint in output_dir, whose options need not be repeated; a run that was
            interrupted before its first checkpoint starts again.
        steps: optimiser steps of both stages together; 0 = the recipe's (paper: 220,000; tiny: 6,000).
        batch_size: samples per step and process; 0 = the recipe's (paper: 16; tiny: 64).
        seed: of initialisation, data order, augmentation and noise.
        log_freq: steps between two lines of log.jsonl; 0 = only the last.
        save_freq: steps between two checkpoints; 0 = only the last.
        keep_last: checkpoints to keep; 0 = all.
        eval_freq: steps between two evaluations; 0 = never.
        eval_condition: condition of the tabletop suite they run under.
        eval_episodes: episodes of each, on the `val` split.
        eval_workers: processes that run them.
        env: the environment they run in: --env.categories=[can,milk], --env.colours=[red], and so on.
        max_minutes: stop after this much training time, with the cosine stretched to end there (it then
            follows the clock, so that two such runs are not byte-identical); 0 = no limit.
        after_interaction: share of the frames after the last interaction (lift and hold) that an epoch shows
            (paper: 1; tiny: 0.3).
        peer: what policies other than posa_vla get: --peer.recipe=small, --peer.augmentation.enabled=false, ....
        sampler: `uniform` over frames, or `task_balanced`: tasks equally often, with same-task pairs.
        resident: keep all frames in the device's memory: faster on a GPU that has room for them.
        ema_decay: decay of the averaged weights that are saved as the policy; 0 = save the raw ones.
        mixed_precision: `auto` (bf16 where the hardware has it), `bf16` or `fp32`.
        threads: CPU threads; 0 = all available cores, shared among this machine's processes.
        tensorboard: also write event files to output_dir/tensorboard.
        wandb: project of Weights & Biases to log to.
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    cache: Path | None = None
    output_dir: Path | None = None
    resume: bool = False
    steps: int = 0
    batch_size: int = 0
    seed: int = 0
    log_freq: int = 50
    save_freq: int = 1000
    keep_last: int = 0
    eval_freq: int = 0
    eval_condition: str = "basic"
    eval_episodes: int = 20
    eval_workers: int = 2
    env: EnvOptions = field(default_factory=EnvOptions)
    max_minutes: float = 0.0
    after_interaction: float | None = None
    peer: PeerConfig = field(default_factory=PeerConfig)
    sampler: str = "uniform"
    resident: bool = False
    ema_decay: float = 0.999
    mixed_precision: str = "auto"
    threads: int = 0
    tensorboard: bool = False
    wandb: str | None = None

    @property
    def folder(self) -> Path:
        """output_dir, which every run needs."""
        if self.output_dir is None:
            raise PosaError("expected a folder for checkpoints and the log: pass --output_dir=DIR")
        return self.output_dir

    @property
    def budget_seconds(self) -> float | None:
        return 60.0 * self.max_minutes if self.max_minutes > 0 else None


MAY_CHANGE = (
    *("dataset.", "cache", "output_dir", "resume", "log_freq", "save_freq", "keep_last", "resident"),
    *("eval_", "env.", "threads", "tensorboard", "wandb"),
)
"""Beginnings of the options a resumed run may set anew: none changes what is learned (threads: only rounding)."""


def parse(argv: list[str]) -> tuple[TrainConfig, PreTrainedConfig, Path | None]:
    """Options of the run and of the policy, and the checkpoint to continue from (None: a fresh start)."""
    own, policy_words = split_words(argv)
    config = _decode(TrainConfig, own)
    store = Checkpoints(config.folder / "checkpoints")
    checkpoint = store.newest() if config.resume else None
    if checkpoint is not None:
        return *_resumed(checkpoint, own, policy_words), checkpoint
    if config.resume:
        if not config.folder.is_dir():
            raise PosaError(f"--resume=true expects an earlier run in {config.folder}, found no such folder")
        print(f"no checkpoint in {store.root} yet: starting at step 0")
    elif store.steps():
        raise PosaError(
            f"{store.root} already holds checkpoints: continue them with --resume=true, or choose another --output_dir"
        )
    policy = _fresh_policy(config, policy_words)
    check(config)
    return config, policy, None


def split_words(argv: list[str]) -> tuple[list[str], list[str]]:
    """Command-line words of the run, and of the policy without their ``policy.`` prefix."""
    own: list[str] = []
    policy: list[str] = []
    target = own
    for word in argv:
        if word.startswith("--policy."):
            target = policy
            word = "--" + word.removeprefix("--policy.")
        elif word.startswith("-"):
            target = own
        target.append(word)  # a word without dashes is the value of the option before it
    return own, policy


def take_type(words: list[str]) -> tuple[str | None, list[str]]:
    """The value of ``--type`` among the policy's words, and the other words."""
    return take_word("type", words)


def take_word(option: str, words: list[str]) -> tuple[str | None, list[str]]:
    """The value of an option among `words`, and the other words."""
    flag, chosen, rest = f"--{option}", None, []
    words = [part for word in words for part in (word.split("=", 1) if word.startswith(f"{flag}=") else [word])]
    for before, word in zip(["", *words], words, strict=False):
        if before == flag:
            chosen = word
        elif word != flag:
            rest.append(word)
    if not chosen and flag in words:
        raise PosaError(f"--policy.{option} has no value: write --policy.{option}=VALUE, or leave it out")
    return chosen, rest


def policy_config_class(name: str) -> type[PreTrainedConfig]:
    """Configuration class of a policy type that LeRobot knows, plugins included."""
    register_third_party_plugins()
    known = PreTrainedConfig.get_known_choices()
    if name not in known:
        raise unknown_name("policy type", name, known)
    return known[name]


def _fresh_policy(config: TrainConfig, words: list[str]) -> PreTrainedConfig:
    """The policy's options over the recipe's; fills the run's own defaults from it too."""
    path, words = take_word("path", words)
    if path is not None:
        return _fine_tuned(config, policy_folder(reference.resolve(Path(path))), words)
    name, words = take_type(words)
    config_class = policy_config_class(name or POSA_VLA)
    preset = _decode(PosaVLAConfig, words).preset if config_class is PosaVLAConfig else None
    defaults = recipe(name or POSA_VLA, preset, config.peer.recipe)
    _fill(config, defaults)
    seed = [f"--seed={config.seed}"] if config_class is PosaVLAConfig else []
    return _decode(config_class, [*seed, "--push_to_hub=false", *defaults.policy, *words])


def _fill(config: TrainConfig, defaults: Recipe) -> None:
    config.steps = config.steps or defaults.steps
    config.batch_size = config.batch_size or defaults.batch_size
    if config.after_interaction is None:
        config.after_interaction = defaults.after_interaction


def _fine_tuned(config: TrainConfig, folder: Path, words: list[str]) -> PosaVLAConfig:
    """A checkpoint's configuration with other options for how to train it; without a first stage of its own."""
    name, words = take_type(words)
    register_third_party_plugins()
    before = PreTrainedConfig.from_pretrained(folder)
    if not isinstance(before, PosaVLAConfig) or name not in (None, POSA_VLA):
        raise PosaError(
            f"--policy.path expects a checkpoint of {POSA_VLA}, found {name or before.type} in {folder}: fine-tune "
            "policies of LeRobot's own with lerobot-train"
        )
    _fill(config, recipe(POSA_VLA, before.preset, config.peer.recipe))
    own = ["--anchor_steps=0", f"--seed={config.seed}", "--push_to_hub=false"]
    policy = PreTrainedConfig.from_pretrained(folder, cli_overrides=_as_json([*own, *words]))
    assert isinstance(policy, PosaVLAConfig)
    policy.pretrained_path = folder
    return policy


def _decode[Config](config_class: type[Config], words: list[str], file: str | None = None) -> Config:
    """`options.parse`, and one sentence of what policies of LeRobot's own say about options that do not fit."""
    try:
        return options.parse(config_class, words, file)
    except DecodingError:
        raise  # says which option has the wrong type
    except ParsingError as error:
        raise _misfit(error.__cause__ or error) from error
    except NotImplementedError as error:  # act's way to refuse a combination
        raise _misfit(error) from error


def _misfit(error: BaseException) -> PosaError:
    return PosaError(f"these options do not fit together, change one: {' '.join(str(error).split())}")


def _resumed(checkpoint: Path, own: list[str], words: list[str]) -> tuple[TrainConfig, PreTrainedConfig]:
    """What the checkpoint was trained with; a contradicting option is an error, not a change of mind."""
    saved = read_json(checkpoint / TRAINING_STATE / "state.json")["train"]
    config = _parse_over(saved, own)
    # The saved options are read as well: a checkpoint may be older than an option, which then had its default.
    _refuse_changes(encode(_parse_over(saved, [])), encode(config), "", MAY_CHANGE)
    pretrained = checkpoint / PRETRAINED_MODEL
    register_third_party_plugins()
    before = PreTrainedConfig.from_pretrained(pretrained)
    name, words = take_type(words)
    _refuse_changes({"type": before.type}, {"type": name or before.type}, "policy.", ())
    origin, words = take_word("path", words)
    if origin is not None:
        began, named = before.pretrained_path, reference.resolve(Path(origin))
        _refuse_changes({"path": began and os.path.abspath(began)}, {"path": os.path.abspath(named)}, "policy.", ())
    policy = PreTrainedConfig.from_pretrained(pretrained, cli_overrides=_as_json(words)) if words else before
    _refuse_changes(encode(before), encode(policy), "policy.", ("policy.device",))
    resolve(policy, pretrained)
    check(config)
    return config, policy


def _parse_over(saved: dict[str, Any], words: list[str]) -> TrainConfig:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, draccus.config_type("json"):
        json.dump(saved, file)
        file.flush()
        return _decode(TrainConfig, _as_json(words), file.name)


def _as_json(words: list[str]) -> list[str]:
    """``--option=[a,b]`` -> ``--option=["a", "b"]``: beside a file in JSON draccus reads command lines as JSON, too."""
    return [_as_json_list(word) for word in words]


def _as_json_list(word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    if not value.startswith("["):
        return word
    try:
        json.loads(value)
    except ValueError:
        return option + equals + json.dumps(yaml.safe_load(value))
    return word


def _refuse_changes(saved: dict, current: dict, prefix: str, may_change: tuple[str, ...]) -> None:
    before, after = _flatten(saved, prefix), _flatten(current, prefix)
    for name in sorted(before.keys() | after.keys()):
        if not name.startswith(may_change) and before.get(name) != after.get(name):
            raise PosaError(
                f"--{name}={after.get(name)} contradicts the checkpoint, which was trained with "
                f"{before.get(name)}: leave the option out to resume, or start anew in another --output_dir"
            )


def _flatten(tree: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def encode(config: TrainConfig | PreTrainedConfig) -> dict[str, Any]:
    """Options as plain JSON values."""
    return json.loads(json.dumps(draccus.encode(config)))


def check(config: TrainConfig) -> None:
    """Raise PosaError on a value out of its range."""
    if config.sampler not in SAMPLERS:
        raise unknown_name("sampler", config.sampler, SAMPLERS)
    lowest = {"steps": 1, "batch_size": 1, "eval_episodes": 1, "eval_workers": 1}
    for option in fields(config):
        value = getattr(config, option.name)
        if isinstance(value, int | float) and value < lowest.get(option.name, 0):
            raise PosaError(f"expected --{option.name} of at least {lowest.get(option.name, 0)}, found {value}")
    if config.ema_decay >= 1.0:
        raise PosaError(f"expected --ema_decay in [0, 1), found {config.ema_decay}")
