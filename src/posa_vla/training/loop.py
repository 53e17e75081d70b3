"""The training loop: batch → loss → step, with everything that happens every N steps."""

import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from lerobot.policies import PreTrainedPolicy
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from posa_vla.data.files import alone_in
from posa_vla.errors import PosaError
from posa_vla.policy.weights import read_tensors
from posa_vla.training import optimiser, schedule
from posa_vla.training.bundle import Bundle
from posa_vla.training.checkpoint import PRETRAINED_MODEL, TRAINING_STATE, Checkpoints, read_json, write_json
from posa_vla.training.config import TrainConfig, encode
from posa_vla.training.diagnostics import Watch, check_finite, failure_signs
from posa_vla.training.ema import Ema
from posa_vla.training.interrupt import StopSignal
from posa_vla.training.peers import Source
from posa_vla.training.runlog import EVAL, RunLog
from posa_vla.training.window import Window

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: steps done, seconds trained, and the signal that stopped it (0 = none)."""

    step: int
    seconds: float
    received: int


class Trainer:
    """One run of one policy.

    The optimiser and the length of the linear warm-up are the policy's own presets (LeRobot's ``act`` has no
    warm-up); then the rate follows our cosine to the end of the run's steps or minutes, for every policy alike.

    Args:
        config: the run's options.
        policy: on its device, in training mode; PosA-VLA counts its own steps in `update` (its two stages).
        processors: the policy's pre- and post-processor; the first runs on every batch, both are saved.
        source: batches by step.
        accelerator: of accelerate; one process or many.
        evaluate: (pretrained_model folder, step) → numbers for the log; called every `eval_freq` steps.
        dataset: fingerprint of the data, so that a resumed run does not go on with other data unnoticed.
        bundle: folders the policy was built from, which its checkpoints carry along.
    """

    def __init__(
        self,
        config: TrainConfig,
        policy: PreTrainedPolicy,
        processors: tuple[Any, Any],
        source: Source,
        accelerator: Accelerator,
        evaluate: Callable[[Path, int], Mapping[str, float]] | None = None,
        dataset: str = "",
        bundle: Bundle | None = None,
    ):
        self.config, self.policy, self.processors = config, policy, processors
        self.source, self.accelerator, self.evaluate = source, accelerator, evaluate
        self.bundle = bundle
        self.surroundings = {
            "processes": accelerator.num_processes,
            "precision": str(accelerator.mixed_precision),
            "dataset": dataset,
        }
        preset = policy.config.get_optimizer_preset()
        scheduler = policy.config.get_scheduler_preset()
        self.warmup = scheduler.num_warmup_steps if scheduler else 0
        self.optimizer = optimiser.make_optimizer(policy, policy.get_optim_params(), preset)
        self.grad_clip_norm = preset.grad_clip_norm or float("inf")
        self.ema = Ema(policy, config.ema_decay)
        self.model = accelerator.prepare(policy)
        self.checkpoints = Checkpoints(config.folder / "checkpoints")
        self.watch, self.window = Watch(), Window()
        self.log: RunLog | None = None
        self.step, self.seconds = 0, 0.0
        self.done_at_warmup = 0.0
        self._saved_step = -1

    # ---- one run ----------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train to `steps`, to the end of the time budget or to the first signal; the last act is a save."""
        if not self.accelerator.is_main_process:
            return self._run()
        folder = self.config.folder
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder, f"training into {folder}"):
            self.log = RunLog(folder, self.step, self.config.tensorboard, self.config.wandb)
            return self._run()

    def _run(self) -> Outcome:
        config, main = self.config, self.accelerator.is_main_process
        bar = tqdm(total=config.steps, initial=self.step, unit="step", desc="train", disable=not main)
        started = time.monotonic() - self.seconds
        with StopSignal() as stop, bar:
            received = 0
            if self.step:
                self._evaluate_if_due(bar)  # a run killed while it evaluated
            while self.step < config.steps and not received and not self._out_of_time():
                self.window.add(self._train_step())
                self.step += 1
                bar.update(1)
                received, self.seconds = self._agree(stop.received, time.monotonic() - started)
                self._after_step(bar)
            self._save()
        if self.log is not None:
            self.log.close()
        return Outcome(self.step, self.seconds, received)

    def _out_of_time(self) -> bool:
        budget = self.config.budget_seconds
        return budget is not None and self.seconds >= budget

    def _agree(self, received: int, seconds: float) -> tuple[int, float]:
        """All processes stop at the same step and see the same clock: the largest of each."""
        if self.accelerator.num_processes == 1:
            return received, seconds
        both = torch.tensor([received, seconds], dtype=torch.float64, device=self.accelerator.device)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        return signal.Signals(int(both[0])) if both[0] else 0, float(both[1])

    # ---- one step ---------------------------------------------------------------------------------------

    def _train_step(self) -> dict[str, Any]:
        """Forward, backward and one update; returns what to average over the log window."""
        begin = time.perf_counter()
        schedule.seed_step(self.config.seed, self.step, self.accelerator.process_index)
        lr = optimiser.set_lr(self.optimizer, self._lr_factor())
        batch = self.processors[0](float_images(self.source.batch(self.step), self.accelerator.device))
        loaded = time.perf_counter()
        loss, numbers = self.model(batch)
        self.accelerator.backward(loss)
        grad_norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.grad_clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if hasattr(self.policy, "update"):
            self.policy.update()
        self.ema.update(self.step)
        times = {"load_seconds": loaded - begin, "step_seconds": time.perf_counter() - begin}
        return {"loss": loss.detach(), **(numbers or {}), "grad_norm": grad_norm, "lr": lr, **times}

    def _lr_factor(self) -> float:
        done = schedule.progress(self.step, self.config.steps, self.seconds, self.config.budget_seconds)
        if self.step <= self.warmup:
            self.done_at_warmup = done
        return schedule.lr_factor(self.step, self.warmup, done, self.done_at_warmup)

    # ---- every N steps ----------------------------------------------------------------------------------

    def _after_step(self, bar: tqdm) -> None:
        config = self.config
        if due(self.step, config.log_freq) or self.step == config.steps or self._out_of_time():
            self._log(bar)
        if due(self.step, config.save_freq):
            self._save()
        self._evaluate_if_due(bar)

    def _log(self, bar: tqdm) -> None:
        means = self.window.take(self.accelerator)
        check_finite(means, self.step)
        load, step_seconds = means.pop("load_seconds"), means.pop("step_seconds")
        batch_size = self.config.batch_size * self.accelerator.num_processes
        means["samples_per_second"] = batch_size / step_seconds
        means["load_share"] = load / step_seconds
        signs = failure_signs(means, batch_size, warm=self.step > max(self.warmup, 1))
        if self.log is None:
            return
        for sentence in self.watch.news(signs):
            bar.write(f"warning: step {self.step}: {sentence}", file=sys.stderr)
        self.log.write(self.step, {**means, "seconds": self.seconds, "warnings": sorted(signs)})
        shown = ("loss", "action_loss", "focal_loss", "contrastive_loss", "samples_per_second")
        short = {key.removesuffix("_loss"): f"{means[key]:.3g}" for key in shown if key in means}
        bar.set_postfix(short, refresh=False)

    def _evaluate_if_due(self, bar: tqdm) -> None:
        """On the weights a user would get: the checkpoint of this step, unless the log has it already."""
        if self.evaluate is None or not due(self.step, self.config.eval_freq):
            return
        folder = self._save()
        if self.log is not None and not self.log.evaluated(self.step):
            numbers = dict(self.evaluate(folder / PRETRAINED_MODEL, self.step))
            self.log.write(self.step, {f"{EVAL}{key}": value for key, value in numbers.items()})
            bar.write(f"evaluation at step {self.step}: {numbers}")
        self.accelerator.wait_for_everyone()

    # ---- checkpoints ------------------------------------------------------------------------------------

    def _save(self) -> Path:
        """The checkpoint of this step; written once, by the main process."""
        folder = self.checkpoints.path(self.step)
        if self._saved_step != self.step:
            check_finite(self.window.local_means(), self.step)
            if self.accelerator.is_main_process:
                self.checkpoints.save(self.step, self._write, self.config.keep_last or None)
            self._saved_step = self.step
            self.accelerator.wait_for_everyone()
        return folder

    def _write(self, folder: Path) -> None:
        pretrained, training = folder / PRETRAINED_MODEL, folder / TRAINING_STATE
        training.mkdir(parents=True)
        self.policy.save_pretrained(pretrained, state_dict=self.ema.state_dict())
        for processor in self.processors:
            processor.save_pretrained(pretrained)
        if self.bundle is not None:
            self.bundle.write(pretrained)
        weights = {name: tensor.detach().clone().contiguous() for name, tensor in self.policy.state_dict().items()}
        save_file(weights, training / WEIGHTS)
        save_file(optimiser.optimizer_tensors(self.policy, self.optimizer), training / OPTIMIZER)
        write_json(training / STATE, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "done_at_warmup": self.done_at_warmup,
            **self.surroundings,
            "train": encode(self.config),
        }

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint. Generators need no state: every step seeds its own (`seed_step`)."""
        training = folder / TRAINING_STATE
        state = read_json(training / STATE)
        for name, here in self.surroundings.items():
            if state[name] != here:
                raise PosaError(
                    f"the checkpoint {folder} was trained with {name}={state[name]}, found {here}: each decides what "
                    "the next step computes, so resume with the same, or start anew in another --output_dir"
                )
        _load_weights(self.policy, read_tensors(training / WEIGHTS), training / WEIGHTS)
        optimiser.load_optimizer_tensors(self.policy, self.optimizer, read_tensors(training / OPTIMIZER))
        self.ema.load(read_tensors(folder / PRETRAINED_MODEL / "model.safetensors"))
        self.step, self.seconds = state["step"], state["seconds"]
        self.done_at_warmup = state["done_at_warmup"]
        self._saved_step = self.step
        if self.accelerator.is_main_process:
            self.checkpoints.point_last(folder)
        self.accelerator.wait_for_everyone()


def due(step: int, every: int) -> bool:
    """Whether `step` is a multiple of `every`; never for 0."""
    return every > 0 and step % every == 0


def float_images(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """uint8 images to float32 in [0, 1] on the device, as the contract has them in a batch.

    Channels first: the policy stacks cameras and resamples windows, which is several times slower otherwise.
    """
    return {
        key: value.to(device, non_blocking=True).contiguous().float().div_(255.0)
        if isinstance(value, Tensor) and value.dtype == torch.uint8
        else value
        for key, value in batch.items()
    }


def _load_weights(policy: PreTrainedPolicy, weights: dict[str, Tensor], path: Path) -> None:
    try:
        policy.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise PosaError(f"the weights in {path} do not fit this policy: {' '.join(str(error).split())}") from error
