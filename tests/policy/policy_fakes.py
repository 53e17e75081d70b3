"""A small policy and batches for it, without a dataset."""

from types import SimpleNamespace

import pandas as pd
import torch
from lerobot.configs import FeatureType, PolicyFeature

from posa_vla import contract
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy

SENTENCES = ("pick up the red can", "grab the red can", "pick up the blue milk")
SIDE = 128


def small_config(cameras=contract.CAMERAS, side=SIDE, **overrides) -> PosaVLAConfig:
    sizes = {"width": 32, "depth": 1, "vision_width": 24, "vision_blocks": 1, "text_width": 16, "chunk_size": 6}
    config = PosaVLAConfig(device="cpu", push_to_hub=False, **{"anchor_steps": 2, **sizes, **overrides})
    images = {contract.image_key(c): PolicyFeature(FeatureType.VISUAL, (3, side, side)) for c in cameras}
    labels = {contract.ANCHORS: PolicyFeature(FeatureType.STATE, (len(cameras), 2, 4))}
    config.input_features = {**images, contract.STATE: PolicyFeature(FeatureType.STATE, (8,)), **labels}
    config.output_features = {contract.ACTION: PolicyFeature(FeatureType.ACTION, (7,))}
    return config


def small_policy(dataset_meta=None, **overrides) -> PosaVLAPolicy:
    torch.manual_seed(0)
    return PosaVLAPolicy(small_config(**overrides), dataset_meta=dataset_meta)


def fake_meta(root="nowhere", anchor_cameras=contract.CAMERAS):
    """What the policy reads of LeRobotDatasetMetadata."""
    tasks = pd.DataFrame({"task_index": range(len(SENTENCES))}, index=pd.Index(SENTENCES, name="task"))
    features = {contract.ANCHORS: {"dtype": "float32", "names": list(anchor_cameras)}}
    return SimpleNamespace(root=root, tasks=tasks, features=features, stats=None)


def batch_of(policy: PosaVLAPolicy, size: int = 4, seed: int = 0) -> dict:
    """A preprocessed training batch with random contents."""
    rng = torch.Generator().manual_seed(seed)
    config = policy.config
    cameras = len(policy.cameras)
    anchors = torch.rand(size, cameras, 2, 4, generator=rng)
    anchors[..., 3] = 1
    batch = {camera: torch.rand(size, 3, *config.image_shape, generator=rng) for camera in policy.cameras}
    length = config.max_text_length
    return {
        **batch,
        contract.STATE: torch.randn(size, 8, generator=rng),
        contract.ACTION: torch.rand(size, config.chunk_size, 7, generator=rng) * 2 - 1,
        "action_is_pad": torch.zeros(size, config.chunk_size, dtype=torch.bool),
        contract.ANCHORS: anchors,
        contract.STEPS_TO_INTERACTION: torch.arange(size).float(),
        contract.TASK_INDEX: torch.arange(size) % len(SENTENCES),
        contract.LANGUAGE_TOKENS: torch.randint(3, 259, (size, length), generator=rng),
        contract.LANGUAGE_MASK: torch.arange(length).expand(size, -1) < 20,
    }
