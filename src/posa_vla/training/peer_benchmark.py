"""``posa-vla bench peers``: size and speed of `tiny` and of LeRobot's policies beside it, with random weights."""

import tempfile
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import draccus
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import PreTrainedPolicy
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from torch import nn

from posa_vla import contract
from posa_vla.errors import PosaError
from posa_vla.evaluation.runner import integration_field, set_integration_steps
from posa_vla.options import listed
from posa_vla.training import peers
from posa_vla.training.config import parse
from posa_vla.training.recipes import POSA_VLA, SMALL

SIDE, STATE, ACTIONS = 128, 8, 7  # of the tabletop suite
SENTENCES = [
    f"pick up the {colour} {thing}" for colour in ("red", "green", "blue", "yellow") for thing in ("cube", "can")
]
IMAGE_ENCODERS = ("vision_encoder", "backbone", "rgb_encoder")
"""What turns pixels into features, by each policy's own name for it (act: backbone; diffusion: rgb_encoder)."""


@dataclass
class PeerBenchmarkConfig:
    """Args:
    policies: which policies, comma-separated.
    threads: torch threads on the CPU.
    repeats: timed chunks of each policy; the median is printed.
    integration_steps: steps from noise to a chunk, as [10,2], a column each; act takes none.
    """

    policies: str = ",".join((POSA_VLA, *SMALL))
    threads: int = 1
    repeats: int = 40
    integration_steps: list[int] = field(default_factory=lambda: [10, 2])


@dataclass(frozen=True)
class Size:
    """Parameters: trained ones, those of image encoders among them, and those that training never changes."""

    trained: int
    images: int
    frozen: int


@dataclass(frozen=True)
class Contender:
    """A policy with LeRobot's processors around it."""

    policy: PreTrainedPolicy
    preprocess: PolicyProcessorPipeline
    postprocess: PolicyProcessorPipeline

    @torch.inference_mode()
    def plan(self, observation: dict[str, Any]) -> float:
        """Milliseconds until the first action of a new chunk is there, processors included."""
        self.policy.reset()
        start = time.perf_counter()
        self.postprocess(self.policy.select_action(self.preprocess(observation)))
        return 1e3 * (time.perf_counter() - start)


def main(argv: list[str]) -> None:
    config = draccus.parse(config_class=PeerBenchmarkConfig, args=argv)
    if config.threads < 1 or config.repeats < 1:
        raise PosaError(f"threads and repeats must be at least 1, found {config.threads} and {config.repeats}")
    if not config.integration_steps:
        raise PosaError("expected --integration_steps such as [10,2], found none")
    torch.set_num_threads(config.threads)
    names, steps = listed(config.policies), config.integration_steps
    contenders = {(name, count): build(name, integration_steps=count) for name in names for count in steps}
    planning = dict(zip(contenders, latencies(list(contenders.values()), config.repeats), strict=True))
    times = "".join(f" ms per chunk, {count} steps |" for count in steps)
    print(f"| policy | trained (M) | of these image encoders (M) | never trained (M) |{times}")
    print("|---|---|---|---|" + "---|" * len(steps))
    for name in names:
        size = count_parameters(contenders[name, steps[0]].policy)
        sizes = " | ".join(f"{numbers / 1e6:.2f}" for numbers in (size.trained, size.images, size.frozen))
        print(f"| {name} | {sizes} | " + " | ".join(f"{planning[name, count]:.1f}" for count in steps) + " |")


def latencies(contenders: list[Contender], repeats: int) -> list[float]:
    """Median milliseconds per chunk of each; they take turns, so that all meet the same load of the machine."""
    observation = {
        contract.STATE: torch.zeros(1, STATE),
        **{contract.image_key(camera): torch.rand(1, 3, SIDE, SIDE) for camera in contract.CAMERAS},
        "task": SENTENCES[:1],
    }
    for contender in contenders:
        contender.policy.eval()
        contender.plan(observation)
    turns = [[contender.plan(observation) for contender in contenders] for _ in range(repeats)]
    return [median(times) for times in zip(*turns, strict=True)]


def count_parameters(policy: PreTrainedPolicy) -> Size:
    parameters = list(policy.parameters())
    encoders = [m for name, m in policy.named_modules() if name.rpartition(".")[2] in IMAGE_ENCODERS]
    images = {id(p): p.numel() for module in encoders for p in _trained(module)}
    trained = sum(p.numel() for p in _trained(policy))
    return Size(trained, sum(images.values()), sum(p.numel() for p in parameters) - trained)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def build(name: str, words: tuple[str, ...] = (), integration_steps: int | None = None) -> Contender:
    """The policy as ``posa-vla train`` with --peer.recipe=small and `words` makes it for the tabletop suite.

    Its processors neither shift nor scale, as nothing has been recorded.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = (f"--policy.type={name}", "--peer.recipe=small", "--policy.device=cpu", f"--output_dir={folder}")
        train, config, _ = parse([*options, *words])
    if integration_steps is not None and integration_field(config) is not None:
        set_integration_steps(config, integration_steps)
    config.input_features = {
        contract.STATE: PolicyFeature(FeatureType.STATE, (STATE,)),
        **{contract.image_key(c): PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE)) for c in contract.CAMERAS},
    }
    config.output_features = {contract.ACTION: PolicyFeature(FeatureType.ACTION, (ACTIONS,))}
    with peers.with_encoders(config, train.peer.clip, SENTENCES, seed=0):
        return Contender(get_policy_class(name)(config), *make_pre_post_processors(config))
