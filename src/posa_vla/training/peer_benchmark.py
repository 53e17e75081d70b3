"""``posa-vla bench peers``: how much of each policy is trained, for `tiny` and LeRobot's policies beside it."""

import tempfile
from dataclasses import dataclass

import draccus
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import PreTrainedPolicy
from lerobot.policies.factory import get_policy_class
from torch import nn

from posa_vla import contract
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
    """

    policies: str = ",".join((POSA_VLA, *SMALL))


@dataclass(frozen=True)
class Size:
    """Parameters: trained ones, those of image encoders among them, and those that training never changes."""

    trained: int
    images: int
    frozen: int


def main(argv: list[str]) -> None:
    config = draccus.parse(config_class=PeerBenchmarkConfig, args=argv)
    print("| policy | trained (M) | of these image encoders (M) | never trained (M) |")
    print("|---|---|---|---|")
    for name in listed(config.policies):
        size = count(build(name))
        print(f"| {name} | {size.trained / 1e6:.2f} | {size.images / 1e6:.2f} | {size.frozen / 1e6:.2f} |")


def count(policy: PreTrainedPolicy) -> Size:
    parameters = list(policy.parameters())
    encoders = [m for name, m in policy.named_modules() if name.rpartition(".")[2] in IMAGE_ENCODERS]
    images = {id(p): p.numel() for module in encoders for p in _trained(module)}
    trained = sum(p.numel() for p in _trained(policy))
    return Size(trained, sum(images.values()), sum(p.numel() for p in parameters) - trained)


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def build(name: str, words: tuple[str, ...] = ()) -> PreTrainedPolicy:
    """The policy as ``posa-vla train`` with --peer.recipe=small and `words` makes it for the tabletop suite."""
    with tempfile.TemporaryDirectory() as folder:
        options = (f"--policy.type={name}", "--peer.recipe=small", "--policy.device=cpu", f"--output_dir={folder}")
        train, config, _ = parse([*options, *words])
    config.input_features = {
        contract.STATE: PolicyFeature(FeatureType.STATE, (STATE,)),
        **{contract.image_key(c): PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE)) for c in contract.CAMERAS},
    }
    config.output_features = {contract.ACTION: PolicyFeature(FeatureType.ACTION, (ACTIONS,))}
    with peers.with_encoders(config, train.peer.clip, SENTENCES, seed=0):
        return get_policy_class(name)(config)
