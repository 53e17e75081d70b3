"""One small evaluation of the fakes, films and report included, shared by the tests that look at its output."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from evaluation_fakes import fake_setup

from posa_vla.evaluation import command
from posa_vla.evaluation.command import EvalConfig, PolicyArgs


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """Files to take fingerprints of; the fakes do not read them."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "000300" / "pretrained_model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"type": "fake"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory, checkpoint) -> SimpleNamespace:
    """Seeds 5 to 13 in two conditions; seed 13 raises in the environment."""
    folder = tmp_path_factory.mktemp("evaluation")
    config = EvalConfig(PolicyArgs(checkpoint), folder, "basic:9,lights:3", seed=5, videos_per_condition=2)
    results = command.run(config, "posa-vla eval --seed=5", fake_setup())
    return SimpleNamespace(folder=folder, config=config, results=results)
