"""Exponential moving average of the weights: what is saved as the policy, while the raw weights train on."""

import torch
from torch import Tensor, nn


def ema_decay(updates: int, decay: float) -> float:
    """Decay of the next update: min(decay, (1 + n) / (10 + n)) after n updates.

    The ramp lets the average forget the random initialisation early (0.1, 0.18, 0.25, …); it needs no state
    beyond the number of updates, which is the training step.
    """
    return min(decay, (1 + updates) / (10 + updates))


class Ema:
    """Average of every trainable parameter of `module`; everything else is taken from `module` as it is."""

    def __init__(self, module: nn.Module, decay: float):
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"expected an EMA decay in [0, 1), got {decay}")
        self.module, self.decay = module, decay
        self.shadow = {
            name: parameter.detach().clone() for name, parameter in module.named_parameters() if parameter.requires_grad
        }
        parameters = dict(module.named_parameters())
        self._live: list[Tensor] = [parameters[name] for name in self.shadow]

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """shadow ← d · shadow + (1 − d) · weights, d = `ema_decay`(updates)."""
        weight = 1.0 - ema_decay(updates, self.decay)
        torch._foreach_lerp_(list(self.shadow.values()), self._live, weight)

    def state_dict(self) -> dict[str, Tensor]:
        """The module's state with averaged parameters; contiguous copies, ready for safetensors."""
        state = self.module.state_dict() | self.shadow
        return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Take the averages from a state written by `state_dict`."""
        for name, tensor in self.shadow.items():
            tensor.copy_(state[name])
