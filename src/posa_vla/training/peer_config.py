"""Options of LeRobot's own policies that are not theirs: ``--peer.NAME=VALUE``."""

from dataclasses import dataclass, field

from posa_vla.data.augmentation import AugmentationConfig
from posa_vla.errors import PosaError

HEAD_WIDTH = 32
"""Features per attention head of the small CLIP."""


@dataclass
class ClipConfig:
    """Sizes of the CLIP that is made for a policy from scratch; widths are multiples of 32.

    Args:
        width: of the image transformer.
        layers: of the image transformer.
        patch_size: of its patches, in pixels.
        text_width: of the text transformer. multi_task_dit never trains it, so it costs no trainable parameter;
            at 256 a linear map reads colour and object from its random features, at 128 it cannot (docs/peers.md).
        text_layers: of the text transformer.
        text_initializer_factor: scale of its random weights.
    """

    width: int = 128
    layers: int = 4
    patch_size: int = 16
    text_width: int = 256
    text_layers: int = 2
    text_initializer_factor: float = 0.5

    def __post_init__(self) -> None:
        for name in ("width", "text_width"):
            if getattr(self, name) < HEAD_WIDTH or getattr(self, name) % HEAD_WIDTH:
                raise PosaError(f"clip.{name} must be a positive multiple of {HEAD_WIDTH}, found {getattr(self, name)}")
        for name in ("layers", "patch_size", "text_layers", "text_initializer_factor"):
            if getattr(self, name) <= 0:
                raise PosaError(f"clip.{name} must be positive, found {getattr(self, name)}")


@dataclass
class PeerConfig:
    """What LeRobot's own policies get beside their options; `posa_vla` ignores it.

    Args:
        recipe: their defaults: `lerobot` leaves LeRobot's; `small` sets sizes and budget beside our `tiny` preset
            (multi_task_dit, act, diffusion; docs/peers.md).
        augmentation: random changes of their training images, of the same kind and strength as ours but at full
            size: they crop by themselves.
        clip: the random CLIP that is made for a policy whose encoder is called `clip`.
    """

    recipe: str = "lerobot"
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        if self.augmentation.output_size is not None:
            raise PosaError(
                "peer.augmentation.output_size must be left out: the policy expects images of the dataset's size and "
                "crops them by its own option"
            )
