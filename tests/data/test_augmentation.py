"""Pixels and anchors move together: a dot drawn at an anchor is found where the moved anchor says."""

import pytest
import torch

from posa_vla.data.augmentation import AugmentationConfig, augment, centre_crop, uncrop_uv
from posa_vla.errors import PosaError

STILL = {
    "shift": 0.0,
    "zoom": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "channel_gain": 0.0,
    "erase_probability": 0.0,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dots(batch: int, cameras: int, size: tuple[int, int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, C, 3, H, W) with a smooth bright dot at the end anchor, and their anchors (B, C, 2, 4)."""
    H, W = size
    uv = 0.35 + 0.3 * torch.rand(batch, cameras, 2, 2, generator=generator(seed))
    anchors = torch.cat([uv, torch.full((batch, cameras, 2, 1), 0.8), torch.ones(batch, cameras, 2, 1)], -1)
    x, y = torch.arange(W) + 0.5, torch.arange(H) + 0.5
    end = anchors[:, :, 1]
    squared = (x - end[..., :1] * W)[:, :, None, :] ** 2 + (y - end[..., 1:2] * H)[:, :, :, None] ** 2
    return torch.exp(-squared / (2 * 2.0**2))[:, :, None].repeat(1, 1, 3, 1, 1), anchors


def centroids(images: torch.Tensor) -> torch.Tensor:
    """Continuous pixel coordinates (B, C, 2) of the bright dot."""
    H, W = images.shape[-2:]
    weight = images.mean(2)
    weight = (weight - 0.5 * weight.amax((-2, -1), keepdim=True)).clamp(min=0)  # nothing but the dot
    weight = weight / weight.sum((-2, -1), keepdim=True)
    x = (weight.sum(-2) * (torch.arange(W) + 0.5)).sum(-1)
    y = (weight.sum(-1) * (torch.arange(H) + 0.5)).sum(-1)
    return torch.stack([x, y], -1)


def distance(images: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Pixels between each image's dot and its end anchor."""
    H, W = images.shape[-2:]
    return (centroids(images) - anchors[:, :, 1, :2] * torch.tensor([W, H])).norm(dim=-1)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
@pytest.mark.parametrize(
    "changed",
    [{}, {"output_size": (40, 58)}, {"zoom": (0.7, 1.5)}, {"shift": 0.1}],
    ids=["still", "crop", "zoom", "shift"],
)
def test_dot_stays_at_its_anchor(size, changed):
    images, anchors = dots(16, 2, size)
    assert distance(images, anchors).max() < 0.1
    moved, moved_anchors = augment(images, anchors, AugmentationConfig(**{**STILL, **changed}), generator(1))
    assert distance(moved, moved_anchors).max() < 0.3


def test_dot_stays_at_its_anchor_with_everything_on():
    images, anchors = dots(32, 2, (64, 64))
    config = AugmentationConfig(output_size=(56, 56), erase_probability=0.0)
    moved, moved_anchors = augment(images, anchors, config, generator(2))
    assert moved.shape == (32, 2, 3, 56, 56)
    assert distance(moved, moved_anchors).max() < 0.6
    assert (moved_anchors[..., :2] - anchors[..., :2]).abs().mean() > 0.02  # something did move


def test_translation_equivariance():
    """Moving the scene by whole pixels moves the result and its anchors by as much."""
    images, anchors = dots(8, 1, (64, 64))
    shifted = images.roll((3, -5), dims=(-2, -1))
    shifted_anchors = anchors.clone()
    shifted_anchors[..., :2] += torch.tensor([-5, 3]) / 64
    config = AugmentationConfig(**{**STILL, "output_size": (48, 48), "shift": 0.05})
    first, first_anchors = augment(images, anchors, config, generator(3))
    second, second_anchors = augment(shifted, shifted_anchors, config, generator(3))
    assert torch.allclose(second_anchors[..., :2] - first_anchors[..., :2], torch.tensor([-5, 3]) / 48, atol=1e-5)
    assert torch.allclose(second[..., 8:40, 8:40], first[..., 5:37, 13:45], atol=1e-4)


def test_depth_follows_the_zoom_and_sentinels_stay():
    images, anchors = dots(4, 2, (32, 32))
    anchors[0, 0, 0] = torch.tensor([-1.0, -1.0, -0.2, 1.0])
    anchors[1, 0, 0] = torch.tensor([0.0, 0.0, 0.5, -1.0])
    config = AugmentationConfig(**{**STILL, "zoom": (1.25, 1.25), "shift": 0.1})
    _, moved = augment(images, anchors, config, generator())
    assert torch.equal(moved[0, 0, 0], anchors[0, 0, 0])
    assert torch.equal(moved[1, 0, 0], anchors[1, 0, 0])
    assert torch.allclose(moved[2:, :, :, 2], anchors[2:, :, :, 2] / 1.25)
    assert torch.equal(moved[..., 3], anchors[..., 3])


def test_equal_seeds_give_equal_results_and_inputs_are_kept():
    images, anchors = dots(4, 2, (32, 32))
    before = images.clone(), anchors.clone()
    config = AugmentationConfig()
    one, again, other = (augment(images, anchors, config, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0]) and not torch.equal(one[1], other[1])
    assert torch.equal(images, before[0]) and torch.equal(anchors, before[1])


def test_off_is_the_centre_crop():
    images, anchors = dots(4, 2, (64, 64))
    off = AugmentationConfig(enabled=False)
    same, same_anchors = augment(images, anchors, off, generator())
    assert torch.equal(same, images) and torch.equal(same_anchors, anchors)
    assert same.data_ptr() != images.data_ptr() and same_anchors.data_ptr() != anchors.data_ptr()
    cropped, moved = augment(images, anchors, AugmentationConfig(enabled=False, output_size=(48, 47)), generator())
    expected, expected_anchors = centre_crop(images, anchors, (48, 47))
    assert torch.equal(cropped, expected) and torch.equal(moved, expected_anchors)
    assert distance(cropped, moved).max() < 0.1


@pytest.mark.parametrize("output_size", [None, 48, (48, 47)])
def test_random_crops_are_centred_on_the_evaluation_crop(output_size):
    """On average over many draws; a quarter of a pixel where the sides' difference is odd."""
    images, anchors = dots(4, 2, (64, 64))

    config = AugmentationConfig(**{**STILL, "output_size": output_size})
    offsets = [augment(images, anchors, config, generator(i))[1] for i in range(200)]
    _, expected = centre_crop(images, anchors, output_size)
    assert (torch.stack(offsets).mean(0) - expected).abs().max() < 0.05


def test_uncrop_inverts_the_crop():
    images, anchors = dots(3, 2, (63, 80))
    _, cropped = centre_crop(images, anchors, (48, 56))
    assert torch.allclose(uncrop_uv(cropped[..., :2], (63, 80), (48, 56)), anchors[..., :2], atol=1e-6)
    assert torch.equal(uncrop_uv(anchors[..., :2], (64, 64), None), anchors[..., :2])


def test_colours_stay_recognisable_and_in_range():
    """The instruction names colours: after the strongest default jitter the largest channel stays largest."""
    red = torch.tensor([0.8, 0.2, 0.2])[None, None, :, None, None].expand(256, 1, 3, 16, 16)
    config = AugmentationConfig(
        **{
            **STILL,
            **{k: getattr(AugmentationConfig(), k) for k in ("brightness", "contrast", "saturation", "channel_gain")},
        }
    )
    moved, _ = augment(red, torch.zeros(256, 1, 2, 4), config, generator())
    means = moved.mean((-2, -1))[:, 0]
    assert (means[:, 0] > means[:, 1:].amax(1) + 0.2).all()
    assert means.std(0).min() > 0.02  # and colours do change
    assert moved.min() >= 0.0 and moved.max() <= 1.0


def test_grey_stays_grey_without_channel_gains():
    grey = torch.rand(8, 1, 1, 16, 16, generator=generator()).expand(8, 1, 3, 16, 16)
    config = AugmentationConfig(**{**STILL, "brightness": 0.3, "contrast": 0.3, "saturation": 0.5})
    moved, _ = augment(grey, torch.zeros(8, 1, 2, 4), config, generator())
    assert (moved.amax(2) - moved.amin(2)).max() < 1e-5


def test_erase_covers_one_rectangle_of_the_promised_size():
    images = torch.full((64, 1, 3, 50, 50), 2.0)  # out of range: no grey equals it
    config = AugmentationConfig(**{**STILL, "erase_probability": 0.5, "erase_size": (0.2, 0.4)})
    moved, _ = augment(images, torch.zeros(64, 1, 2, 4), config, generator())
    erased = (moved[:, 0] < 1.0).all(1)  # the clamp made the rest exactly 1
    touched = erased.any(-1).any(-1)
    assert 16 < touched.sum() < 48
    assert erased.any(-1).sum(-1).max() <= 21 and erased.any(-2).sum(-1).max() <= 21
    area = erased.any(-1).sum(-1) * erased.any(-2).sum(-1)
    assert torch.equal(area, erased.sum((-2, -1)))  # rows × columns: a full rectangle


def test_uint8_gives_the_same_as_float():
    images = torch.randint(0, 256, (4, 2, 3, 32, 32), dtype=torch.uint8, generator=generator())
    config, anchors = AugmentationConfig(output_size=28), torch.zeros(4, 2, 2, 4)
    ours, _ = augment(images, anchors, config, generator(1))
    reference, _ = augment(images.float() / 255, anchors, config, generator(1))
    assert ours.dtype == torch.float32 and torch.allclose(ours, reference)


def test_autocast_does_not_coarsen_the_pixels():
    images, anchors = dots(2, 2, (32, 32))
    plain, _ = augment(images, anchors, AugmentationConfig(), generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = augment(images, anchors, AugmentationConfig(), generator())
    assert torch.equal(plain, cast)


@pytest.mark.parametrize(
    "wrong", [{"shift": -0.1}, {"zoom": (1.2, 1.0)}, {"erase_probability": 2.0}, {"erase_size": (0.0, 0.5)}]
)
def test_impossible_ranges_are_refused(wrong):
    with pytest.raises(PosaError, match=next(iter(wrong))):
        AugmentationConfig(**wrong)


def test_crop_larger_than_the_image_is_refused():
    with pytest.raises(PosaError, match="does not fit"):
        centre_crop(torch.zeros(1, 1, 3, 32, 32), None, 40)
    with pytest.raises(ValueError, match="anchors: expected"):
        augment(torch.zeros(2, 2, 3, 8, 8), torch.zeros(2, 1, 2, 4), AugmentationConfig(), generator())
