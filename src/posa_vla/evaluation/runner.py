"""Any LeRobot policy folder, behind three calls: reset, act, attention."""

import contextlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.utils.constants import OBS_IMAGES, OBS_STATE
from lerobot.utils.import_utils import register_third_party_plugins

from posa_vla.contract import ANCHORS, camera_name
from posa_vla.errors import PosaError
from posa_vla.evaluation.space_error import Space
from posa_vla.policy.attention import AttentionView
from posa_vla.training.bundle import resolve

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PREPROCESSOR = "policy_preprocessor.json"
STEPS_FROM_NOISE = ("integration_steps", "num_integration_steps", "num_inference_steps", "num_steps")
"""What PosA-VLA, multi_task_dit, pi0 and smolvla call the steps from noise to a chunk."""


@dataclass(frozen=True)
class PolicySource:
    """Which policy to run, and how.

    Args:
        path: LeRobot's ``pretrained_model`` folder.
        device: torch device; None picks an accelerator where there is one.
        n_action_steps: actions executed of each chunk; None keeps the checkpoint's own.
        integration_steps: steps from noise to a chunk; None keeps the checkpoint's own.
    """

    path: Path
    device: str | None = None
    n_action_steps: int | None = None
    integration_steps: int | None = None


def policy_folder(path: Path) -> Path:
    """`path`, once it is seen to hold a LeRobot policy."""
    path = Path(path)
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]
    if missing:
        inner = path / "pretrained_model"
        hint = f"pass {inner}" if inner.is_dir() else "pass the pretrained_model folder of a checkpoint"
        raise PosaError(
            f"expected a LeRobot policy with {CONFIG} and {WEIGHTS} in {path}, "
            f"found no {' and no '.join(missing)}: {hint} as --policy.path"
        )
    return path


def read_config(path: Path) -> dict[str, Any]:
    """The checkpoint's config.json; needs no torch model."""
    try:
        return json.loads((policy_folder(path) / CONFIG).read_text())
    except ValueError as error:
        raise PosaError(f"{path / CONFIG} is not JSON ({error}): the checkpoint is damaged, use another") from error


def image_size(path: Path) -> int | None:
    """Side of the square camera images that a checkpoint was trained on; None where it says nothing."""
    features = read_config(path).get("input_features") or {}
    sides = {side for name, f in features.items() if name.startswith(OBS_IMAGES) for side in f["shape"][1:]}
    return sides.pop() if len(sides) == 1 else None


class PolicyRunner:
    """A loaded policy with its processors; everything random in it follows from `reset`'s seed."""

    def __init__(self, source: PolicySource) -> None:
        register_third_party_plugins()
        path = policy_folder(source.path)
        read_config(path)
        try:
            self.config = _configure(path, source)
            overrides = resolve(self.config, path) | _device_override(path, str(self.config.device))
            self.policy = get_policy_class(self.config.type).from_pretrained(path, config=self.config, strict=True)
            self.preprocess, self.postprocess = make_pre_post_processors(
                self.config, str(path), preprocessor_overrides=overrides
            )
        except PosaError:
            raise
        except Exception as error:  # anything a damaged or foreign folder can cause, in a dozen libraries
            reason = " ".join(str(error).split())[:300]
            raise PosaError(
                f"expected a complete LeRobot policy in {path}, found one that does not load "
                f"({type(error).__name__}: {reason}): use another checkpoint"
            ) from error
        self.policy.eval()
        self.has_attention = hasattr(self.policy, "attention")
        self.needs_anchors = bool(getattr(self.policy, "needs_anchors", False))
        self.planned = False
        self.space: Space | None = None
        self._watch_planning()
        self.cameras = tuple(camera_name(key) for key in self.config.image_features)

    def _watch_planning(self) -> None:
        """Sets `planned` in every `act` that computes a chunk: LeRobot's policies do so in one method."""
        predict = self.policy.predict_action_chunk

        def predict_and_tell(*args: Any, **kwargs: Any) -> Any:
            self.planned = True
            return predict(*args, **kwargs)

        self.policy.predict_action_chunk = predict_and_tell

    def check(self, observation: dict[str, Any]) -> None:
        """Compare an observation of the environment with what the checkpoint was trained on."""
        found = {name: tuple(value.shape[1:]) for name, value in preprocess_observation(observation).items()}
        for name, feature in (self.config.input_features or {}).items():
            shape = tuple(feature.shape)
            if name.startswith(OBS_IMAGES) and name not in found:
                raise PosaError(
                    f"the checkpoint expects {name}, the environment gives {', '.join(sorted(found))}: "
                    "use a checkpoint trained on this suite's cameras"
                )
            if name.startswith(OBS_IMAGES) and found[name] != shape:
                raise PosaError(
                    f"the checkpoint expects {name} of shape {shape}, the environment gives "
                    f"{found[name]}: pass --image_size={shape[-1]}"
                )
            if name == OBS_STATE and found.get(name) != shape:
                raise PosaError(
                    f"the checkpoint expects {name} of shape {shape}, the environment gives "
                    f"{found.get(name)}: use a checkpoint trained on this robot's state"
                )

    def reset(self, seed: int) -> None:
        """Forget the last episode; LeRobot policies draw their noise from the global generators."""
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        self.policy.reset()
        for processor in (self.preprocess, self.postprocess):
            processor.reset()

    def act(self, observation: dict[str, Any], task: str) -> np.ndarray:
        """The next action (A,), float32, in the environment's units; `planned` says if a chunk was computed."""
        self.planned = False
        with torch.inference_mode(), self._autocast():
            action = self.policy.select_action(self._batch(observation, task))
            action = self.postprocess(action)
        return action.squeeze(0).float().cpu().numpy()

    def attention(self, observation: dict[str, Any], task: str) -> tuple[np.ndarray, np.ndarray]:
        """Anchor maps (C, 2, Hp, Wp) in [0, 1] and their points (C, 2, 2); leaves the noise untouched.

        `space` then holds what the policy says of depth, if it does.
        """
        view = self.attention_of(self._batch(observation, task))
        depth, points = getattr(view, "depth", None), getattr(view, "points", None)
        self.space = None if depth is None else Space(_first(depth), None if points is None else _first(points))
        return view.maps[0].float().cpu().numpy(), view.uv[0].float().cpu().numpy()

    def attention_of(self, batch: dict[str, Any]) -> AttentionView:
        """Where the policy looks for preprocessed observations; leaves the noise untouched."""
        with torch.random.fork_rng(), torch.inference_mode(), self._autocast():
            return self.policy.attention(batch)

    def _batch(self, observation: dict[str, Any], task: str) -> dict[str, Any]:
        batch: dict[str, Any] = preprocess_observation(observation)
        if ANCHORS in observation:
            batch[ANCHORS] = torch.from_numpy(observation[ANCHORS])[None]
        batch["task"] = [task]
        return self.preprocess(batch)

    def _autocast(self) -> contextlib.AbstractContextManager:
        if getattr(self.config, "use_amp", False):
            return torch.autocast(device_type=torch.device(self.config.device).type)
        return contextlib.nullcontext()


def _first(values: torch.Tensor) -> np.ndarray:
    """Of a batch of one."""
    return values[0].double().cpu().numpy()


def _configure(path: Path, source: PolicySource) -> PreTrainedConfig:
    config = PreTrainedConfig.from_pretrained(path)
    config.pretrained_path = path
    config.device = source.device or _accelerator()
    if source.n_action_steps is not None:
        set_executed_steps(config, source.n_action_steps)
    if source.integration_steps is not None:
        set_integration_steps(config, source.integration_steps)
    return config


def set_executed_steps(config: PreTrainedConfig, count: int) -> None:
    """Actions executed of each chunk, within what the policy predicts."""
    if not hasattr(config, "n_action_steps"):
        raise PosaError(f"a {config.type} policy has no n_action_steps: leave --n_action_steps out")
    longest = len(config.action_delta_indices or ()) or count
    longest += min(0, *(config.action_delta_indices or (0,)))  # a chunk may begin at the oldest observation
    if not 1 <= count <= longest:
        raise PosaError(f"expected --n_action_steps between 1 and {longest}, the checkpoint's chunk, found {count}")
    config.n_action_steps = count


def set_integration_steps(config: PreTrainedConfig, count: int) -> None:
    """Steps from noise to a chunk, by whichever name the policy has for them."""
    name = integration_field(config)
    if name is None:
        raise PosaError(f"a {config.type} policy makes a chunk in one step: leave --integration_steps out")
    if count < 1:
        raise PosaError(f"expected --integration_steps of at least 1, found {count}")
    setattr(config, name, count)


def integration_field(config: PreTrainedConfig) -> str | None:
    """What the policy calls the steps from noise to a chunk; None where it takes none."""
    unused = "num_integration_steps" if getattr(config, "objective", None) == "diffusion" else None  # multi_task_dit
    return next((name for name in STEPS_FROM_NOISE if hasattr(config, name) and name != unused), None)


def _accelerator() -> str:
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else found.type


def _device_override(path: Path, device: str) -> dict[str, Any]:
    """The saved pipeline names the training machine's device; an override of an absent step is an error."""
    steps = json.loads((path / PREPROCESSOR).read_text())["steps"] if (path / PREPROCESSOR).exists() else []
    present = any(step.get("registry_name") == "device_processor" for step in steps)
    return {"device_processor": {"device": device}} if present else {}
