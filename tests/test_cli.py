"""The command line: help, unknown names, wrong types; and the contract's agreement with LeRobot."""

import os
import signal
import subprocess
import sys
import time

import pytest
from lerobot.utils import constants

from posa_vla import contract, demo
from posa_vla.cli import COMMANDS, main
from posa_vla.demo import DemoConfig, stages


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["labell"], "choose one of record, label"),
        (["bench", "speed"], "choose one of anchors, cache, calibrate, inspect, interactions, model, peers, rigs, sim"),
        (["record", "--output=unused", "--episodes=many"], "many"),
        (["eval", "--policy.path=nowhere", "--output=unused"], "nowhere"),
        (["label", "--rig=tabletop", "--output=unused", "--num_workers=0"], "--num_workers must be 1 or more, got 0"),
        (
            ["label", "--rig=tabletop", "--output=unused", "--merge_seconds=nan"],
            "a number of seconds, 0 or more, got nan",
        ),
        (["demo", f"--output={__file__}"], "File exists"),
        (["bench", "model", "--repeats=0"], "repeats must be at least 1"),
        (["bench", "sim", "--random_steps=0"], "random_steps and processes must be at least 1"),
        (["bench", "sim", "--family=push", "--hidden_episodes=2"], "the fingers are closed throughout"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(argv, expected, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert expected in error and "Traceback" not in error


def test_a_tilde_after_a_flag_is_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["label", "--dataset.root=~/absent", "--rig=tabletop", "--output=~/out"]) == 2
    assert f"{tmp_path}/absent is no LeRobotDataset" in capsys.readouterr().err


def test_bench_helps(capsys):
    assert main(["bench", "--help"]) == 0
    assert "interactions" in capsys.readouterr().out


def test_the_demo_repeats_a_stage_only_if_its_output_is_gone(tmp_path, monkeypatch):
    runs = []

    def run(stage):
        runs.append(stage.name)
        stage.output.mkdir()
        return 1.0

    monkeypatch.setattr(demo, "run", run)
    for _ in range(2):
        demo.main([f"--output={tmp_path}"])
    assert runs == ["eval"]
    (tmp_path / "reference").rmdir()
    demo.main([f"--output={tmp_path}"])
    assert runs == ["eval", "eval"]


def test_a_quick_demo_leaves_the_folders_of_the_whole_one_alone(tmp_path, monkeypatch):
    outputs = {}
    for size in ("quick", "from_scratch"):
        monkeypatch.setattr(demo, "run", lambda stage, size=size: outputs.setdefault(size, stage.output) and 1.0)
        demo.main([f"--output={tmp_path}", f"--{size}=true"])
    assert outputs == {"quick": tmp_path / "quick" / "demonstrations", "from_scratch": tmp_path / "demonstrations"}


SAVES = """#!{python}
import pathlib, signal, time
def stop(*_):
    time.sleep(1)  # longer than subprocess.run would wait
    pathlib.Path("saved").touch()
    raise SystemExit(130)
signal.signal(signal.SIGINT, stop)
pathlib.Path("ready").touch()
time.sleep(60)
"""
INTERRUPTED = """
import sys
from pathlib import Path
from posa_vla import demo
sys.executable = "./command"
demo.run(demo.Stage("train", (), Path("train")))
"""


def test_an_interrupted_demo_lets_its_command_save(tmp_path):
    command = tmp_path / "command"
    command.write_text(SAVES.format(python=sys.executable))
    command.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    process.wait()
    assert (tmp_path / "saved").exists()


def test_the_demo_runs_the_shipped_policy(tmp_path):
    (stage,) = stages(DemoConfig(output=tmp_path))
    assert stage.command()[:2] == ["eval", "--policy.path=reference"]
    assert stage.output not in {later.output for later in stages(DemoConfig(output=tmp_path, from_scratch=True))}


@pytest.mark.parametrize("size", ["from_scratch", "quick"])
def test_the_demo_runs_every_stage_on_one_object_set_and_never_trains_on_eval(tmp_path, size):
    plan = {stage.name: stage.arguments for stage in stages(DemoConfig(output=tmp_path, **{size: True}))}
    assert list(plan) == ["record", "label", "cache", "train", "eval"]
    objects = [argument for argument in plan["record"] if argument.startswith(("--categories", "--colours"))]
    assert set(objects) <= set(plan["eval"]) and len(objects) == 2
    assert not any("split" in argument for arguments in plan.values() for argument in arguments)


def test_the_contract_uses_lerobots_keys():
    assert constants.ACTION == contract.ACTION
    assert constants.OBS_STATE == contract.STATE
    assert contract.image_key("head") == f"{constants.OBS_IMAGES}.head"
    assert constants.OBS_LANGUAGE_TOKENS == contract.LANGUAGE_TOKENS
    assert constants.OBS_LANGUAGE_ATTENTION_MASK == contract.LANGUAGE_MASK


def test_a_reader_that_leaves_early_is_no_error():
    """As ``posa-vla … | head`` does."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "posa_vla.cli", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.stderr, done.returncode) == ("", 141)


def test_ctrl_c_is_one_sentence(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("posa_vla.data.labelling.main", interrupted)
    assert main(["label"]) == 130
    assert capsys.readouterr().err == "posa-vla label: interrupted\n"
