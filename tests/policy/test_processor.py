"""Tokens, shape checks, and pipelines that survive being saved."""

import shutil

import pytest
import torch
from lerobot.policies import make_pre_post_processors
from policy_fakes import small_config
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from posa_vla import contract
from posa_vla.errors import PosaError
from posa_vla.policy.processor_posa_vla import InstructionTokenizerStep, make_posa_vla_pre_post_processors

STATS = {
    contract.STATE: {"mean": torch.arange(8.0), "std": torch.full((8,), 2.0)},
    contract.ACTION: {"q01": torch.full((7,), -3.0), "q99": torch.full((7,), 1.0)},
}


def pipelines(**overrides):
    config = small_config(**overrides)
    config.validate_features()
    return config, *make_posa_vla_pre_post_processors(config, STATS)


def observation(batch=2, side=128):
    images = {contract.image_key(camera): torch.rand(batch, 3, side, side) for camera in contract.CAMERAS}
    return {**images, contract.STATE: torch.randn(batch, 8), "task": ["pick up the red can"] * batch}


@pytest.fixture(scope="module")
def word_tokenizer(tmp_path_factory):
    """A folder with a tokenizer in files, as CLIP's would be."""
    words = {word: n for n, word in enumerate(["<pad>", "<end>", "?", "pick", "up", "the", "red", "can"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>").save_pretrained(folder)
    return folder


def test_bytes_are_byt5s_padded_to_the_configured_length():
    _, preprocess, _ = pipelines()
    batch = preprocess({**observation(), "task": ["pick up", "grab the blue milk"]})
    tokens, mask = batch[contract.LANGUAGE_TOKENS], batch[contract.LANGUAGE_MASK]
    expected = ByT5Tokenizer()(["pick up", "grab the blue milk"], padding="max_length", max_length=64)
    assert tokens.dtype == torch.int64
    assert mask.dtype == torch.bool
    assert tokens.tolist() == expected["input_ids"]
    assert mask.long().tolist() == expected["attention_mask"]


def test_a_state_that_never_moved_stays_small_when_it_does_at_last():
    low, std = torch.arange(8.0), torch.full((8,), 2.0)
    high = low + 1
    high[3], std[3] = low[3], 1e-9  # rounding, where it should be 0
    state = {"mean": low, "std": std, "min": low, "max": high}
    config = small_config()
    config.validate_features()
    preprocess, _ = make_posa_vla_pre_post_processors(config, {**STATS, contract.STATE: state})
    moved = preprocess({**observation(), contract.STATE: (low + 1e-3).expand(2, 8)})[contract.STATE]
    torch.testing.assert_close(moved[:, 3], torch.full((2,), 1e-3), rtol=1e-2, atol=0)
    torch.testing.assert_close(moved[:, 4], torch.full((2,), 5e-4), rtol=1e-2, atol=0)


def test_state_and_action_are_normalised_and_images_are_not():
    _, preprocess, postprocess = pipelines()
    raw = {**observation(), contract.ACTION: torch.tensor([[-3.0] * 7, [1.0] * 7])}
    batch = preprocess(raw)
    torch.testing.assert_close(batch[contract.STATE], (raw[contract.STATE] - torch.arange(8.0)) / 2)
    torch.testing.assert_close(batch[contract.ACTION], torch.tensor([[-1.0] * 7, [1.0] * 7]))
    torch.testing.assert_close(postprocess(batch[contract.ACTION]), raw[contract.ACTION])
    assert torch.equal(batch["observation.images.head"], raw["observation.images.head"])


def test_saved_pipelines_give_the_same_batch(tmp_path):
    config, preprocess, postprocess = pipelines()
    for pipeline in (preprocess, postprocess):
        pipeline.save_pretrained(tmp_path)
    loaded, unloaded = make_pre_post_processors(config, pretrained_path=str(tmp_path))
    raw = observation()
    before, after = preprocess(raw), loaded(raw)
    for key in (contract.LANGUAGE_TOKENS, contract.LANGUAGE_MASK, contract.STATE):
        assert torch.equal(before[key], after[key]), key
    actions = torch.randn(2, 7)
    assert torch.equal(postprocess(actions), unloaded(actions))


def test_a_tokenizer_with_files_travels_inside_the_checkpoint(tmp_path, word_tokenizer):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(word_tokenizer, elsewhere)
    config, preprocess, _ = pipelines(tokenizer=str(elsewhere), max_text_length=12)
    before = preprocess(observation())
    preprocess.save_pretrained(tmp_path / "saved")
    shutil.rmtree(elsewhere)
    _, _, other = pipelines()
    other.save_pretrained(tmp_path / "saved")
    loaded, _ = make_pre_post_processors(config, pretrained_path=str(tmp_path / "saved"))
    after = loaded(observation())
    assert before[contract.LANGUAGE_TOKENS][0].tolist() == [3, 4, 5, 6, 7, 1, 0, 0, 0, 0, 0, 0]
    for key in (contract.LANGUAGE_TOKENS, contract.LANGUAGE_MASK):
        assert torch.equal(before[key], after[key]), key


def test_a_sentence_is_never_cut():
    step = InstructionTokenizerStep(max_length=8)
    with pytest.raises(PosaError, match="20 tokens, the policy takes 8"):
        step._encode("pick up the red can")


def test_a_missing_sentence_and_a_missing_tokenizer_are_named(tmp_path):
    _, preprocess, _ = pipelines()
    with pytest.raises(PosaError, match="an instruction per sample"):
        preprocess({**observation(), "task": [""]})
    with pytest.raises(PosaError, match="download it first"):
        InstructionTokenizerStep(tokenizer=str(tmp_path / "none")).ids("x")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({contract.STATE: torch.zeros(2, 7)}, r"observation.state of shape \(8,\), found \(7,\)"),
        ({"observation.images.head": torch.zeros(2, 3, 64, 64)}, r"shape \(3, 128, 128\), found \(3, 64, 64\)"),
        ({"observation.images.head": None}, "expects observation.images.head, found observation.images.wrist"),
    ],
)
def test_observations_of_another_robot_are_refused(change, sentence):
    _, preprocess, _ = pipelines()
    raw = {key: value for key, value in {**observation(), **change}.items() if value is not None}
    with pytest.raises(PosaError, match=sentence):
        preprocess(raw)


def test_an_action_that_rarely_moves_is_scaled_by_its_range():
    """Quantiles that coincide would blow up the other 1 %; a constant stays finite; the rest is untouched."""
    config = small_config()
    config.validate_features()
    low, high = torch.tensor([0.0, -2.0, 5.0] + [-9.0] * 4), torch.tensor([0.0, 2.0, 5.0] + [9.0] * 4)
    q01, q99 = torch.tensor([0.0, 0.0, 5.0] + [-1.0] * 4), torch.tensor([0.0, 0.0, 5.0] + [1.0] * 4)
    stats = {contract.ACTION: {"q01": q01, "q99": q99, "min": low, "max": high}}
    preprocess, postprocess = make_posa_vla_pre_post_processors(config, stats)
    action = torch.tensor([[0.0, 2.0, 5.0, 1.0, 0.0, -1.0, 3.0]])
    normalised = preprocess({**observation(batch=1), contract.ACTION: action})[contract.ACTION]
    assert normalised[0].tolist() == [-1.0, 1.0, -1.0, 1.0, 0.0, -1.0, 3.0]
    torch.testing.assert_close(postprocess(normalised), action)
    assert torch.equal(stats[contract.ACTION]["q01"], q01)
