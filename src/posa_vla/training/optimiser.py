"""Adam or AdamW over the policy's own parameter groups, and its state as named tensors (no pickle)."""

from collections.abc import Iterable
from typing import Any

import torch
from lerobot.optim import AdamConfig, AdamWConfig, OptimizerConfig
from torch import Tensor, nn

from posa_vla.errors import PosaError

FUSED: dict[type[OptimizerConfig], type[torch.optim.Adam]] = {
    AdamConfig: torch.optim.Adam,
    AdamWConfig: torch.optim.AdamW,  # an Adam, to torch
}
"""torch's optimiser by LeRobot's preset; fused, which LeRobot's own ``build`` is not."""


def make_optimizer(
    module: nn.Module, params: Iterable[dict] | Iterable[Tensor], preset: OptimizerConfig
) -> torch.optim.Optimizer:
    """The policy's optimiser on its parameters; each group keeps its full rate as ``base_lr`` for the schedule.

    Args:
        module: owner of the parameters; each trainable one must be in exactly one group.
        params: parameters, or groups: dicts with ``params`` and optionally ``lr``, ``weight_decay``.
        preset: the rate of groups that name none, betas, eps and weight decay of Adam or AdamW.
    """
    kind = FUSED.get(type(preset))
    if kind is None or not isinstance(preset, AdamConfig | AdamWConfig):
        raise PosaError(f"expected a policy trained by adam or adamw, found {preset.type}: train it with lerobot-train")
    groups = _groups(params)
    check_coverage(module, groups)
    optimizer = kind(
        groups, lr=preset.lr, betas=preset.betas, eps=preset.eps, weight_decay=preset.weight_decay, fused=True
    )
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def _groups(params: Iterable[dict] | Iterable[Tensor]) -> list[dict[str, Any]]:
    """Groups as dicts with a list; bare parameters are one group, of the trainable ones."""
    groups: list[dict[str, Any]] = []
    bare: list[Tensor] = []
    for entry in params:
        if isinstance(entry, Tensor):
            bare.append(entry)
        else:
            groups.append({**entry, "params": list(entry["params"])})
    return groups or [{"params": [parameter for parameter in bare if parameter.requires_grad]}]


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
