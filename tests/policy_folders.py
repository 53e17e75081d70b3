"""Real LeRobot policies with random weights, saved as checkpoints."""

from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

from posa_vla import contract
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig

SIDE = 64


def act_config() -> ACTConfig:
    return ACTConfig(
        device="cpu",
        push_to_hub=False,
        pretrained_backbone_weights=None,
        dim_model=32,
        n_heads=2,
        dim_feedforward=32,
        n_encoder_layers=1,
        use_vae=False,
        chunk_size=4,
        n_action_steps=2,
    )


def posa_config() -> PosaVLAConfig:
    sizes = {"width": 32, "depth": 1, "vision_width": 24, "vision_blocks": 1, "text_width": 16, "chunk_size": 6}
    return PosaVLAConfig(device="cpu", push_to_hub=False, n_action_steps=3, **sizes)


def save_policy(folder: Path, config, side: int = SIDE, state: int = 8) -> Path:
    images = {contract.image_key(name): PolicyFeature(FeatureType.VISUAL, (3, side, side)) for name in contract.CAMERAS}
    config.input_features = {**images, contract.STATE: PolicyFeature(FeatureType.STATE, (state,))}
    config.output_features = {contract.ACTION: PolicyFeature(FeatureType.ACTION, (7,))}
    torch.manual_seed(0)
    policy = get_policy_class(config.type)(config)
    stats = {key: _stats((3, 1, 1)) for key in images}
    stats |= {contract.STATE: _stats((state,)), contract.ACTION: _stats((7,))}
    policy.save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)
    return folder


def _stats(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    one = torch.ones(shape)
    return {"mean": 0 * one, "std": one, "min": -one, "max": one, "q01": -one, "q99": one}
