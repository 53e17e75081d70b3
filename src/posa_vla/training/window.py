"""Means of what the policy reports, over the steps between two log lines and over all processes."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


class Window:
    """Sums of plain numbers, or of tensors where they are: adding these does not wait for their device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, numbers: Mapping[str, Any]) -> None:
        """Add one step; a name may be absent in some steps (the first stage has no action loss)."""
        for name, value in numbers.items():
            value = value.detach().float() if isinstance(value, Tensor) else float(value)
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def local_means(self) -> dict[str, float]:
        """Means over this process's steps so far."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over steps and processes, and start again."""
        means = self.local_means()
        self._sums, self._counts = {}, {}
        if accelerator.num_processes == 1:
            return means
        names = sorted(means)
        values = torch.tensor([means[name] for name in names], device=accelerator.device)
        reduced = accelerator.reduce(values, reduction="mean").tolist()
        return dict(zip(names, reduced, strict=True))
