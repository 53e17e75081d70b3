"""What a policy of LeRobot's own needs to be trained by our loop from our frame cache."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.utils.constants import OBS_IMAGES

from posa_vla.data.augmentation import AugmentationConfig, augment
from posa_vla.errors import PosaError
from posa_vla.training import bundle
from posa_vla.training.peer_config import ClipConfig
from posa_vla.training.schedule import step_seed


class Source(Protocol):
    """Where batches come from: a pure function of the step, which is what makes resuming exact."""

    def batch(self, step: int) -> dict[str, Any]: ...


class AugmentedSource:
    """Batches of `source` with every image changed at random, all frames of a sample's history alike.

    Args:
        source: batches whose images are uint8 (B, 3, H, W), or (B, O, 3, H, W) with a history.
        config: how far images may change.
        seed, rank: with the step, they determine every draw.
    """

    def __init__(self, source: Source, config: AugmentationConfig, seed: int, rank: int = 0):
        self.source, self.config, self.seed, self.rank = source, config, seed, rank

    def batch(self, step: int) -> dict[str, Any]:
        batch = self.source.batch(step)
        generator = torch.Generator().manual_seed(step_seed(self.seed, step, self.rank))
        for key in sorted(key for key in batch if key.startswith(OBS_IMAGES) and not key.endswith("_is_pad")):
            batch[key] = self._changed(batch[key], generator)
        return batch

    def _changed(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        history = images.unflatten(0, (-1, 1)) if images.ndim == 4 else images  # (B, O, 3, H, W)
        no_anchors = torch.zeros(len(history), 1, 2, 4, device=images.device)
        before = generator.get_state()
        changed = []
        for frame in history.split(1, dim=1):  # (B, 1, 3, H, W): one "camera" of the augmentation
            generator.set_state(before)
            changed.append(augment(frame, no_anchors, self.config, generator)[0])
        return torch.cat(changed, dim=1).view(images.shape)


@contextmanager
def with_encoders(config: PreTrainedConfig, clip: ClipConfig, sentences: list[str], seed: int) -> Iterator[None]:
    """While open, `config` names a folder of random CLIP weights wherever its encoder is called `clip`."""
    if not any(hasattr(config, name) for name in bundle.FIELDS):
        yield
        return
    # Only here: transformers takes seconds to import.
    from posa_vla.training.clip_folder import make_clip_folder, quiet_transformers

    fields = [name for name in bundle.FIELDS if getattr(config, name) == bundle.CLIP]
    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        if fields:
            path = make_clip_folder(Path(folder) / bundle.CLIP, clip, seen_side(config), sentences, seed)
            for name in fields:
                setattr(config, name, str(path))
        yield


def seen_side(config: PreTrainedConfig) -> int:
    """Side in pixels of the square images that a CLIP-based policy feeds its image encoder."""
    config.validate_features()  # a crop that does not fit is dropped here
    shape = getattr(config, "image_crop_shape", None) or getattr(config, "image_resize_shape", None)
    shapes = {tuple(shape)} if shape else {tuple(f.shape[1:]) for f in config.image_features.values()}
    sides = {side for shape in shapes for side in shape}
    if len(sides) != 1:
        raise PosaError(
            f"expected square images of one size for the CLIP encoder, found {sorted(shapes)}: set "
            "--policy.image_crop_shape=[S,S]"
        )
    return sides.pop()
