"""Text and image encoders: CLIP and DINOv2 from transformers, and small ones that train from scratch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posa_vla.errors import PosaError
from posa_vla.model.configuration import NetworkConfig

BYTE_VOCABULARY = 384  # ByT5: 3 special tokens, 256 bytes, 125 unused sentinels
BYTE_PAD, BYTE_EOS, BYTE_OFFSET = 0, 1, 3
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Standardise(nn.Module):
    """(x - mean) / std per colour channel, for images (N, 3, H, W) in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class TinyTextEncoder(nn.Module):
    """Bytes → embedding → two convolutions over the sentence → attention pooling → (B, text_width)."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        D = self.width = config.text_width
        self.embed = nn.Embedding(BYTE_VOCABULARY, D)
        self.convolutions = nn.ModuleList(nn.Conv1d(D, D, 5, padding=2) for _ in range(2))
        self.norm = nn.LayerNorm(D)
        self.score = nn.Linear(D, 1)
        self.project = nn.Linear(D, D)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        keep = mask.unsqueeze(-1)
        x = self.embed(tokens) * keep  # (B, L, D)
        for convolution in self.convolutions:
            x = (x + F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2))) * keep
        x = self.norm(x)
        weights = self.score(x).masked_fill(~keep, float("-inf")).softmax(1)  # (B, L, 1)
        return self.project((weights * x).sum(1))  # (B, D)


class Bottleneck(nn.Module):
    """Norm, 1x1 down to half, 3x3, 1x1 up, added to the input; (N, D, Hp, Wp) → same. On a CPU core four of
    these cost less than one block of two full 3x3 convolutions, and see twice as far."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.layers = nn.Sequential(
            nn.Conv2d(width, width // 2, 1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(self.norm(x))


class TinyVisionEncoder(nn.Module):
    """Strided convolutions to a stride-8 grid, then residual blocks; (N, 3, S, S) → (N, Hp·Wp, D)."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        D = self.width = config.vision_width
        side = config.image_size // 8
        self.grid = (side, side)
        self.standardise = Standardise((0.5,) * 3, (0.25,) * 3)
        self.stem = nn.Sequential(
            nn.Conv2d(3, D // 2, 6, stride=4, padding=1),
            nn.ReLU(),
            nn.Conv2d(D // 2, D, 3, stride=2, padding=1),
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, D, side, side))
        self.blocks = nn.Sequential(*[Bottleneck(D) for _ in range(config.vision_blocks)])
        self.norm = nn.LayerNorm(D)

    def forward(self, images: Tensor) -> Tensor:
        x = self.standardise(images).contiguous(memory_format=torch.channels_last)
        x = self.blocks(self.stem(x) + self.position)  # (N, D, Hp, Wp)
        return self.norm(x.flatten(2).transpose(1, 2))  # (N, Hp*Wp, D)


def architectures(network: nn.Module) -> dict[str, dict[str, Any]] | None:
    """`NetworkConfig.towers` of a network's encoders, as JSON values; None where none is transformers'."""
    towers: dict[str, Any] = {
        name: module.tower for name, module in network.named_children() if hasattr(module, "tower")
    }
    of_the_file = ("transformers_version", "dtype")  # of where the weights came from, not of what they are
    return {
        name: {key: value for key, value in tower.config.to_diff_dict().items() if key not in of_the_file}
        for name, tower in towers.items()
    } or None


def _tower(
    model_class: Any, config_class: Any, source: str | None, architecture: dict[str, Any], **changes: Any
) -> Any:
    """A transformers model: with the weights of `source` (hub name or folder), or random ones of `architecture`.

    `changes` to its configuration hold either way.
    """
    if source is None:
        return model_class(config_class.from_dict(architecture | changes))
    try:
        return model_class.from_pretrained(source, **changes)
    except OSError as error:
        raise PosaError(
            f"the weights of {model_class.__name__} {source!r} could not be loaded ({error}): give a local folder "
            "that holds them, go online once, or start from random weights with --policy.pretrained=false"
        ) from error


class ClipTextEncoder(nn.Module):
    """CLIP's text tower: tokens (B, L) → pooled embedding (B, 512 for CLIP-B)."""

    tower: Any

    def __init__(self, config: NetworkConfig, load_weights: bool):
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel

        of_bytes = {"eos_token_id": BYTE_EOS, "bos_token_id": BYTE_PAD, "pad_token_id": BYTE_PAD}
        special = of_bytes if config.tokenizer == "bytes" else {}
        source = config.clip_model if load_weights else None
        architecture = (config.towers or {}).get("text_encoder", {})
        self.tower = _tower(CLIPTextModel, CLIPTextConfig, source, architecture, **special)
        self.width = int(self.tower.config.hidden_size)
        longest = int(self.tower.config.max_position_embeddings)
        if config.max_text_length > longest:
            raise PosaError(
                f"this CLIP reads at most {longest} tokens, found max_text_length={config.max_text_length}: set it to "
                f"{longest} and shorten the instructions that are longer"
            )

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.tower(input_ids=tokens, attention_mask=mask.long()).pooler_output


class ClipVisionEncoder(nn.Module):
    """CLIP's image tower: (N, 3, S, S) in [0, 1] → patches of the last hidden state (N, Hp·Wp, 768)."""

    tower: Any

    def __init__(self, config: NetworkConfig, load_weights: bool):
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        source = config.clip_model if load_weights else None
        architecture = (config.towers or {}).get("vision_encoder", {"patch_size": 16})  # ViT-B/16
        self.tower = _tower(CLIPVisionModel, CLIPVisionConfig, source, architecture)
        self.width = int(self.tower.config.hidden_size)
        side = config.image_size // int(self.tower.config.patch_size)
        self.grid = (side, side)
        self.standardise = Standardise(CLIP_MEAN, CLIP_STD)

    def forward(self, images: Tensor) -> Tensor:
        output = self.tower(pixel_values=self.standardise(images), interpolate_pos_encoding=True)
        return output.last_hidden_state[:, 1:]  # without the class token


class DinoVisionEncoder(nn.Module):
    """DINOv2's patches: (N, 3, S, S) in [0, 1] → (N, Hp·Wp, 768); S is rounded down to a multiple of 14."""

    tower: Any

    def __init__(self, config: NetworkConfig, load_weights: bool):
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        source = config.dino_model if load_weights else None
        architecture = (config.towers or {}).get("dense_encoder", {"patch_size": 14, "image_size": 518})
        self.tower = _tower(Dinov2Model, Dinov2Config, source, architecture)
        self.width = int(self.tower.config.hidden_size)
        self.patch = int(self.tower.config.patch_size)
        side = config.image_size // self.patch
        self.grid = (side, side)
        self.standardise = Standardise(IMAGENET_MEAN, IMAGENET_STD)

    def forward(self, images: Tensor) -> Tensor:
        size = (self.grid[0] * self.patch, self.grid[1] * self.patch)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return self.tower(pixel_values=self.standardise(images)).last_hidden_state[:, 1:]
