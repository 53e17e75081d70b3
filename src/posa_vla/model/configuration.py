"""What the network is made of: sizes, losses and the switches of every ablation, with three presets."""

from dataclasses import dataclass, fields, replace
from typing import Any

from posa_vla.errors import PosaError, unknown_name

CHOICES = {
    "encoder": ("clip", "tiny"),
    "dense_encoder": ("dinov2", "shared"),
    "maps": ("predicted", "ground_truth"),
    "gate": ("max", "sum", "concat", "none"),
    "contrastive": ("paper", "visual", "none"),
    "anchor_depth": ("none", "predicted"),
    "task_labels": ("next_event", "event_frames"),
    "flow_time": ("beta", "beta_literal", "uniform"),
}
AT_LEAST_ONE = (
    "image_size", "vision_width", "text_width", "max_text_length", "chunk_size", "width", "depth",
    "heads", "stages", "flow_samples", "integration_steps",
)  # fmt: skip
NOT_NEGATIVE = (
    "vision_blocks", "memory_grid", "event_window", "tau_pos", "focal_gamma", "spatial_weight", "depth_weight",
    "anchor_weight",
)  # fmt: skip


@dataclass
class NetworkConfig:
    """Sizes, losses and ablation switches of `PosaNetwork`; the defaults are the paper's where it states them.

    Args:
        encoder: `clip` (Sec. 3, CLIP image and text towers) or `tiny` (small convolutions and bytes, from scratch).
        dense_encoder: features that are gated: `dinov2` (Eq. 12) or `shared`, the image encoder's own (App. 9).
        clip_model: hub name or local folder of CLIP; read only when `pretrained`.
        dino_model: hub name or local folder of DINOv2; read only when `pretrained`.
        towers: transformers' architecture of each CLIP and DINOv2 encoder; None: CLIP-B/16's and DINOv2-B/14's. With
            weights read from `clip_model` and `dino_model` it is theirs. Policies save it, to be loaded without these.
        tokenizer: hub name or local folder of the CLIP tokenizer, or `bytes`.
        pretrained: load the encoders' weights; if false the same architectures start random, without a download.
        image_size: side of the square network input, in pixels.
        aspect: width over height of the picture before it is squeezed into that square; sigmas are lengths in it. No
            option of the policy: its crop decides.
        vision_width: channels of the `tiny` image encoder.
        vision_blocks: residual blocks of the `tiny` image encoder at patch resolution (stride 8).
        text_width: channels of the `tiny` text encoder.
        max_text_length: tokens an instruction is padded to; longer ones are refused.
        end_prompt: text whose embedding asks for the end anchor (paper: "gripper").
        num_cameras: cameras, in the contract's order.
        state_dim: size of the robot state.
        action_dim: size of one action.
        chunk_size: actions per chunk, H (paper: 30).
        width: channels of the action transformer. The paper prints neither width nor depth.
        depth: blocks of the action transformer.
        heads: attention heads, in the action transformer and in the anchor attention.
        memory_grid: gated patches are average-pooled to this many per side and camera; 0 keeps them all. Small
            policies do better with tens of tokens per view than with hundreds.
        maps: what gate and anchor tokens look at: `predicted`, or `ground_truth`, the labels' own maps and
            coordinates: an upper bound. It trains no attention, and wants the anchors at inference too.
        gate: how M_task and M_end merge into the gate: `max` (ours, after App. 12), `sum`, `concat`, `none`.
        anchor_tokens: give the transformer one token per anchor and view: coordinate, confidence, feature.
        anchor_depth: `predicted`: a small head tells each anchor's distance in each view; `none` (the paper).
        point_tokens: give the transformer one token per anchor with its place in space, from the depths of all views
            and the cameras' calibration, which the policy takes from the dataset's labels.
        stages: questions that the text asks for the task anchor, weighed by the stage the task is in, which state and
            scene tell (ours, for tasks of several interactions); 1: one question, whatever has been done (the paper).
        end_anchor: predict, supervise and use the end anchor.
        spatial_loss: the focal term of Eq. 5.
        contrastive: Eq. 6-10: `paper`, `visual` (v against the other sample's text), or `none`.
        task_labels: supervise the task anchor at every frame before an interaction, or `event_frames` only.
        event_window: for `event_frames`: frames at most this many control steps before an interaction are supervised.
        sigma_task: Gaussian width of the task map, fraction of the image's short side (paper: 1/10).
        sigma_end: same for the end map (paper: 1/15).
        tau_pos: patches whose target exceeds it form Omega+ (paper: 0.7).
        focal_gamma: focusing exponent (ours: 2; `tiny`: 0, plain cross-entropy. With 2 a map that lights up on
            every candidate costs almost nothing where it is wrong, and from scratch its anchors were 0.21 off
            after 500 steps instead of 0.13: docs/results.md, "What the tuning showed").
        spatial_weight: weight of the focal term inside L_f (ours: 1, with the sum-normalised form).
        visibility_weighting: an anchor counts by how much of it the camera sees (ours); if false, fully (the paper).
            With it another object was lifted more often (docs/results.md). Labels from geometry alone call everything
            seen, and the switch changes nothing.
        depth_weight: weight of the depth term, which stands beside L_anchor so that alpha keeps its meaning (ours: 1;
            the term is about the error as a share of the distance).
        alpha: L_anchor = alpha L_f + (1 - alpha) L_c (paper: 0.5).
        anchor_weight: lambda of Eq. 17 (paper: 1.0).
        flow_time: distribution of tau; `beta` weights the noisy end as pi0 does, `beta_literal` reads the paper
            word for word.
        flow_samples: independent (tau, noise) draws per observation and training step; more than one reuses
            the encoders' work (ours; 1 is the usual form).
        integration_steps: Euler steps at inference (paper: 10; `tiny`: 2, which was quicker and succeeded more often).
    """

    encoder: str = "clip"
    dense_encoder: str = "dinov2"
    clip_model: str = "openai/clip-vit-base-patch16"
    dino_model: str = "facebook/dinov2-base"
    towers: dict[str, dict[str, Any]] | None = None
    tokenizer: str = "openai/clip-vit-base-patch16"
    pretrained: bool = True
    image_size: int = 224
    aspect: float = 1.0
    vision_width: int = 96
    vision_blocks: int = 4
    text_width: int = 64
    max_text_length: int = 77
    end_prompt: str = "gripper"
    num_cameras: int = 2
    state_dim: int = 8
    action_dim: int = 7
    chunk_size: int = 30
    width: int = 512
    depth: int = 8
    heads: int = 8
    memory_grid: int = 0
    maps: str = "predicted"
    gate: str = "max"
    anchor_tokens: bool = True
    anchor_depth: str = "none"
    point_tokens: bool = False
    stages: int = 1
    end_anchor: bool = True
    spatial_loss: bool = True
    contrastive: str = "paper"
    task_labels: str = "next_event"
    event_window: int = 5
    sigma_task: float = 1 / 10
    sigma_end: float = 1 / 15
    tau_pos: float = 0.7
    focal_gamma: float = 2.0
    spatial_weight: float = 1.0
    visibility_weighting: bool = False
    depth_weight: float = 1.0
    alpha: float = 0.5
    anchor_weight: float = 1.0
    flow_time: str = "beta"
    flow_samples: int = 1
    integration_steps: int = 10

    def validate(self) -> None:
        """Raises PosaError on an unknown choice or sizes that do not fit together."""
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise unknown_name(name, getattr(self, name), valid)
        self._check_numbers()
        if self.width % self.heads or self.width % 2:
            raise PosaError(f"expected width even and divisible by heads, found width={self.width}, heads={self.heads}")
        if self.encoder == "tiny" and self.vision_width % 8:
            raise PosaError(f"the tiny encoder needs a vision_width that is a multiple of 8, found {self.vision_width}")
        if self.encoder == "tiny" and (self.image_size % 8 or self.image_size < 96):
            raise PosaError(
                f"the tiny encoder needs an image_size that is a multiple of 8 and at least 96 (a 12x12 grid), "
                f"found {self.image_size}"
            )
        if self.encoder == "tiny" and self.dense_encoder != "shared":
            raise PosaError("encoder=tiny has no second image encoder: set dense_encoder=shared")
        if self.predicts_depth and not self.spatial_loss:
            raise PosaError(
                "anchor_depth=predicted reads the depth where the map looks, which spatial_loss=false never teaches "
                "it: leave the spatial loss on"
            )
        if self.point_tokens and self.maps == "predicted" and self.anchor_depth == "none":
            raise PosaError("point_tokens needs depths: set anchor_depth=predicted (or maps=ground_truth)")

    def _check_numbers(self) -> None:
        for name in AT_LEAST_ONE:
            if not getattr(self, name) >= 1:
                raise PosaError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise PosaError(f"{name} must not be negative, found {getattr(self, name)}")
        for name in ("sigma_task", "sigma_end", "aspect"):
            if not getattr(self, name) > 0:
                raise PosaError(f"{name} must be above 0, found {getattr(self, name)}")
        if not 0 <= self.alpha <= 1:
            raise PosaError(f"alpha must lie between 0 and 1, found {self.alpha}")

    @property
    def predicts_depth(self) -> bool:
        """Whether there is a head that tells depths; with true maps they are the labels' own."""
        return self.anchor_depth == "predicted" and self.maps == "predicted"

    @property
    def asks_by_stage(self) -> bool:
        """Whether state and scene have a say in what the task anchor's attention asks for."""
        return self.stages > 1 and self.maps == "predicted"

    @property
    def additions(self) -> set[str]:
        """Modules of the network that a trained one without them can be given: it goes on from what it knows."""
        switches = {
            "stage_query": self.asks_by_stage,
            "depth_head": self.predicts_depth,
            "point_tokens": self.point_tokens,
        }
        return {name for name, on in switches.items() if on}

    @property
    def uses_contrastive(self) -> bool:
        """Whether the contrastive term has weight in L_anchor."""
        return self.maps == "predicted" and self.contrastive != "none" and self.alpha < 1

    @property
    def uses_anchor_loss(self) -> bool:
        """Whether any term of L_anchor, or the depth term beside it, has weight.

        Without the focal term only the action loss trains the attention.
        """
        spatial = self.maps == "predicted" and self.spatial_loss and self.alpha * self.spatial_weight > 0
        depth = self.predicts_depth and self.depth_weight > 0
        return spatial or self.uses_contrastive or depth

    @property
    def uses_anchors(self) -> bool:
        """Whether training needs the anchors column."""
        return self.uses_anchor_loss or self.maps == "ground_truth"


_TINY: dict[str, Any] = {
    "encoder": "tiny",
    "dense_encoder": "shared",
    "tokenizer": "bytes",
    "pretrained": False,
    "image_size": 112,
    "max_text_length": 64,
    "chunk_size": 16,
    "width": 128,
    "depth": 4,
    "heads": 4,
    "memory_grid": 7,
    "flow_samples": 4,
    "integration_steps": 2,
    "focal_gamma": 0.0,
}

PRESETS: dict[str, NetworkConfig] = {
    "paper": NetworkConfig(),
    "sim": NetworkConfig(dense_encoder="shared"),
    "tiny": NetworkConfig(**_TINY),
}
"""`paper`: CLIP-B/16 + DINOv2-B/14. `sim`: dense features from CLIP (App. 9). `tiny`: trains on two CPU cores."""


def preset(name: str, **overrides: Any) -> NetworkConfig:
    """A validated copy of a preset with some fields replaced; unknown presets or fields list the valid ones."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    valid = {field.name for field in fields(NetworkConfig)}
    for field_name in overrides:
        if field_name not in valid:
            raise unknown_name("network field", field_name, valid)
    config = replace(PRESETS[name], **overrides)
    config.validate()
    return config
