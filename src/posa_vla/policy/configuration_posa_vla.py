"""The policy's configuration: a preset of the network, overrides of any of its fields, and how to train it."""

from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any

from lerobot.configs import NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.optim.schedulers import CosineAnnealingWithWarmupSchedulerConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from posa_vla.contract import ACTION, ANCHORS, STATE, STEPS_TO_INTERACTION
from posa_vla.data.augmentation import AugmentationConfig
from posa_vla.errors import PosaError
from posa_vla.model.configuration import NetworkConfig, preset
from posa_vla.policy.geometry import RigGeometry

OPTIONS = tuple(field for field in fields(NetworkConfig) if field.name != "aspect")
"""The network's fields that are the policy's, too; `PosaVLAConfig.aspect` is a property."""

NETWORK_FIELDS = tuple(field.name for field in OPTIONS)
FROM_FEATURES = ("num_cameras", "state_dim", "action_dim")
"""Network fields that the dataset's features decide."""

ANCHOR_STEPS = {"paper": 20_000, "sim": 20_000, "tiny": 2_000}
"""Default length of stage 1: the paper's (Sec. 4.2); `tiny` gives it about a third of a short run, because a step
of it costs half as much and finding the named object from scratch is what takes longest."""

N_ACTION_STEPS = {"tiny": 2}
"""Default actions executed per chunk, where it is not half a chunk: `tiny` grasps far better when it looks often
(docs/results.md), and a chunk of it takes milliseconds."""

NetworkOverrides: Any = make_dataclass(
    "NetworkOverrides",
    [(f.name, f.type | None, field(default=None)) for f in OPTIONS],  # type: ignore[operator]
)
"""The `OPTIONS` with the default None, "as the preset says": so ``--policy.width=256`` works."""


@PreTrainedConfig.register_subclass("posa_vla")
@dataclass
class PosaVLAConfig(NetworkOverrides, PreTrainedConfig):
    """Configuration of PosA-VLA.

    The network's fields (below) default to the preset's values and become concrete when the configuration is
    built, so that a saved config.json stays what it was when a preset changes later.

    Args:
        preset: Sizes to start from: `paper`, `sim` (dense features from CLIP, App. 9) or `tiny` (two CPU cores).
        n_action_steps: Actions of each chunk that are executed before planning anew; default half a chunk, for
            `tiny` 2.
        anchor_steps: Optimiser steps of stage 1, which trains the anchors alone (paper: 20,000 of 220,000);
            by default 20,000, for `tiny` 2,000, and 0 where no loss trains the anchors.
        seed: Every random draw of training is a function of (seed, step, process), so that a resumed run
            repeats an uninterrupted one.
        crop: Sides of the window the network sees as a fraction of the image's: random windows in training, the
            centre one afterwards (7/8: 112 of 128 pixels). `augmentation.output_size` in pixels goes before it.
        augmentation: Random changes of training images; geometric ones move the anchors along.
        normalization_mapping: How each kind of feature is normalised. Actions: quantiles to [-1, 1] (ours).
        geometry: The rig's cameras, for `point_tokens`; training takes them from the dataset's labels.
        rtc_config: Real-time chunking, set by LeRobot's rollout; None plans every chunk on its own.
        optimizer_lr: AdamW's learning rate (paper: 3e-4).
        optimizer_betas: AdamW's betas (paper: 0.95, 0.999).
        optimizer_eps: AdamW's epsilon (paper: 1e-8).
        optimizer_weight_decay: AdamW's weight decay (paper: 1e-6).
        optimizer_grad_clip_norm: Gradients are scaled down to this norm (ours: 1).
        encoder_lr_scale: Factor on the encoders' learning rate; default 0.1 if they are pretrained, else 1. The
            paper does not say whether they were frozen; 0 freezes them.
        scheduler_warmup_steps: Linear warm-up before the cosine (paper: 2,000).
    """

    preset: str = "tiny"
    n_action_steps: int | None = None
    anchor_steps: int | None = None
    seed: int = 0
    crop: float = 0.875
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.QUANTILES,
        }
    )
    geometry: RigGeometry | None = None
    rtc_config: RTCConfig | None = None
    optimizer_lr: float = 3e-4
    optimizer_betas: tuple[float, float] = (0.95, 0.999)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 1e-6
    optimizer_grad_clip_norm: float = 1.0
    encoder_lr_scale: float | None = None
    scheduler_warmup_steps: int = 2_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fill_from_preset()
        if self.n_action_steps is None:
            self.n_action_steps = min(self.chunk_size, N_ACTION_STEPS.get(self.preset, max(1, self.chunk_size // 2)))
        if self.anchor_steps is None:
            self.anchor_steps = ANCHOR_STEPS[self.preset] if self.network().uses_anchor_loss else 0
        if self.encoder_lr_scale is None:
            self.encoder_lr_scale = 0.1 if self.pretrained else 1.0
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise PosaError(
                f"n_action_steps must lie between 1 and chunk_size={self.chunk_size}, found {self.n_action_steps}"
            )
        if self.anchor_steps and not self.network().uses_anchor_loss:
            terms = ("maps", "spatial_loss", "spatial_weight", "contrastive", "alpha")
            raise PosaError(
                f"found a first stage of anchor_steps={self.anchor_steps}, which trains the anchors alone, and no loss "
                f"that does so with {', '.join(f'{name}={getattr(self, name)}' for name in terms)}: set "
                "--policy.anchor_steps=0, or with maps=predicted give the spatial or the contrastive loss weight"
            )
        if not 0.0 < self.crop <= 1.0:
            raise PosaError(f"crop is a fraction of the image's sides in (0, 1], found {self.crop}")

    def _fill_from_preset(self) -> None:
        """Make every network field concrete, except those that the features decide."""
        given = {name: getattr(self, name) for name in NETWORK_FIELDS if getattr(self, name) is not None}
        if given.get("pretrained") is False:
            given.setdefault("tokenizer", "bytes")  # random towers need no vocabulary's files
        network = preset(self.preset, **given)
        for name in NETWORK_FIELDS:
            if name not in FROM_FEATURES:
                setattr(self, name, getattr(network, name))

    def network(self) -> NetworkConfig:
        """The network's own configuration; complete once `validate_features` has run."""
        return NetworkConfig(**{name: getattr(self, name) for name in NETWORK_FIELDS}, aspect=self.aspect)

    @property
    def aspect(self) -> float:
        """Width over height of the crop that the network sees; 1 until the features fix it."""
        size = self.augmentation.output_size
        height, width = (1, 1) if size is None or isinstance(size, int) else size
        return width / height

    @property
    def uses_anchors(self) -> bool:
        """Whether training needs the dataset's anchors column."""
        return self.network().uses_anchors

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels that every camera delivers."""
        _, height, width = next(iter(self.image_features.values())).shape
        return height, width

    def validate_features(self) -> None:
        """Fix cameras, state and action sizes from the features; called by the policy, also after loading."""
        inputs: dict[str, PolicyFeature] = dict(self.input_features or {})
        # Labels, not observations: as inputs they would be normalised, and asked for at inference.
        for label in (ANCHORS, STEPS_TO_INTERACTION):
            inputs.pop(label, None)
        self.input_features: dict[str, PolicyFeature] | None = inputs
        self._check_images()
        self._fix("num_cameras", len(self.image_features), "cameras")
        self._fix("state_dim", self._length(inputs, STATE), f"numbers in {STATE}")
        self._fix("action_dim", self._length(self.output_features or {}, ACTION), f"numbers in {ACTION}")
        if self.augmentation.output_size is None:
            height, width = self.image_shape
            size = (round(self.crop * height), round(self.crop * width))
            self.augmentation = replace(self.augmentation, output_size=size)
        self.network().validate()

    def _check_images(self) -> None:
        shapes = {key: tuple(feature.shape) for key, feature in self.image_features.items()}
        if not shapes:
            raise PosaError(
                "expected at least one image among the inputs (observation.images.<camera>), found "
                f"{', '.join(self.input_features or {}) or 'none'}: record one, or name it in the rename map"
            )
        if len(set(shapes.values())) > 1 or next(iter(shapes.values()))[0] != 3:
            raise PosaError(
                f"expected cameras of one size with three channels, found {shapes}: record or resize them to one "
                "size, or name the ones to use in --policy.input_features"
            )

    def _length(self, features: dict[str, PolicyFeature], key: str) -> int:
        if key not in features or len(features[key].shape) != 1:
            raise PosaError(
                f"expected the feature {key!r} with one dimension, found {', '.join(features) or 'no features'}: "
                "give the dataset (or environment) that feature"
            )
        return features[key].shape[0]

    def _fix(self, name: str, found: int, what: str) -> None:
        """Set a size from the features, or, where a checkpoint fixed it, insist that it is still the same."""
        expected = getattr(self, name)
        if expected is not None and expected != found:
            raise PosaError(
                f"this policy was built for {expected} {what}, the dataset or environment has {found}: use the "
                "one it was trained on, or train a new policy"
            )
        setattr(self, name, found)

    @property
    def observation_delta_indices(self) -> None:
        return None  # one frame; a list would give every observation a time axis

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineAnnealingWithWarmupSchedulerConfig:
        return CosineAnnealingWithWarmupSchedulerConfig(num_warmup_steps=self.scheduler_warmup_steps)


PosaVLAConfig.__doc__ = (
    f"{PosaVLAConfig.__doc__}\n    The network:\n{(NetworkConfig.__doc__ or '').partition('Args:')[2]}"
)

__all__ = ["PosaVLAConfig"]
