"""Maps, gates and soft-argmax: the properties the method rests on."""

import math

import pytest
import torch

from posa_vla.anchors.heatmap import anchor_maps
from posa_vla.model.anchor_attention import AnchorAttention, fourier_features, gate_features, resample, soft_argmax


@pytest.mark.parametrize("mode", ["max", "none"])
def test_an_all_ones_map_changes_nothing(mode):
    features = torch.randn(2, 2, 9, 5)
    assert torch.equal(gate_features(features, torch.ones(2, 2, 2, 9), mode), features)


def test_an_empty_map_closes_the_gate_and_concat_keeps_anchors_apart():
    features = torch.randn(1, 1, 4, 3)
    maps = torch.zeros(1, 1, 2, 4)
    maps[:, :, 1, 2] = 1.0
    assert gate_features(features, torch.zeros_like(maps), "max").abs().sum() == 0
    both = gate_features(features, maps, "concat")
    assert both.shape == (1, 1, 4, 6)
    assert both[..., :3].abs().sum() == 0 and torch.equal(both[0, 0, 2, 3:], features[0, 0, 2])


def test_sum_adds_the_maps():
    features, maps = torch.ones(1, 1, 4, 1), torch.tensor([0.25, 0.5]).view(1, 1, 2, 1).expand(1, 1, 2, 4)
    assert torch.allclose(gate_features(features, maps, "sum"), torch.full((1, 1, 4, 1), 0.75))


def test_attention_answers_every_patch_for_itself():
    torch.manual_seed(0)
    attention = AnchorAttention(text_width=6, vision_width=5, heads=2)
    text, patches = torch.randn(3, 6), torch.randn(3, 2, 7, 5)
    logits = attention(text, patches)
    assert logits.shape == (3, 2, 7)
    changed = patches.clone()
    changed[:, :, 4] += 1
    difference = attention(text, changed) - logits
    assert (difference[:, :, 4] != 0).all() and difference[:, :, :4].abs().max() == 0


@pytest.mark.parametrize("uv", [(0.5, 0.5), (0.31, 0.72), (0.8, 0.45)])
def test_soft_argmax_finds_a_gaussian_between_patch_centres(uv):
    anchors = torch.tensor([*uv, 1.0, 1.0]).view(1, 1, 1, 4).expand(1, 1, 2, 4)
    maps = anchor_maps(anchors, (14, 14)).maps.clamp(1e-6, 1 - 1e-3)
    found, weights = soft_argmax(torch.logit(maps).flatten(-2), (14, 14))
    assert torch.allclose(found[0, 0, 0], torch.tensor(uv), atol=0.25 / 14)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 1, 2))


def test_resampling_keeps_a_constant_and_the_same_grid():
    maps = torch.rand(1, 2, 2, 16)
    assert resample(maps, (4, 4), (4, 4)) is maps
    assert torch.allclose(resample(torch.full_like(maps, 0.3), (4, 4), (7, 7)), torch.full((1, 2, 2, 49), 0.3))


def test_fourier_features_hold_the_value_and_its_octaves():
    features = fourier_features(torch.tensor([0.25]), bands=2)
    expected = [0.25, math.sin(math.pi / 4), math.sin(math.pi / 2), math.cos(math.pi / 4), math.cos(math.pi / 2)]
    assert features.tolist() == pytest.approx(expected, abs=1e-6)


def test_mixed_precision_rounds_neither_logits_nor_places():
    torch.manual_seed(0)
    attention = AnchorAttention(text_width=6, vision_width=5, heads=2)
    attention.query.weight.data = attention.query.weight.data.bfloat16().float()  # with the text below exact queries
    torch.nn.init.zeros_(attention.query.bias)
    text, patches = torch.eye(6)[:3], 5 * torch.randn(3, 2, 196, 5)
    logits = attention(text, patches)
    uv, weights = soft_argmax(logits, (14, 14))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention(text, patches), logits)
        same_uv, same_weights = soft_argmax(logits, (14, 14))
    assert torch.equal(same_uv, uv) and torch.equal(same_weights, weights)
