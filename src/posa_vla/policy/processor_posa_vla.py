"""From a raw batch to what the network reads, and from its actions back to the robot's units.

Images stay float32 in [0, 1] (encoders that want other statistics normalise inside the network), the state
and the actions are normalised by the dataset's statistics, and the sentence becomes tokens.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PipelineFeatureType, PolicyFeature
from lerobot.lerobot_types import RobotObservation, TransitionKey
from lerobot.processor import (
    ObservationProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    ProcessorStepRegistry,
    make_default_policy_processor_steps,
    make_policy_processor_pipelines,
)
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from posa_vla.contract import ACTION, LANGUAGE_MASK, LANGUAGE_TOKENS, RAW_STATE, STATE
from posa_vla.errors import PosaError
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig

logger = logging.getLogger(__name__)

BYTES = "bytes"
"""The tokenizer that needs no files: one token per UTF-8 byte."""

Pipelines = tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]


@ProcessorStepRegistry.register(name="posa_vla_check")
@dataclass
class ObservationCheckStep(ObservationProcessorStep):
    """Raises where an observation is missing or of another size than the policy's: normalisation, the next
    step, would fail with a broadcasting error or, worse, succeed.

    Args:
        shapes: For every input of the policy its shape without the batch dimension.
    """

    shapes: dict[str, tuple[int, ...]]

    def observation(self, observation: RobotObservation) -> RobotObservation:
        for key, expected in self.shapes.items():
            if key not in observation:
                raise PosaError(
                    f"the policy expects {key}, found {', '.join(observation)}: give it that observation, or map "
                    "another name to it with --rename_map"
                )
            found = tuple(observation[key].shape[1:])
            if found != tuple(expected):
                raise PosaError(
                    f"the policy expects {key} of shape {tuple(expected)}, found {found}: use observations like "
                    "those it was trained on, or train a new policy"
                )
        return observation

    def get_config(self) -> dict[str, Any]:
        return {"shapes": {key: list(shape) for key, shape in self.shapes.items()}}

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        return features


@ProcessorStepRegistry.register(name="posa_vla_raw_state")
@dataclass
class RawStateStep(ObservationProcessorStep):
    """Keeps the state in the robot's units as `RAW_STATE`, for points in space; normalisation is the next step."""

    def observation(self, observation: RobotObservation) -> RobotObservation:
        return {**observation, RAW_STATE: observation[STATE].clone()}

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        return features


@ProcessorStepRegistry.register(name="posa_vla_tokenizer")
@dataclass
class InstructionTokenizerStep(ObservationProcessorStep):
    """Adds `LANGUAGE_TOKENS` (B, L) int64 and `LANGUAGE_MASK` (B, L) bool for the batch's ``task`` sentences.

    A tokenizer with files is saved inside the checkpoint (as one tensor of bytes), so that the checkpoint
    loads on a machine that has neither the hub nor the folder it came from.

    Args:
        tokenizer: ``bytes``, or the hub name or local folder of a tokenizer.
        max_length: Tokens L every sentence is padded to; a longer sentence is an error, never cut.
    """

    tokenizer: str = BYTES
    max_length: int = 64
    _loaded: Any = field(default=None, init=False, repr=False)
    _rows: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def observation(self, observation: RobotObservation) -> RobotObservation:
        rows = [self._encode(sentence) for sentence in self._sentences()]
        device = next((value.device for value in observation.values() if isinstance(value, Tensor)), None)
        tokens = torch.stack([tokens for tokens, _ in rows]).to(device)  # (B, L)
        mask = torch.stack([mask for _, mask in rows]).to(device)  # (B, L)
        return {**observation, LANGUAGE_TOKENS: tokens, LANGUAGE_MASK: mask}

    def _sentences(self) -> list[str]:
        task = (self.transition.get(TransitionKey.COMPLEMENTARY_DATA) or {}).get("task")
        sentences = [task] if isinstance(task, str) else list(task or [])
        if not sentences or not all(isinstance(sentence, str) and sentence for sentence in sentences):
            raise PosaError(
                f"expected an instruction per sample in the batch's 'task', found {task!r}: "
                "give the dataset's episodes (or the environment's task_description) a sentence"
            )
        return sentences

    def _encode(self, sentence: str) -> tuple[Tensor, Tensor]:
        """(tokens (L,) int64, mask (L,) bool); a control loop repeats one sentence, so rows are kept."""
        if sentence not in self._rows:
            ids = self.ids(sentence)
            if len(ids) > self.max_length:
                raise PosaError(
                    f"the instruction {sentence!r} has {len(ids)} tokens, the policy takes {self.max_length}: "
                    "shorten it, or train with a larger --policy.max_text_length"
                )
            tokens = torch.full((self.max_length,), self._tokenizer().pad_token_id, dtype=torch.int64)
            tokens[: len(ids)] = ids
            self._rows[sentence] = tokens, torch.arange(self.max_length) < len(ids)
        return self._rows[sentence]

    def ids(self, sentence: str) -> Tensor:
        """Tokens (n,) int64 of a sentence, unpadded."""
        return torch.tensor(self._tokenizer()(sentence)["input_ids"], dtype=torch.int64)

    def _tokenizer(self) -> Any:
        if self._loaded is None:
            self._loaded = ByT5Tokenizer() if self.tokenizer == BYTES else _from_files(self.tokenizer)
        return self._loaded

    def get_config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer, "max_length": self.max_length}

    def state_dict(self) -> dict[str, Tensor]:
        if self.tokenizer == BYTES:
            return {}
        tokenizer = self._tokenizer()
        json = np.frombuffer(tokenizer.backend_tokenizer.to_str().encode(), dtype=np.uint8)
        return {
            "tokenizer_json": torch.from_numpy(json.copy()),
            "pad_token_id": torch.tensor(tokenizer.pad_token_id),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if "tokenizer_json" not in state:
            return
        backend = Tokenizer.from_str(bytes(state["tokenizer_json"].cpu().numpy()).decode())
        pad_token = backend.id_to_token(int(state["pad_token_id"]))
        self._loaded = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad_token)
        self._rows.clear()

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        language = PolicyFeature(type=FeatureType.LANGUAGE, shape=(self.max_length,))
        observation = features.get(PipelineFeatureType.OBSERVATION, {})
        added = {LANGUAGE_TOKENS: language, LANGUAGE_MASK: language}
        return {**features, PipelineFeatureType.OBSERVATION: {**observation, **added}}


def _from_files(name: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        where = "folder" if Path(name).exists() else "hub name or folder"
        raise PosaError(
            f"expected a tokenizer in the {where} {name!r}, found none that loads: download it first, or choose "
            "--policy.preset=tiny, which needs no files"
        ) from error


def with_wide_quantiles(stats: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The statistics, with the range of the action instead of its quantiles where these coincide.

    A dimension that rarely moves (a rotation used in 1 % of the frames) has q01 = q99; dividing by that range
    would turn its few values into numbers of 1e8.
    """
    narrow = _narrow(stats)
    if narrow is None or not narrow.any():
        return stats
    logger.warning("action dimensions %s rarely move: scaled by their range", narrow.nonzero().flatten().tolist())
    action = stats[ACTION]
    q01, q99, low, high = (torch.as_tensor(action[name]) for name in ("q01", "q99", "min", "max"))
    wide = {"q01": torch.where(narrow, low, q01), "q99": torch.where(narrow, high, q99)}
    return {**stats, ACTION: {**action, **wide}}


def with_unit_spread(stats: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The statistics, with a spread of 1 for numbers of the state that never change in the dataset.

    Their standard deviation is zero; dividing by that would turn a joint that gives way by 0.1 mm, when the policy
    acts, into numbers of 1e4.
    """
    fixed = _fixed(stats)
    if fixed is None or not fixed.any():
        return stats
    logger.warning("state dimensions %s never change in the dataset", fixed.nonzero().flatten().tolist())
    std = torch.as_tensor(stats[STATE]["std"])
    return {**stats, STATE: {**stats[STATE], "std": torch.where(fixed, torch.ones_like(std), std)}}


def hardly_moving(stats: dict[str, dict[str, Any]]) -> dict[str, list[int]]:
    """Key -> the dimensions that `with_wide_quantiles` and `with_unit_spread` would change."""
    masks = {ACTION: _narrow(stats), STATE: _fixed(stats)}
    return {key: mask.nonzero().flatten().tolist() for key, mask in masks.items() if mask is not None and mask.any()}


def _narrow(stats: dict[str, dict[str, Any]]) -> Tensor | None:
    """(A,) action dimensions whose quantiles coincide although they move; None without such statistics."""
    action = stats.get(ACTION, {})
    if not {"q01", "q99", "min", "max"} <= action.keys():
        return None
    q01, q99, low, high = (torch.as_tensor(action[name]) for name in ("q01", "q99", "min", "max"))
    return (q99 - q01 <= 1e-6 * (high - low)) & (high > low)


def _fixed(stats: dict[str, dict[str, Any]]) -> Tensor | None:
    """(S,) numbers of the state that never change; None without such statistics."""
    state = stats.get(STATE, {})
    if not {"std", "min", "max"} <= state.keys():
        return None
    return torch.as_tensor(state["min"]) == torch.as_tensor(state["max"])


def make_posa_vla_pre_post_processors(
    config: PosaVLAConfig,
    dataset_stats: dict[str, dict[str, Tensor]] | None = None,
    dataset_meta: Any | None = None,
) -> Pipelines:
    """The two pipelines LeRobot saves beside the weights; the name and signature are LeRobot's convention."""
    stats = with_unit_spread(with_wide_quantiles(dataset_stats)) if dataset_stats else dataset_stats
    steps = make_default_policy_processor_steps(config, stats, normalizer_device=config.device)
    tokenizer = InstructionTokenizerStep(tokenizer=config.tokenizer, max_length=config.max_text_length)
    return make_policy_processor_pipelines(
        input_steps=[
            steps.rename_observations,
            steps.add_batch_dim,
            ObservationCheckStep({key: tuple(ft.shape) for key, ft in (config.input_features or {}).items()}),
            tokenizer,
            steps.to_device,
            *([RawStateStep()] if config.point_tokens else []),
            steps.normalize,
        ],
        output_steps=[steps.unnormalize, steps.to_cpu],
    )
