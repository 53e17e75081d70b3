"""AdamW over the policy's own parameter groups, and its state as named tensors (no pickle)."""

from collections.abc import Iterable

import torch
from lerobot.optim import AdamWConfig
from torch import Tensor, nn

from posa_vla.errors import PosaError


def make_adamw(module: nn.Module, groups: Iterable[dict], preset: AdamWConfig) -> torch.optim.AdamW:
    """AdamW on `groups`; each group keeps its full rate as ``base_lr`` for the schedule to scale.

    Args:
        module: owner of the parameters; each trainable one must be in exactly one group.
        groups: dicts with ``params`` and optionally ``lr``, ``weight_decay``.
        preset: rate of the groups that name none, betas, eps and weight decay.
    """
    groups = [dict(group, params=list(group["params"])) for group in groups]
    check_coverage(module, groups)
    optimizer = torch.optim.AdamW(groups, preset.lr, preset.betas, preset.eps, preset.weight_decay, fused=True)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def check_coverage(module: nn.Module, groups: Iterable[dict]) -> None:
    """Assert that the groups hold each trainable parameter exactly once."""
    wanted = {id(parameter): name for name, parameter in module.named_parameters() if parameter.requires_grad}
    given = [id(parameter) for group in groups for parameter in group["params"]]
    missing = [name for key, name in wanted.items() if key not in given]
    assert not missing, f"no optimiser group holds {missing}"
    assert len(given) == len(set(given)), "a parameter is in two optimiser groups"
    assert set(given) == set(wanted), "an optimiser group holds a frozen or foreign parameter"


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Scale every group's rate to ``base_lr · factor``; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]


def optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State as ``<slot>/<parameter name>`` → tensor; a parameter without a gradient so far has none."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        f"{slot}/{names[id(parameter)]}": value.detach().clone().contiguous()
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
    }


def load_optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`; each slot gets its parameter's memory layout (channels last)."""
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        slot, name = key.split("/", 1)
        if name not in parameters:
            raise PosaError(
                f"the checkpoint's optimiser state has a parameter {name!r} that this policy lacks: resume "
                "with the configuration that wrote it"
            )
        parameter = parameters[name]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][slot] = value
