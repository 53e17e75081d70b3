"""The shipped policy: small, complete, and LeRobot's own loader runs it."""

from pathlib import Path

import numpy as np
import torch
from lerobot.policies.factory import make_pre_post_processors

from posa_vla import reference
from posa_vla.demo import DemoConfig, stages
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy

MEBIBYTE = 2**20


def test_it_is_small():
    assert sum(path.stat().st_size for path in reference.FOLDER.iterdir()) < 16 * MEBIBYTE


def test_its_name_stands_for_it_unless_there_is_such_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reference.resolve(Path(reference.NAME)) == reference.FOLDER
    assert reference.resolve(Path("other")) == Path("other")
    Path(reference.NAME).mkdir()
    assert reference.resolve(Path(reference.NAME)) == Path(reference.NAME)


def test_it_acts_on_what_its_sentence_says():
    policy = PosaVLAPolicy.from_pretrained(reference.FOLDER)
    preprocess, postprocess = make_pre_post_processors(policy.config, pretrained_path=str(reference.FOLDER))
    rng = np.random.default_rng(0)
    images = {
        f"observation.images.{camera}": torch.from_numpy(rng.random((1, 3, 128, 128), np.float32))
        for camera in ("head", "wrist")
    }
    chunks = []
    for task in ("pick up the red cube", "pick up the red cube", "pick up the blue lemon"):
        batch = preprocess({**images, "observation.state": torch.zeros(1, 8), "task": [task]})
        noise = torch.zeros(1, policy.config.chunk_size, 7)
        chunks.append(postprocess(policy.predict_action_chunk(batch, noise)))
    assert chunks[0].shape == (1, 8, 7) and bool(torch.isfinite(chunks[0]).all())
    assert torch.equal(chunks[0], chunks[1]) and not torch.equal(chunks[0], chunks[2])


def test_the_demo_and_its_readme_name_the_same_objects(tmp_path):
    (stage,) = stages(DemoConfig(output=tmp_path))
    readme = (Path(reference.__file__).parent / "README.md").read_text()
    assert all(argument in readme for argument in stage.arguments if argument.startswith(("--categories", "--colours")))
