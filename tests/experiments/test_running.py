"""Running cells with a fake command: what is repeated, what is shared, what a kill or a failure leaves."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from experiment_content import CONTENT

from posa_vla.errors import PosaError
from posa_vla.experiments.processes import Stopped, run_logged, tail
from posa_vla.experiments.store import BLOCKED, DONE, FAILED, STALE, STARTED, try_lock


def result(project, cell, name="toy"):
    return json.loads((project.output / name / cell / "result.json").read_text())


def test_all_cells_run_once_and_share_one_dataset(project):
    assert project.run() == 0
    assert project.calls() == ["record", "label", "cache", *["train", "eval"] * 4]
    assert project.run() == 0
    assert len(project.calls()) == 11
    full = result(project, "full-tabletop-0")
    assert full["config"]["train"]["steps"] == "8" and full["config"]["seed"] == 0
    assert full["commands"]["train"].startswith("posa-vla train --dataset.root=")
    assert set(full["commands"]) == set(full["seconds"]) == {"record", "label", "cache", "train", "eval"}
    assert full["dataset"] == "f00" and full["policy"]["numbers"] == 6
    assert full["training"]["precision"] == "fp32"
    assert full["training"]["steps"] == 8 and full["training"]["curve"][-1]["loss"] == 0.125
    assert full["conditions"][0]["success"]["count"] == 3 and len(full["episodes"]["rows"]) == 8


def test_side_by_side_gives_the_same_and_one_recording(project):
    assert project.run(workers=3) == 0
    assert project.calls().count("record") == 1 and project.calls().count("eval") == 4
    assert result(project, "blind-tabletop-1")["conditions"][0]["success"]["count"] == 1
    assert "--threads=1" in project.calls_file.read_text()


def test_frames_in_the_devices_memory_do_not_change_what_a_cell_is(project):
    assert project.run(only="full", seeds="0", resident=True) == 0
    assert "--resident=true" in project.calls_file.read_text()
    assert project.folder("full-tabletop-0").state() == DONE
    assert project.run(only="full", seeds="0") == 0 and project.calls().count("train") == 1


def test_our_policies_integrate_as_the_papers_unless_the_file_says_otherwise(project):
    fewer, act = {"train": {"policy.integration_steps": 2}}, {"train": {"policy.type": "act"}}
    project.write(variants={"full": {}, "fewer": fewer, "act": act}, seeds=[0])
    assert project.run() == 0
    words = {
        name: result(project, f"{name}-tabletop-0")["commands"]["train"].split() for name in ("full", "fewer", "act")
    }
    steps = {name: [word for word in words[name] if "integration_steps" in word] for name in words}
    given = "--policy.integration_steps="
    assert steps == {"full": [f"{given}10"], "fewer": [f"{given}2"], "act": []}


def test_a_failed_cell_is_reported_and_does_not_stop_the_others(project, capsys):
    broken = {"train": {"fail": True}}
    project.write(variants={"full": {}, "broken": broken}, seeds=[0])
    assert project.run() == 1
    assert project.folder("full-tabletop-0").state() == DONE
    failed = json.loads((project.output / "toy" / "broken-tabletop-0" / "failed.json").read_text())
    assert (failed["stage"], failed["status"], failed["log"][-2:]) == ("train", 3, ["step 2", "loss is nan"])
    assert "broken-tabletop-0 failed: train ended with status 3: loss is nan" in capsys.readouterr().err
    assert project.run(retry_failed=False) == 0 and project.calls().count("train") == 2
    assert project.run() == 1 and project.calls().count("train") == 3


def test_datasets_that_only_their_labels_tell_apart_share_one_recording(project):
    project.write(datasets={"near": {"label": {"k": 1}}, "far": {"label": {"k": 2}}}, seeds=[0])
    assert project.run(only="full", workers=2) == 0
    assert sorted(project.calls()) == ["cache", "cache", "eval", "eval", "label", "label", "record", "train", "train"]
    near, far = (project.folder(f"full-{name}-0") for name in ("near", "far"))
    assert near.dataset != far.dataset
    results = [json.loads((folder.path / "result.json").read_text()) for folder in (near, far)]
    assert len({result["commands"]["record"] for result in results}) == 1


def test_a_dataset_that_cannot_be_recorded_is_tried_once_per_start(project):
    project.write(record={"episodes": 3, "fail": True})
    for start in (1, 2):
        assert project.run() == 1
        assert project.calls() == ["record"] * start
    assert project.folder("blind-tabletop-1").state() == FAILED


def test_sigterm_stops_the_training_and_the_next_start_resumes_it(project):
    project.write(variants={"full": {"train": {"wait": True}}}, seeds=[0])
    folder = project.output / "toy" / "full-tabletop-0"

    def stop_when_it_trains():
        deadline = time.monotonic() + 20
        while not (folder / "train" / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=stop_when_it_trains)
    killer.start()
    assert project.run() == 128 + signal.SIGTERM
    killer.join()
    assert project.folder("full-tabletop-0").state() == STARTED
    assert (folder / "train" / "checkpoints" / "000005").is_dir()
    assert project.run() == 0
    assert project.calls() == ["record", "label", "cache", "train", "train", "eval"]
    assert "--resume=true" in project.calls_file.read_text().splitlines()[4]
    stages = json.loads((folder / "stages.json").read_text())
    assert stages["train"]["attempts"] == 2


def test_a_kill_between_two_stages_repeats_neither(project):
    assert project.run(only="full", seeds="0") == 0
    folder = project.output / "toy" / "full-tabletop-0"
    for name in ("result.json", "eval"):
        path = folder / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    assert project.run(only="full", seeds="0") == 0
    assert project.calls().count("train") == 1 and project.calls().count("eval") == 2


def test_changed_options_make_a_cell_stale_and_only_what_changed_runs_again(project):
    assert project.run(seeds="0") == 0
    project.write(eval=CONTENT["eval"] | {"split": "val"})
    assert project.folder("full-tabletop-0").state() == STALE
    with pytest.raises(PosaError, match="full-tabletop-0, blind-tabletop-0 have changed"):
        project.run()
    assert project.calls().count("eval") == 2
    assert project.run(seeds="0", rerun_stale=True) == 0
    assert project.calls().count("train") == 2 and project.calls().count("eval") == 4
    assert result(project, "full-tabletop-0")["config"]["eval"]["split"] == "val"
    project.write(train=CONTENT["train"] | {"batch_size": 5})
    assert project.run(seeds="0", only="full", rerun_stale=True) == 0
    assert project.calls().count("train") == 3 and project.calls().count("record") == 1
    assert "--resume" not in project.calls_file.read_text()


def test_policies_of_another_experiment_are_evaluated_without_training(project, capsys):
    project.write(
        "speed",
        policies_from="toy",
        reference="often",
        variants={"often": {"policy": "full", "eval": {"n_action_steps": 1}}},
        **dict.fromkeys(("record", "label", "train", "seeds")),
    )
    assert project.run("speed") == 1
    assert project.folder("often-tabletop-0", "speed").state() == BLOCKED
    assert "cannot run before full-tabletop-0 is trained: posa-vla experiment toy" in capsys.readouterr().err
    assert project.run(only="full") == 0 and project.run("speed") == 0
    assert project.calls().count("train") == 2 and project.calls().count("eval") == 4
    often = result(project, "often-tabletop-1", "speed")
    assert often["policy"]["n_action_steps"] == 1 and often["training"] is None
    assert "toy/full-tabletop-1/train" in often["commands"]["eval"]
    project.write(train=CONTENT["train"] | {"steps": 9})
    assert project.folder("often-tabletop-1", "speed").state() == STALE


def test_what_another_experiment_trained_with_the_same_options_is_not_trained_again(project, capsys):
    peers = {"full": {}, "longer": {"train": {"steps": 9}}}
    project.write("peers", variants=peers, seeds=[1], eval={"solved": 1, "split": "val"})
    assert project.run() == 0 and project.run("peers") == 0
    assert project.calls().count("train") == 4 + 1 and project.calls().count("eval") == 4 + 2
    assert "full-tabletop-1: trained already, as toy/full-tabletop-1" in capsys.readouterr().out
    ours, theirs = result(project, "full-tabletop-1", "peers"), result(project, "full-tabletop-1")
    assert ours["training"] == theirs["training"] and ours["commands"]["train"] == theirs["commands"]["train"]
    assert "peers/full-tabletop-1/train" in ours["commands"]["eval"], "it evaluates a copy of its own"
    shutil.rmtree(project.output / "toy")
    (project.output / "peers" / "full-tabletop-1" / "result.json").unlink()
    assert project.run("peers") == 0 and project.calls().count("train") == 5


def test_a_training_that_has_not_ended_is_not_taken_over(project):
    assert project.run(only="full", seeds="0") == 0
    stages = project.output / "toy" / "full-tabletop-0" / "stages.json"
    content = json.loads(stages.read_text())
    content["train"]["done"] = False
    stages.write_text(json.dumps(content))
    project.write("peers", variants={"full": {}}, seeds=[0])
    assert project.run("peers") == 0 and project.calls().count("train") == 2


def test_a_training_whose_checkpoint_was_deleted_is_done_again_where_it_is_needed(project):
    assert project.run(only="full", seeds="0") == 0
    shutil.rmtree(project.output / "toy" / "full-tabletop-0" / "train")
    assert not project.folder("full-tabletop-0").is_trained()
    project.write("peers", variants={"full": {}}, seeds=[0])
    assert project.run("peers") == 0 and project.calls().count("train") == 2


def test_other_weights_behind_the_name_that_training_starts_from_make_a_cell_stale(project):
    origin = project.root / "mine"
    origin.mkdir()
    (origin / "model.safetensors").write_bytes(b"old")
    project.write(train=CONTENT["train"] | {"policy.path": str(origin)})
    assert project.run(only="full", seeds="0") == 0
    assert result(project, "full-tabletop-0")["origin"] == hashlib.sha256(b"old").hexdigest()
    assert project.folder("full-tabletop-0").state() == DONE and project.folder("full-tabletop-0").is_trained()
    (origin / "model.safetensors").write_bytes(b"new")
    assert project.folder("full-tabletop-0").state() == STALE and not project.folder("full-tabletop-0").is_trained()
    assert project.run(only="full", seeds="0", rerun_stale=True) == 0 and project.calls().count("train") == 2


def test_a_running_command_keeps_the_lock_after_its_runner_is_gone(tmp_path):
    with try_lock(tmp_path) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    with try_lock(tmp_path) as lock:
        assert lock is None
    child.communicate(b"\n")
    with try_lock(tmp_path) as lock:
        assert lock is not None


def test_what_a_stopped_command_leaves_behind_is_killed(tmp_path):
    """The command ends on SIGTERM, its own child ignores it."""
    stubborn = "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    code = f"import subprocess,sys; p = subprocess.Popen([sys.executable, '-c', {stubborn!r}]); print(p.pid); p.wait()"
    log = tmp_path / "log"
    with pytest.raises(Stopped):
        run_logged([sys.executable, "-uc", code], log, os.environ, lambda: log.read_bytes().count(b"\n") >= 3)
    pid = int(next(line for line in tail(log) if line.isdigit()))
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid):
    """Running, and not merely waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
