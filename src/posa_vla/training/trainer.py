"""``posa-vla train``: dataset in, checkpoints out.

Several processes: ``torchrun --standalone --nproc_per_node=N -m posa_vla.cli train …``.
"""

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import draccus
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.policies import PreTrainedPolicy
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import POLICY_PREPROCESSOR_DEFAULT_NAME
from lerobot.utils.feature_utils import dataset_to_policy_features

from posa_vla.contract import ANCHORS, CAMERAS, OBS_STATE, camera_name
from posa_vla.data.batches import LABELS, BatchSource
from posa_vla.data.cache import FrameCache, build_cache, default_cache_root
from posa_vla.data.statistics import Stats, complete_stats
from posa_vla.errors import PosaError
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy
from posa_vla.policy.processor_posa_vla import InstructionTokenizerStep
from posa_vla.policy.weights import read_end_tokens, read_tensors
from posa_vla.training import hardware, peers, schedule
from posa_vla.training.bundle import Bundle
from posa_vla.training.checkpoint import PRETRAINED_MODEL, read_json
from posa_vla.training.config import TrainConfig, parse, policy_config_class, split_words, take_type
from posa_vla.training.interrupt import exit_status
from posa_vla.training.loop import Trainer
from posa_vla.training.recipes import POSA_VLA
from posa_vla.training.runlog import LOG_FILE, read_log

SUMMARY = (
    "loss",
    "action_loss",
    "focal_loss",
    "contrastive_loss",
    "task_anchor_error",
    "map_contrast_task",
    "end_map_peak",
    "samples_per_second",
)
"""Columns of the table printed at the end; those that were logged."""


def main(argv: list[str]) -> int:
    """Train as the command line says; 0, or 128 + the signal that ended the run early but saved."""
    if any(word in ("-h", "--help") for word in argv):
        print_help(take_type(split_words(argv)[1])[0] or POSA_VLA)
        return 0
    config, policy_config, checkpoint = parse(argv)
    accelerator = start(config, policy_config)
    main_process = accelerator.is_main_process
    anchor_steps = getattr(policy_config, "anchor_steps", None) or 0
    if main_process and config.steps <= anchor_steps:
        print(f"warning: {_anchors_only(config.steps, anchor_steps)}", file=sys.stderr)
    trainer = build(config, policy_config, accelerator, checkpoint)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    try:
        outcome = trainer.run()
    except OSError as error:  # checkpoints speak for themselves: this is the log, or the frame cache
        raise PosaError(f"the run stopped because of {error}: its checkpoints are intact, use --resume=true") from error
    if main_process:
        print(summary(read_log(config.folder / LOG_FILE)))
        state = f"stopped by signal {outcome.received}" if outcome.received else "done"
        print(f"{state} at step {outcome.step} after {outcome.seconds:.0f} s: {trainer.checkpoints.root / 'last'}")
        if not outcome.received and config.steps > anchor_steps >= outcome.step:
            print(f"warning: {_anchors_only(outcome.step, anchor_steps)}", file=sys.stderr)
    accelerator.end_training()
    return exit_status(outcome.received)


def _anchors_only(steps: int, anchor_steps: int) -> str:
    return (
        f"{steps} steps end inside the first stage (--policy.anchor_steps={anchor_steps}), which trains the "
        "anchors alone: no action is learned"
    )


def print_help(policy: str) -> None:
    policy_class = policy_config_class(policy)
    for config_class, title in ((TrainConfig, "posa-vla train"), (policy_class, "--policy.OPTION=VALUE")):
        print(f"{title}\n")
        try:
            draccus.parse(config_class=config_class, args=["--help"])
        except SystemExit:
            print()


def start(config: TrainConfig, policy: PreTrainedConfig) -> Accelerator:
    """Processes, precision and threads."""
    device = str(policy.device)
    hardware.choose_gpu(device)
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=hardware.mixed_precision(config.mixed_precision, device),
        kwargs_handlers=[
            # The first stage leaves the action transformer without gradients.
            DistributedDataParallelKwargs(find_unused_parameters=True),
            # The others wait for the first process while it builds the frame cache or evaluates: NCCL gives up after
            # ten minutes otherwise.
            InitProcessGroupKwargs(timeout=timedelta(hours=24)),
        ],
    )
    threads = hardware.set_threads(config.threads, hardware.processes_here(accelerator.num_processes))
    if device == "cpu":
        hardware.keep_freed_memory()
    if accelerator.is_main_process:
        count, kind = accelerator.num_processes, hardware.plain_device(accelerator.device)
        print(f"{count} process(es) on {kind}, {threads} thread(s) each, precision: {accelerator.mixed_precision}")
    return accelerator


def build(
    config: TrainConfig, policy_config: PreTrainedConfig, accelerator: Accelerator, checkpoint: Path | None = None
) -> Trainer:
    """Cache, policy, processors and batches, as the options say.

    A run that resumes from `checkpoint` gets its weights by `Trainer.restore`.
    """
    cache = open_cache(config, accelerator)
    set_features(policy_config, cache.features)
    check_evaluation(config, policy_config)
    stats, computed = complete_stats(cache)
    if computed and accelerator.is_main_process:
        print(f"the dataset lacks statistics, computed from its frames: {', '.join(computed)}")
    check_stats(policy_config, stats)
    with peers.with_encoders(policy_config, config.peer.clip, cache.tasks, config.seed):
        schedule.seed_step(config.seed, 0, 0)  # every process starts from the same weights
        origin = policy_config.pretrained_path
        pretrained = None if checkpoint is None else checkpoint / PRETRAINED_MODEL
        if pretrained is not None:
            policy_config.pretrained_path = None  # it may be gone, and its weights are older than the checkpoint's
        policy = make_policy(policy_config, cache, stats, config.dataset.root, pretrained)
        policy_config.pretrained_path = origin
        processors = make_pre_post_processors(policy_config, dataset_stats=stats)
        if saved := pretrained or origin:
            take_tokenizer(processors[0], saved)
        bundle = Bundle.read(policy_config)
    policy.to(accelerator.device, memory_format=torch.channels_last).train()
    source = make_source(config, policy_config, cache, accelerator)
    evaluation = partial(evaluate, config=config)
    return Trainer(config, policy, processors, source, accelerator, evaluation, cache.fingerprint, bundle)


def check_stats(policy: PreTrainedConfig, stats: Stats) -> None:
    """Raise PosaError where a feature should be normalised and has no statistics: LeRobot would leave it as it is."""
    for key, feature in (policy.input_features | policy.output_features).items():
        mode = policy.normalization_mapping.get(feature.type.value, NormalizationMode.IDENTITY)
        if mode is not NormalizationMode.IDENTITY and key not in stats:
            raise PosaError(
                f"expected statistics of {key!r} in the dataset's meta/stats.json, which {policy.type} normalises by "
                f"({mode.value}), found none: record or copy the dataset again"
            )


def make_policy(
    config: PreTrainedConfig,
    cache: FrameCache,
    stats: Stats,
    root: Path | None = None,
    resumed: Path | None = None,
) -> PreTrainedPolicy:
    """The policy as LeRobot's factory makes it, from the cache instead of a dataset's metadata.

    With the pretrained_model folder of a `resumed` run no file of an encoder or tokenizer is read: all weights will
    be the checkpoint's.
    """
    try:
        policy_class = get_policy_class(config.type)
        if config.pretrained_path is not None:
            policy = policy_class.from_pretrained(config.pretrained_path, config=config, dataset_stats=stats)
        else:
            known: dict[str, Any] = {}
            if resumed is not None and policy_class is PosaVLAPolicy:
                known["end_tokens"] = read_end_tokens(resumed / SAFETENSORS_SINGLE_FILE)
            policy = policy_class(config, dataset_stats=stats, **known)
    except ImportError as error:
        raise PosaError(
            f"--policy.type={config.type} needs a package that is missing ({' '.join(str(error).split())}): install "
            "the extra lerobot_policy_posa_vla[peers]"
        ) from error
    if isinstance(policy, PosaVLAPolicy):
        policy.count_from_zero()
        policy.use_dataset(cache.features, cache.task_ids, root)
    return policy


def take_tokenizer(preprocessor: PolicyProcessorPipeline, saved: Path) -> None:
    """Give our tokenizer step what a saved policy holds of the same tokenizer: its own files may be gone."""
    for step in preprocessor.steps:
        if isinstance(step, InstructionTokenizerStep) and step.tokenizer == read_json(saved / CONFIG_NAME)["tokenizer"]:
            for path in saved.glob(f"{POLICY_PREPROCESSOR_DEFAULT_NAME}_step_*_posa_vla_tokenizer.safetensors"):
                step.load_state_dict(read_tensors(path))


def make_source(
    config: TrainConfig, policy: PreTrainedConfig, cache: FrameCache, accelerator: Accelerator
) -> peers.Source:
    """Batches with the history and the chunk that the policy asks for; peers get no labels and augmented images."""
    ours = policy.type == POSA_VLA
    actions = list(policy.action_delta_indices or ())
    if not actions or actions != list(range(actions[0], actions[0] + len(actions))):
        raise PosaError(
            f"expected a policy trained on a chunk of consecutive actions, found {policy.type} with "
            f"{actions or 'no chunk'}: train it with lerobot-train"
        )
    source = BatchSource(
        cache,
        batch_size=config.batch_size,
        chunk_size=len(actions),
        first_action=actions[0],
        observation_deltas=policy.observation_delta_indices,
        drop_last_frames=getattr(policy, "drop_n_last_frames", None) or 0,
        labels=ours,
        device=hardware.plain_device(accelerator.device),
        seed=config.seed,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        sampler=config.sampler,
        after_interaction=1.0 if config.after_interaction is None else config.after_interaction,
        resident=config.resident,
    )
    if ours or not config.peer.augmentation.enabled:
        return source
    return peers.AugmentedSource(source, config.peer.augmentation, config.seed, accelerator.process_index)


def open_cache(config: TrainConfig, accelerator: Accelerator) -> FrameCache:
    """The dataset's frame cache: built by the first process if it is missing or stale, opened by all."""
    root = config.dataset.root
    if root is None:
        if config.cache is None:
            raise PosaError("expected a labelled dataset: pass --dataset.root=DIR (or --cache=DIR)")
        return FrameCache.open(config.cache)
    if accelerator.is_main_process:
        build_cache(root, config.cache)
    accelerator.wait_for_everyone()
    return FrameCache.open(config.cache or default_cache_root(root), root)


def set_features(policy: PreTrainedConfig, features: dict[str, dict]) -> None:
    """Inputs and outputs of a new policy from the dataset; those it has already are checked against it."""
    if getattr(policy, "uses_anchors", False) and ANCHORS not in features:
        raise PosaError(
            f"expected the column {ANCHORS!r}, found {', '.join(sorted(features))}: add it with "
            "`posa-vla label --dataset.root=IN --rig=RIG --output=OUT`"
        )
    found = dataset_to_policy_features({key: value for key, value in features.items() if key not in LABELS})
    outputs = {key: value for key, value in found.items() if value.type is FeatureType.ACTION}
    # A batch holds images and the state: a policy must not be built for more.
    inputs = {key: value for key, value in found.items() if key == OBS_STATE or value.type is FeatureType.VISUAL}
    policy.input_features = policy.input_features or inputs
    policy.output_features = policy.output_features or outputs
    for key, feature in (policy.input_features | policy.output_features).items():
        given = found.get(key)
        if given is None or tuple(given.shape) != tuple(feature.shape):
            shape = None if given is None else tuple(given.shape)
            raise PosaError(
                f"the policy expects {key!r} of shape {tuple(feature.shape)}, the dataset has {shape}: use the "
                "dataset it was trained on"
            )


def check_evaluation(config: TrainConfig, policy: PreTrainedConfig) -> None:
    """Raise PosaError now on what the first evaluation, `eval_freq` steps later, would stop the run with."""
    if not config.eval_freq:
        return
    from posa_vla.evaluation.rollout import check_conditions, check_options

    check_conditions((config.eval_condition,), "val")
    check_options(config.env)
    side = config.env.image_size
    for key, feature in policy.image_features.items():
        if camera_name(key) not in CAMERAS or set(feature.shape[1:]) != {side}:
            raise PosaError(
                f"--eval_freq runs the tabletop suite, whose cameras are {', '.join(CAMERAS)} with --env.image_size="
                f"{side} pixels square, found {key} of shape {tuple(feature.shape)}: set --env.image_size to its side, "
                "or leave --eval_freq out"
            )


def evaluate(pretrained: Path, step: int, config: TrainConfig) -> dict[str, float]:
    """Success of a checkpoint on the `val` split, over the episodes that ended without an error."""
    from posa_vla.evaluation.records import ERROR, SUCCESS
    from posa_vla.evaluation.rollout import evaluate as run_episodes

    records = run_episodes(
        pretrained,
        (config.eval_condition,),
        config.eval_episodes,
        split="val",
        workers=config.eval_workers,
        env_options=config.env,
    )
    outcomes = [record.outcome for record in records]
    ended = [outcome for outcome in outcomes if outcome != ERROR]
    if not ended:
        raise PosaError(
            f"all {len(outcomes)} evaluation episodes at step {step} ended in an error: {records[0].message}"
        )
    return {"success": ended.count(SUCCESS) / len(ended), "episodes": len(ended), "errors": len(outcomes) - len(ended)}


def summary(lines: Sequence[dict[str, Any]]) -> str:
    """A short table: the first, middle and last line of the log."""
    lines = [line for line in lines if "loss" in line]
    if not lines:
        return ""
    chosen = [lines[0], lines[len(lines) // 2], lines[-1]] if len(lines) > 2 else lines
    names = [name for name in SUMMARY if any(name in line for line in lines)]
    width = max(map(len, names))
    rows = [f"{'step':<{width}}" + "".join(f"{line['step']:>12}" for line in chosen)]
    for name in names:
        cells = (f"{line[name]:>12.4g}" if name in line else f"{'-':>12}" for line in chosen)
        rows.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(rows)
