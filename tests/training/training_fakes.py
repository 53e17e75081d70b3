"""A policy and a source of a few numbers each, so that the trainer's own behaviour is what a test sees."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lerobot.optim import AdamWConfig
from lerobot.optim.schedulers import CosineAnnealingWithWarmupSchedulerConfig
from safetensors.torch import save_file
from torch import Tensor, nn

from posa_vla.training.checkpoint import Checkpoints
from posa_vla.training.config import TrainConfig
from posa_vla.training.loop import Outcome, Trainer


@dataclass
class FakeConfig:
    anchor_steps: int = 3
    lr: float = 1e-2
    warmup: int = 4
    adamw: AdamWConfig = field(default_factory=lambda: AdamWConfig(lr=1e-2, weight_decay=1e-6, grad_clip_norm=1.0))

    def get_optimizer_preset(self) -> AdamWConfig:
        return self.adamw

    def get_scheduler_preset(self) -> CosineAnnealingWithWarmupSchedulerConfig:
        return CosineAnnealingWithWarmupSchedulerConfig(num_warmup_steps=self.warmup)


class FakePolicy(nn.Module):
    """Two stages, a head without gradients in the first, and noise from the global generator in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = FakeConfig()
        self.body = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        self.head = nn.Linear(8, 2)
        self.register_buffer("count", torch.tensor(0))
        self.spoil_at = -1

    def get_optim_params(self) -> list[dict]:
        return [{"params": self.body.parameters(), "lr": 1e-3}, {"params": self.head.parameters()}]

    def update(self) -> None:
        self.count += 1

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        images = batch["observation.images.head"]
        features = self.body(images + 0.1 * torch.randn_like(images)).mean((2, 3))
        loss = features.square().mean()
        numbers = {"focal_loss": loss.detach(), "same_task_pairs": 9.0}
        if self.count >= self.config.anchor_steps:
            action = (self.head(features) - batch["action"]).square().mean()
            loss, numbers = loss + action, numbers | {"action_loss": action.detach()}
        if self.count == self.spoil_at:
            loss = loss * float("nan")
        return loss, numbers

    def save_pretrained(self, folder: Path, state_dict: dict[str, Tensor]) -> None:
        folder.mkdir(parents=True)
        save_file(state_dict, folder / "model.safetensors")


class FakeSource:
    """Batches that depend on the step alone."""

    def batch(self, step: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=generator)
        return {"observation.images.head": images, "action": torch.randn(4, 2, generator=generator)}


class Unchanged:
    """A processor that does nothing."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch

    def save_pretrained(self, folder: Path) -> None:
        (folder / "processor.json").write_text("{}")


def make_trainer(folder: Path, **options: Any) -> Trainer:
    """A trainer of the fakes that writes to `folder`."""
    torch.set_num_threads(1)
    options = {"steps": 12, "batch_size": 4, "save_freq": 0, "log_freq": 2, "output_dir": Path(folder)} | options
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    evaluate = options.pop("evaluate", None)
    return Trainer(
        TrainConfig(**options), FakePolicy(), (Unchanged(), Unchanged()), FakeSource(), accelerator, evaluate
    )


def run(folder: Path, **options: Any) -> Outcome:
    """Train from the newest checkpoint in `folder`, or from the start if there is none."""
    trainer = make_trainer(folder, **options)
    newest = Checkpoints(Path(folder) / "checkpoints").newest()
    if newest is not None:
        trainer.restore(newest)
    return trainer.run()
