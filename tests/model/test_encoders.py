"""Encoders: pretrained weights come from a folder, padding says nothing, and a missing folder is one sentence."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, Dinov2Config, Dinov2Model

from posa_vla.errors import PosaError
from posa_vla.model.configuration import preset
from posa_vla.model.encoders import ClipTextEncoder, TinyTextEncoder, TinyVisionEncoder, architectures
from posa_vla.model.network import PosaNetwork

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {"width": 32, "depth": 1, "heads": 2, "chunk_size": 4, "image_size": 56}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A small CLIP and a small DINOv2, saved as the hub would hold them."""
    folder = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    clip = CLIPModel(
        CLIPConfig(
            text_config=SIZES | {"vocab_size": 384, "eos_token_id": 1, "pad_token_id": 0},
            vision_config=SIZES | {"image_size": 56, "patch_size": 8},
        )
    )
    dino = Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2, image_size=56, patch_size=14))
    clip.save_pretrained(folder / "clip")
    dino.save_pretrained(folder / "dino")
    return folder, clip, dino


def test_pretrained_weights_are_the_folders(towers):
    folder, clip, dino = towers
    config = preset(
        "paper", clip_model=str(folder / "clip"), dino_model=str(folder / "dino"), tokenizer="bytes", **SMALL
    )
    net = PosaNetwork(config, torch.tensor([5, 1]))
    found = net.text_encoder.tower.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in clip.text_model.state_dict().items() if key in found)
    images = torch.rand(1, 3, 56, 56)
    with torch.no_grad():
        patches = net.dense_encoder(images)
        expected = dino.eval()(pixel_values=net.dense_encoder.standardise(images)).last_hidden_state[:, 1:]
    assert patches.shape == (1, 16, 32) and torch.allclose(patches, expected, atol=1e-5)
    assert net.vision_encoder(images).shape == (1, 49, 32)  # another grid than DINOv2's: maps are resampled


def test_a_network_is_rebuilt_from_its_architectures_without_the_folders(towers):
    folder, _, _ = towers
    config = preset(
        "paper", clip_model=str(folder / "clip"), dino_model=str(folder / "dino"), tokenizer="bytes", **SMALL
    )
    net = PosaNetwork(config, torch.tensor([5, 1])).eval()
    saved = json.loads(json.dumps(architectures(net)))
    gone = replace(config, clip_model="gone", dino_model="gone", towers=saved)
    rebuilt = PosaNetwork(gone, torch.tensor([5, 1]), load_weights=False).eval()
    rebuilt.load_state_dict(net.state_dict())
    assert architectures(rebuilt) == saved
    images, tokens = torch.rand(1, 3, 56, 56), torch.tensor([[5, 6, 1, 0]])
    with torch.no_grad():
        assert torch.equal(rebuilt.text_encoder(tokens, tokens > 0), net.text_encoder(tokens, tokens > 0))
        assert torch.equal(rebuilt.vision_encoder(images), net.vision_encoder(images))
        assert torch.equal(rebuilt.dense_encoder(images), net.dense_encoder(images))


def test_a_network_without_towers_has_no_architectures():
    assert architectures(PosaNetwork(preset("tiny"), torch.tensor([5, 1]))) is None


@pytest.mark.parametrize("end_of_source", [2, 383])
def test_a_sentence_of_bytes_is_pooled_at_its_end_whatever_the_source_reads(tmp_path, end_of_source):
    """CLIP's own end token is no byte: it would pool another one, and only until the weights are loaded again."""
    text = SIZES | {"vocab_size": 384, "eos_token_id": end_of_source}
    CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(tmp_path)
    encoder = ClipTextEncoder(preset("sim", clip_model=str(tmp_path), tokenizer="bytes"), load_weights=True).eval()
    tokens = torch.tensor([[5, 200, 6, 1, 0]])
    with torch.no_grad():
        states = encoder.tower(input_ids=tokens, attention_mask=(tokens > 0).long()).last_hidden_state
        assert torch.equal(encoder(tokens, tokens > 0), states[:, 3])


def test_two_grids_meet_in_the_gate(towers):
    folder, _, _ = towers
    config = preset(
        "paper", clip_model=str(folder / "clip"), dino_model=str(folder / "dino"), tokenizer="bytes", **SMALL
    )
    net = PosaNetwork(config, torch.tensor([5, 1])).eval()
    images, tokens = torch.rand(1, 2, 3, 56, 56), torch.tensor([[5, 6, 1]])
    with torch.no_grad():
        sight = net.look(images, tokens, tokens > 0, torch.zeros(1, 8))
        memory = net.remember(images, sight, torch.zeros(1, 8))
    assert sight.maps.shape == (1, 2, 2, 7, 7)
    assert memory.shape == (1, 2 * 16 + 2 + 4, 32)  # patches of two views, text, state, four anchor tokens


def test_a_missing_folder_is_one_sentence(tmp_path):
    config = preset("sim", clip_model=str(tmp_path / "nothing"), tokenizer="bytes", **SMALL)
    with pytest.raises(PosaError, match=r"could not be loaded.*pretrained=false"):
        PosaNetwork(config, torch.tensor([1]))


def test_more_text_than_clip_reads_is_one_sentence():
    with pytest.raises(PosaError, match="at most 77 tokens, found max_text_length=100"):
        ClipTextEncoder(preset("sim", pretrained=False, tokenizer="bytes", max_text_length=100), load_weights=False)


def test_padding_does_not_change_the_sentence():
    torch.manual_seed(0)
    encoder = TinyTextEncoder(preset("tiny")).eval()
    tokens = torch.randint(3, 200, (1, 20))
    padded = torch.cat([tokens, torch.zeros(1, 12, dtype=torch.long)], dim=1)
    short = encoder(tokens, torch.ones(1, 20, dtype=torch.bool))
    long = encoder(padded, padded > 0)
    assert torch.allclose(short, long, atol=1e-5)


def test_tiny_patches_keep_their_place():
    """A change in one corner of the picture leaves the far corner's feature as it was."""
    torch.manual_seed(0)
    encoder = TinyVisionEncoder(preset("tiny", vision_blocks=0)).eval()
    images = torch.rand(1, 3, 112, 112)
    changed = images.clone()
    changed[:, :, :8, :8] = 0
    difference = (encoder(images) - encoder(changed)).abs().sum(-1).view(14, 14)
    assert difference[0, 0] > 0 and difference[7:, 7:].max() == 0
