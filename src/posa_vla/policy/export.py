"""``posa-vla export``: a checkpoint as a small folder to share; LeRobot's format, weights in half precision."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import draccus
import torch
from safetensors.torch import save_file

from posa_vla.errors import PosaError, unknown_name
from posa_vla.evaluation.runner import CONFIG, WEIGHTS, policy_folder, read_config
from posa_vla.policy.weights import read_tensors

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass
class PolicyArgs:
    """Args:
    path: LeRobot's ``pretrained_model`` folder.
    """

    path: Path


@dataclass
class ExportConfig:
    """Copy a policy's configuration and processors, and its weights in another precision.

    Args:
        policy: --policy.path=DIR, the checkpoint to copy.
        output: the new folder; it must not exist.
        dtype: float16 (half the size; loaded back into float32), bfloat16 or float32.
    """

    policy: PolicyArgs
    output: Path
    dtype: str = "float16"


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=ExportConfig, args=argv)
    export(config.policy.path, config.output, config.dtype)
    size = (config.output / WEIGHTS).stat().st_size / 2**20
    print(f"{config.output}: {WEIGHTS} of {size:.1f} MiB in {config.dtype}")
    return 0


def export(policy: Path, output: Path, dtype: str = "float16") -> None:
    """Write `output` in one rename; raises PosaError where a weight does not fit the precision."""
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    folder = policy_folder(policy)
    if output.exists():
        raise PosaError(f"expected a new folder, found {output} in place: remove it or choose another --output")
    if folder.resolve() in output.resolve().parents:
        raise PosaError(f"{output} lies inside the checkpoint {folder}, which must not change: choose another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        copy = Path(temporary) / output.name
        shutil.copytree(folder, copy)
        # After fine-tuning it names the folder on this machine that training began from.
        config = {**read_config(folder), "pretrained_path": None}
        (copy / CONFIG).write_text(json.dumps(config, indent=4) + "\n")
        save_file(_cast(folder / WEIGHTS, DTYPES[dtype]), copy / WEIGHTS, metadata={"format": "pt"})
        os.replace(copy, output)


def _cast(path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Floating tensors in `dtype`; whole numbers (steps, tokens) as they are."""
    cast = {}
    for name, tensor in read_tensors(path).items():
        cast[name] = tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor
        if not torch.isfinite(cast[name].float()).all():
            raise PosaError(f"the weight {name} of {path} is not finite in {dtype}: export with --dtype=float32")
    return cast
