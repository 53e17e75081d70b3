"""LeRobot's own commands run the plugin, offline, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_dataset import make_dataset

TRAIN = [sys.executable, "-m", "lerobot.scripts.lerobot_train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
EVAL = [sys.executable, "-m", "lerobot.scripts.lerobot_eval"]
SMALL = [f"--policy.{flag}" for flag in ("width=32", "depth=1", "vision_width=24", "vision_blocks=1")]


def run(command: list[str], ok: bool = True) -> str:
    """Output of a command that must succeed (or, with ok=False, fail)."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=300
    )
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == ok, output[-4000:]
    return output


def train_flags(dataset: Path, output: Path, **extra: object) -> list[str]:
    options = {
        "policy.type": "posa_vla",
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "policy.anchor_steps": 5,
        "policy.scheduler_warmup_steps": 1,
        "dataset.repo_id": "local/toy",
        "dataset.root": dataset,
        "output_dir": output,
        "steps": 20,
        "batch_size": 4,
        "num_workers": 0,
        "save_freq": 10,
        "log_freq": 5,
        "env_eval_freq": 0,
        **extra,
    }
    return [f"--{key}={value}" for key, value in options.items()] + SMALL


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "toy", image_size=128)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """20 steps, saved after 10 and 20; stage 2 begins at step 5."""
    output = tmp_path_factory.mktemp("train") / "run"
    log = run([*TRAIN, *train_flags(dataset, output)])
    assert "action_loss" in log
    return output / "checkpoints"


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "pretrained_model" / "model.safetensors").read_bytes()


def test_training_writes_complete_checkpoints_and_resumes_bit_exactly(trained, tmp_path):
    uninterrupted = weights(trained / "000020")
    assert weights(trained / "000010") != uninterrupted
    config = trained / "000010" / "pretrained_model" / "train_config.json"
    run([*TRAIN, f"--config_path={config}", "--resume=true", f"--output_dir={tmp_path / 'resumed'}"])
    assert weights(tmp_path / "resumed" / "checkpoints" / "000020") == uninterrupted


@pytest.mark.slow
def test_two_processes_train_one_policy(dataset, tmp_path):
    flags = train_flags(dataset, tmp_path / "two", steps=8, save_freq=8)
    log = run([*TORCHRUN, "-m", TRAIN[-1], *flags])
    assert "Effective batch size: 4 x 2 = 8" in log
    assert weights(tmp_path / "two" / "checkpoints" / "000008")


def test_lerobot_evaluates_a_checkpoint_on_the_tabletop(trained, tmp_path):
    policy = trained / "000020" / "pretrained_model"
    run(
        [
            *EVAL,
            f"--policy.path={policy}",
            "--policy.device=cpu",
            "--env.type=posa_tabletop",
            "--env.episode_length=12",
            "--eval.n_episodes=2",
            "--eval.batch_size=1",
            f"--output_dir={tmp_path / 'eval'}",
        ]
    )
    info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
    assert info["overall"]["n_episodes"] == 2
