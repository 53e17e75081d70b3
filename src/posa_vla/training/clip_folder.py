"""A small CLIP with random weights in a folder, for policies that read their encoders from one.

LeRobot's ``multi_task_dit`` loads both towers and the tokenizer with ``from_pretrained``; training it from scratch
therefore starts from a folder of random weights.
"""

import json
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from posa_vla.errors import PosaError
from posa_vla.training.peer_config import HEAD_WIDTH, ClipConfig

BOS, EOS, END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "</w>"


def make_clip_folder(folder: Path, config: ClipConfig, image_size: int, sentences: Sequence[str], seed: int) -> Path:
    """Write `folder`, which both CLIP towers and the tokenizer load from; equal arguments give equal weights.

    Args:
        folder: new folder.
        config: sizes.
        image_size: side of the square images that the image tower sees, in pixels.
        sentences: instructions whose words become one token each.
        seed: of the random weights.
    """
    if image_size % config.patch_size:
        raise PosaError(
            f"images of {image_size} pixels do not divide into patches of {config.patch_size}: choose another "
            "--peer.clip.patch_size or crop"
        )
    tokenizer = word_tokenizer(sentences)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        CLIPModel(_sizes(config, image_size, tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _sizes(config: ClipConfig, image_size: int, tokenizer: CLIPTokenizer) -> CLIPConfig:
    def tower(width: int, layers: int) -> dict[str, int]:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // HEAD_WIDTH,
        }

    text = tower(config.text_width, config.text_layers) | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,  # its features are the sentence's
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_factor": config.text_initializer_factor,
    }
    vision = tower(config.width, config.layers) | {"image_size": image_size, "patch_size": config.patch_size}
    return CLIPConfig.from_dict({"text_config": text, "vision_config": vision, "projection_dim": HEAD_WIDTH})


def word_tokenizer(sentences: Sequence[str]) -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of every byte and the words of `sentences`; other words are spelled out."""
    empty = CLIPTokenizer(vocab={BOS: 0, EOS: 1}, merges=[])
    trained = empty.train_new_from_iterator(sorted(set(sentences)), vocab_size=10_000, show_progress=False)
    merges = [tuple(pair) for pair in json.loads(trained.backend_tokenizer.to_str())["model"]["merges"]]
    letters = sorted(ByteLevel.alphabet())
    # Trained vocabularies lack the letters that they did not meet; such a letter would end the sentence.
    words = [BOS, EOS, *letters, *(letter + END_OF_WORD for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]  # says list[str], takes pairs


@contextmanager
def quiet_transformers():
    """Without transformers' progress bars and its report that one tower does not use the other's weights."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
