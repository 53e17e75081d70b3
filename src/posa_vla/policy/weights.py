"""Loading a checkpoint: all of its weights or an error that names what is wrong; LeRobot's own only warns."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from lerobot.configs import PreTrainedConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from posa_vla.errors import PosaError
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig

logger = logging.getLogger(__name__)
END_TOKENS = "network.end_tokens"
HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


def download(name: str, options: dict[str, Any]) -> Path:
    """Folder of the hub's checkpoint `name`, with those of LeRobot's loading options that are about the hub."""
    hub = {key: options[key] for key in HUB_OPTIONS if key in options}
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG_NAME, SAFETENSORS_SINGLE_FILE], **hub))
    except (OSError, ValueError) as error:
        raise PosaError(
            f"expected a checkpoint's folder or its name on the hub, found {name!r}, which could not be downloaded "
            f"({' '.join(str(error).split())}): correct it, or go online once"
        ) from error


def check_config(path: Path, config: PosaVLAConfig | None) -> None:
    """Raise if a checkpoint's config.json cannot be read, or `config`, which overrides it, names another preset.

    The saved fields are concrete, so that another preset's name alone would change nothing, silently.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))["preset"]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if config is not None and config.preset != saved:
        raise PosaError(
            f"the checkpoint {path.parent} was built from the preset {saved!r}, --policy.preset={config.preset} "
            "asks for another: a preset shapes new policies only, leave the option out"
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a complete safetensors file, on the CPU."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def read_end_tokens(path: Path) -> Tensor:
    """The tokens of the end prompt (1, L) that a checkpoint was trained with."""
    try:
        with safe_open(path, framework="pt") as tensors:
            return tensors.get_tensor(END_TOKENS)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, error) from error


def additions(path: Path, config: PosaVLAConfig) -> set[str]:
    """Modules that `config` adds to the network of the checkpoint whose config.json is at `path`."""
    wanted = config.network().additions
    if not wanted or not path.is_file():
        return set()
    saved = PreTrainedConfig.from_pretrained(path.parent)
    assert isinstance(saved, PosaVLAConfig)
    return wanted - saved.network().additions


def load_strictly(module: nn.Module, path: Path, added: Iterable[str] = ()) -> None:
    """Fill every parameter and persistent buffer of `module`; raises before anything is changed.

    Modules of `module` named in `added` stay as they were drawn if the file has nothing of them.
    """
    found, expected = read_tensors(path), module.state_dict()
    for name in added:
        new = {key: value for key, value in expected.items() if key.startswith(f"{name}.")}
        if not new.keys() & found.keys():
            logger.warning("%s is new and untrained: %s has none", name, path.parent)
            found |= new
    problems = {
        "missing": expected.keys() - found.keys(),
        "unexpected": found.keys() - expected.keys(),
        "of another size": {key for key in expected.keys() & found.keys() if expected[key].shape != found[key].shape},
    }
    complaints = [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]
    if complaints:
        raise PosaError(
            f"expected {path} to hold exactly this policy's {len(expected)} tensors, found {'; '.join(complaints)}: "
            "load it with the config.json that was saved beside it"
        )
    with torch.no_grad():
        module.load_state_dict(found, strict=True)


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = sorted(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _damaged(path: Path, error: Exception) -> PosaError:
    return PosaError(
        f"expected a complete {path.name} in {path.parent}, found one that cannot be read "
        f"({' '.join(str(error).split())}): restore it or use another checkpoint"
    )
