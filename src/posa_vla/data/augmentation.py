"""Random crop, zoom, colour and erase, moving the anchors with the pixels.

Continuous image coordinates as in the contract: 0 is the left/top edge, W/H the right/bottom one, the centre
of pixel k is k + 0.5; anchors hold u = x / W, v = y / H. Every transformation here is an axis-parallel window
of the source image resampled to the output size, so that anchors move by the same two numbers per axis.

Evaluation sees `centre_crop`, the window that training's random ones are centred on; `uncrop_uv` maps what
the network predicts in the crop back to the whole image, `Windows.uncrop` does so for any window.
"""

from dataclasses import dataclass, fields
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor

from posa_vla.errors import PosaError

LUMA = (0.299, 0.587, 0.114)
"""Rec. 601 weights of red, green and blue; they sum to one, which keeps greys unmoved by saturation."""

CPU_CHUNK = 16
"""Images per pass on the CPU: few enough to stay in its caches, twice as fast as all at once."""

Size = int | tuple[int, int] | None
"""Output height and width in pixels; one number is a square, None the input's own size."""


@dataclass
class AugmentationConfig:
    """How far training images may differ from the recorded ones. Ranges are drawn uniformly, per image.

    Each factor of the colour part is drawn from [1 - x, 1 + x]. The instructions name colours, therefore the
    channel gains, the only part that turns hues, stay small.

    Args:
        enabled: random transformations on; off gives the centre crop of `output_size`.
        output_size: height and width of the result in pixels ([112, 112] or 112), cut out of the image
            without resizing at zoom 1; None keeps the input's size. 112 out of 128 is the usual choice.
        shift: how far the window may leave the image, as a fraction of the image's side; the border
            is repeated there. A window smaller than the image moves freely inside it in addition.
        zoom: smallest and largest magnification; 1 leaves the scale alone.
        brightness: strength of the common gain.
        contrast: strength of the gain about the image's mean luma.
        saturation: strength of the gain about each pixel's luma.
        channel_gain: strength of the independent gains of red, green and blue.
        erase_probability: chance that a rectangle of an image is replaced by a random grey, in [0, 1].
        erase_size: smallest and largest side of that rectangle, as a fraction of the image's side.
    """

    enabled: bool = True
    output_size: Size = None
    shift: float = 0.04
    zoom: tuple[float, float] = (0.95, 1.1)
    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.2
    channel_gain: float = 0.06
    erase_probability: float = 0.25
    erase_size: tuple[float, float] = (0.08, 0.25)

    def __post_init__(self) -> None:
        for name in ("shift", "brightness", "contrast", "saturation", "channel_gain"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise PosaError(f"augmentation.{name} must lie in [0, 1), found {getattr(self, name)}")
        if not 0.0 <= self.erase_probability <= 1.0:
            raise PosaError(f"augmentation.erase_probability is a chance in [0, 1], found {self.erase_probability}")
        for name, limit in (("zoom", 10.0), ("erase_size", 1.0)):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= limit:
                raise PosaError(f"augmentation.{name} needs 0 < low <= high <= {limit:g}, found ({low}, {high})")


@dataclass(frozen=True)
class Windows:
    """Which part of each image was kept: uv_out = scale · uv_in + offset, depth_out = depth_in / zoom.

    Args:
        scale: (B, C, 2), of u and v, both normalised to their own image.
        offset: (B, C, 2).
        zoom: (B, C).
    """

    scale: Tensor
    offset: Tensor
    zoom: Tensor

    def uncrop(self, uv: Tensor) -> Tensor:
        """(B, C, K, 2) in the window to (B, C, K, 2) in the whole image."""
        return (uv - self.offset.unsqueeze(2)) / self.scale.unsqueeze(2)

    @classmethod
    def centred(cls, count: tuple[int, int], image_size: tuple[int, int], output_size: Size) -> "Windows":
        """Those of `centre_crop` for (B, C) images of height and width `image_size`."""
        (H, W), (out_h, out_w) = image_size, _output_size(image_size, output_size)
        top, left = (H - out_h) // 2, (W - out_w) // 2
        scale = torch.tensor([W / out_w, H / out_h]).expand(*count, 2)
        return cls(scale, torch.tensor([-left / out_w, -top / out_h]).expand(*count, 2), torch.ones(count))

    def to(self, device: torch.device) -> "Windows":
        return Windows(self.scale.to(device), self.offset.to(device), self.zoom.to(device))


def augment(
    images: Tensor, anchors: Tensor, config: AugmentationConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`augment_windows` without the windows."""
    return augment_windows(images, anchors, config, generator)[:2]


@torch.no_grad()
def augment_windows(
    images: Tensor, anchors: Tensor, config: AugmentationConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Windows]:
    """Transforms each image at random and moves its anchors along.

    Depth follows the zoom, d' = d / zoom: a camera of unchanged focal length sees the magnified picture when
    the scene stands closer by that factor, and (x, y) = (u - cx) d / f stays what it was. Visibility is kept:
    whether an anchor is still in the frame is read off u, v, and an erased patch is meant to be seen through.

    Args:
        images: (B, C, 3, H, W), float in [0, 1] or uint8.
        anchors: (B, C, 2, 4), u, v, depth, visibility, normalised to the image as given.
        config: the ranges.
        generator: source of every random number, so that one seed gives one result; it may stay on the CPU.

    Returns:
        images (B, C, 3, h, w) float in [0, 1] and anchors (B, C, 2, 4) normalised to h, w, new tensors; and the
        windows that were cut out.
    """
    _check_shapes(images, anchors)
    B, C, _, H, W = images.shape
    if not config.enabled:
        windows = Windows.centred((B, C), (H, W), config.output_size).to(images.device)
        return *centre_crop(_as_float(images), anchors, config.output_size), windows
    out_h, out_w = _output_size((H, W), config.output_size)
    draws = _draw(B * C, (H, W), (out_h, out_w), config, generator)
    flat, on_device = images.flatten(0, 1), draws.to(images.device)
    moved = torch.empty(B * C, 3, out_h, out_w, device=images.device)
    # Autocast would round colours to bfloat16's eight bits.
    with torch.autocast(images.device.type, enabled=False):
        step = CPU_CHUNK if images.device.type == "cpu" else len(flat)
        for start in range(0, len(flat), step):
            part = slice(start, start + step)
            moved[part] = _transform(_as_float(flat[part]), on_device[part], (out_h, out_w))
    scale, offset = _window_map(draws, (H, W), (out_h, out_w))
    windows = Windows(scale.view(B, C, 2), offset.view(B, C, 2), draws.zoom.view(B, C)).to(images.device)
    return moved.view(B, C, 3, out_h, out_w), _move_anchors(anchors, scale, offset, draws.zoom), windows


@overload
def centre_crop(images: Tensor, anchors: Tensor, output_size: Size) -> tuple[Tensor, Tensor]: ...


@overload
def centre_crop(images: Tensor, anchors: None, output_size: Size) -> tuple[Tensor, None]: ...


@torch.no_grad()
def centre_crop(images: Tensor, anchors: Tensor | None, output_size: Size) -> tuple[Tensor, Tensor | None]:
    """The middle window of `output_size` pixels, not resized; what the network sees at evaluation.

    Args:
        images: (..., 3, H, W), any dtype.
        anchors: (B, C, 2, 4) normalised to H, W; None where there are none, as at inference.
        output_size: height and width of the window; None takes the whole image.

    Returns:
        images (..., 3, h, w) and anchors normalised to h, w: new tensors.
    """
    H, W = images.shape[-2:]
    out_h, out_w = _output_size((H, W), output_size)
    top, left = (H - out_h) // 2, (W - out_w) // 2
    cropped = images[..., top : top + out_h, left : left + out_w].clone(memory_format=torch.contiguous_format)
    if anchors is None:
        return cropped, None
    count = anchors.shape[0] * anchors.shape[1]
    scale = anchors.new_tensor([W / out_w, H / out_h]).expand(count, 2)
    offset = anchors.new_tensor([-left / out_w, -top / out_h]).expand(count, 2)
    return cropped, _move_anchors(anchors, scale, offset, anchors.new_ones(count))


def uncrop_uv(uv: Tensor, image_size: tuple[int, int], output_size: Size) -> Tensor:
    """Coordinates predicted in the centre crop, in the whole image's: (..., 2) to (..., 2), both normalised.

    Args:
        uv: (..., 2), normalised to the crop.
        image_size: H, W of the whole image in pixels.
        output_size: what `centre_crop` was given.
    """
    H, W = image_size
    out_h, out_w = _output_size(image_size, output_size)
    size = uv.new_tensor([out_w, out_h])
    corner = uv.new_tensor([(W - out_w) // 2, (H - out_h) // 2])
    return (uv * size + corner) / uv.new_tensor([W, H])


def _check_shapes(images: Tensor, anchors: Tensor) -> None:
    if images.ndim != 5 or images.shape[2] != 3:
        raise ValueError(f"images: expected (B, C, 3, H, W), got {tuple(images.shape)}")
    if tuple(anchors.shape) != (*images.shape[:2], 2, 4):
        raise ValueError(f"anchors: expected {(*images.shape[:2], 2, 4)}, got {tuple(anchors.shape)}")


def _output_size(image_size: tuple[int, int], output_size: Size) -> tuple[int, int]:
    """Height and width of the result, checked against the image's."""
    if output_size is None:
        return image_size
    height, width = (output_size, output_size) if isinstance(output_size, int) else output_size
    if not (0 < height <= image_size[0] and 0 < width <= image_size[1]):
        raise PosaError(
            f"a crop of {height}×{width} does not fit images of {image_size[0]}×{image_size[1]} pixels: "
            "choose an augmentation output_size no larger than the images"
        )
    return height, width


def _as_float(images: Tensor) -> Tensor:
    return images.float().div_(255.0) if images.dtype == torch.uint8 else images.float()


@dataclass(frozen=True)
class _Draws:
    """Every random number of N images; indexing takes some of the images."""

    centre: Tensor  # (N, 2) of the window, in source pixels, x first
    zoom: Tensor  # (N,)
    gains: Tensor  # (N, 3), brightness times channel gain
    contrast: Tensor  # (N,)
    saturation: Tensor  # (N,)
    erase_centre: Tensor  # (N, 2) as fractions of the result's sides, x first
    erase_size: Tensor  # (N, 2) likewise; 0 erases nothing
    erase_grey: Tensor  # (N,)

    def __getitem__(self, part: slice) -> "_Draws":
        return _Draws(*(getattr(self, field.name)[part] for field in fields(self)))

    def to(self, device: torch.device) -> "_Draws":
        return _Draws(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


def _draw(
    count: int,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    config: AugmentationConfig,
    generator: torch.Generator,
) -> _Draws:
    """Draws on the generator's own device, so that a CPU generator gives a GPU the same numbers."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = torch.rand(count, *shape, generator=generator, device=generator.device)
        return drawn * (high - low) + low

    def factor(strength: float, *shape: int) -> Tensor:
        return uniform(1.0 - strength, 1.0 + strength, *shape)

    zoom = uniform(*config.zoom)
    image, output = zoom.new_tensor(image_size[::-1]), zoom.new_tensor(output_size[::-1])
    slack = (image - output / zoom[:, None]).clamp(min=0.0) / 2 + config.shift * image  # (N, 2)
    middle = ((image - output) / 2).floor() + output / 2  # the centre of `centre_crop`
    chosen = uniform(0.0, 1.0, 1) < config.erase_probability
    return _Draws(
        centre=middle + slack * uniform(-1.0, 1.0, 2),
        zoom=zoom,
        gains=factor(config.brightness, 1) * factor(config.channel_gain, 3),
        contrast=factor(config.contrast),
        saturation=factor(config.saturation),
        erase_centre=uniform(0.0, 1.0, 2),
        erase_size=uniform(*config.erase_size, 2) * chosen,
        erase_grey=uniform(0.0, 1.0),
    )


def _window_map(draws: _Draws, image_size: tuple[int, int], output_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """scale, offset (N, 2) with uv_out = scale · uv_in + offset, both normalised to their own image."""
    image, output = (draws.centre.new_tensor(size[::-1]) for size in (image_size, output_size))
    window = output / draws.zoom[:, None]  # source pixels
    return image / window, 0.5 - draws.centre / window


def _transform(images: Tensor, draws: _Draws, output_size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) in [0, 1] to (N, 3, h, w) in [0, 1]."""
    return _erase(_jitter_colours(_resample(images, draws, output_size), draws), draws)


def _resample(images: Tensor, draws: _Draws, output_size: tuple[int, int]) -> Tensor:
    """Bilinear windows of (N, 3, H, W) as (N, 3, h, w); outside the image its border is repeated."""
    N, _, H, W = images.shape
    out_h, out_w = output_size
    grid = images.new_empty(N, out_h, out_w, 2)
    for axis, (out, side) in enumerate(((out_w, W), (out_h, H))):
        steps = torch.arange(out, device=images.device, dtype=images.dtype) + 0.5 - out / 2
        source = draws.centre[:, axis, None] + steps / draws.zoom[:, None]  # (N, out) source pixels
        normalised = source * (2.0 / side) - 1.0
        grid[..., axis] = normalised[:, None, :] if axis == 0 else normalised[:, :, None]
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _jitter_colours(images: Tensor, draws: _Draws) -> Tensor:
    """All colour changes of (N, 3, h, w) as one affine map of RGB per image, clamped to [0, 1].

    With gains D, contrast c about the mean luma m and saturation S = s·1 + (1 - s) 1 lᵀ, where l sums to one:
    x' = S (c D x + (1 - c) m) = c S D x + (1 - c) m.
    """
    N, _, h, w = images.shape
    luma = images.new_tensor(LUMA)
    mean = (images[:, :, ::4, ::4].mean((2, 3)) * draws.gains) @ luma  # (N,), every 16th pixel is plenty
    s, c = draws.saturation[:, None, None], draws.contrast[:, None, None]
    mix = s * torch.eye(3, device=images.device) + (1.0 - s) * luma.expand(3, 3)  # (N, 3, 3)
    bias = (1.0 - c) * mean[:, None, None]
    mixed = torch.baddbmm(bias, c * mix * draws.gains[:, None, :], images.reshape(N, 3, h * w))
    return mixed.clamp_(0.0, 1.0).view(N, 3, h, w)


def _erase(images: Tensor, draws: _Draws) -> Tensor:
    """Covers one rectangle of each image (N, 3, h, w) with a grey; a side of 0 covers nothing."""
    inside = []
    for axis, side in enumerate(images.shape[:1:-1]):  # w, h
        position = (torch.arange(side, device=images.device) + 0.5) / side
        offset = (position - draws.erase_centre[:, axis, None]).abs()
        inside.append(offset < draws.erase_size[:, axis, None] / 2)
    in_columns, in_rows = inside  # (N, w), (N, h)
    covered = in_rows[:, None, :, None] & in_columns[:, None, None, :]  # (N, 1, h, w)
    return torch.where(covered, draws.erase_grey[:, None, None, None], images)


def _move_anchors(anchors: Tensor, scale: Tensor, offset: Tensor, zoom: Tensor) -> Tensor:
    """Applies uv' = scale · uv + offset and depth' = depth / zoom per image to (B, C, 2, 4).

    Anchors behind the camera (depth <= 0) keep their sentinel, unknown ones (visibility -1) their contents.
    """
    B, C = anchors.shape[:2]
    scale, offset = (x.to(anchors).view(B, C, 1, 2) for x in (scale, offset))
    zoom = zoom.to(anchors).view(B, C, 1, 1)
    uv, depth, visibility = anchors[..., :2], anchors[..., 2:3], anchors[..., 3:]
    moved = torch.cat([uv * scale + offset, depth / zoom, visibility], dim=-1)
    return torch.where((depth > 0) & (visibility >= 0), moved, anchors)
