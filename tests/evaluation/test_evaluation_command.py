"""The command: what it writes, resumes and refuses."""

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess

import av
import numpy as np
import pytest
from evaluation_fakes import fake_setup

from posa_vla.errors import PosaError
from posa_vla.evaluation import command, films, provenance
from posa_vla.evaluation.command import EvalConfig, PolicyArgs, episodes_by_condition
from posa_vla.evaluation.metrics import summarise
from posa_vla.evaluation.records import ERROR, FAILURE, SUCCESS, EpisodeRecord, read_records, to_json
from posa_vla.sim.conditions import CONDITIONS


def config_for(evaluation, **changes) -> EvalConfig:
    return dataclasses.replace(evaluation.config, **changes)


def test_results_hold_every_episode_and_how_they_came_about(evaluation):
    written = json.loads((evaluation.folder / "results.json").read_text())
    keys = [(r["condition"], r["seed"]) for r in written["records"]]
    assert keys == [("basic", seed) for seed in range(5, 14)] + [("lights", seed) for seed in range(5, 8)]
    assert [r["outcome"] for r in written["records"]].count(ERROR) == 1
    assert written["summary"]["conditions"][0]["episodes"] == 8
    assert written["summary"]["conditions"][0]["errors"] == 1
    assert written["command"] == "posa-vla eval --seed=5"
    assert written["policy_name"].endswith("/000300")
    assert {"torch", "lerobot", "python"} <= set(written["versions"])
    assert {"cpu", "cores"} <= set(written["machine"])
    assert len(written["policy"]["sha256"]) == 64


def test_films_are_short_small_reproduced_and_decodable(evaluation):
    shown = evaluation.results["films"]
    assert [f["condition"] for f in shown].count("basic") == 2
    assert {f["outcome"] for f in shown if f["condition"] == "basic"} == {SUCCESS, FAILURE}
    assert all(f["reproduced"] for f in shown)
    for film in shown:
        path = evaluation.folder / film["video"]
        assert path.stat().st_size < 300_000
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == film["steps"] + 1 + 12  # every step, the last observation, 0.6 s of hold
        assert np.std(frames[0]) > 5


def test_a_finished_evaluation_runs_nothing_again(evaluation, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(evaluation.folder, folder)

    def none_expected(jobs, *_):
        assert [job for job in jobs if job.seed != 13] == []  # only the error is tried again
        return iter([EpisodeRecord(job.condition, job.seed, ERROR, message="again") for job in jobs])

    monkeypatch.setattr(command, "run_episodes", none_expected)
    monkeypatch.setattr(films, "run_episodes", none_expected)
    again = command.run(config_for(evaluation, output=folder), "posa-vla eval --seed=5", fake_setup())
    assert again["summary"] == evaluation.results["summary"]
    error = read_records(folder / "episodes.jsonl")["basic", 13]
    assert error.message == "again"


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"n_action_steps": 3}, "policy"), ({"split": "val"}, "split"), ({"attention_every": 4}, "attention_every")],
)
def test_episodes_of_another_evaluation_are_never_mixed_in(evaluation, changes, named):
    before = (evaluation.folder / "episodes.jsonl").read_bytes()
    with pytest.raises(PosaError, match=f"other {named}"):
        command.run(config_for(evaluation, **changes), "posa-vla eval", fake_setup())
    with pytest.raises(PosaError, match="other env"):
        command.run(
            evaluation.config, "posa-vla eval", fake_setup(env=dataclasses.replace(fake_setup().env, image_size=96))
        )
    assert (evaluation.folder / "episodes.jsonl").read_bytes() == before


def test_a_folder_without_episodes_may_change_its_mind(evaluation, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_episodes", lambda *_: (_ for _ in ()).throw(PosaError("misfit")))
    for split in ("val", "eval"):
        with pytest.raises(PosaError, match="misfit"):
            command.run(config_for(evaluation, output=tmp_path, split=split), "posa-vla eval", fake_setup())
    assert json.loads((tmp_path / "evaluation.json").read_text())["split"] == "eval"


def test_changed_weights_are_another_evaluation(evaluation, tmp_path):
    changed = tmp_path / "pretrained_model"
    changed.mkdir()
    (changed / "config.json").write_text('{"type": "fake"}')
    (changed / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(PosaError, match="other policy"):
        command.run(config_for(evaluation, policy=PolicyArgs(changed)), "posa-vla eval", fake_setup())


def test_conditions_and_their_numbers_are_parsed(tmp_path):
    def parsed(text):
        return episodes_by_condition(EvalConfig(PolicyArgs(tmp_path), tmp_path, text, episodes=50))

    assert parsed(None) == dict.fromkeys(CONDITIONS, 50)
    assert parsed("basic:200, lights") == {"basic": 200, "lights": 50}
    with pytest.raises(PosaError) as caught:
        parsed("basic,dark")
    assert all(name in str(caught.value) for name in CONDITIONS)
    with pytest.raises(PosaError, match="NAME:EPISODES"):
        parsed("basic:0")
    with pytest.raises(PosaError, match="--conditions names basic twice"):
        parsed("basic:5,lights,basic:3")


@pytest.mark.parametrize("field", ["episodes", "workers", "seed", "videos_per_condition"])
def test_senseless_numbers_are_refused_before_anything_is_written(tmp_path, checkpoint, field):
    config = EvalConfig(PolicyArgs(checkpoint), tmp_path / "out", **{field: -1})
    with pytest.raises(PosaError, match=f"--{field}"):
        command.run(config, "posa-vla eval", fake_setup())
    assert not (tmp_path / "out").exists()


def test_a_missing_checkpoint_is_one_sentence(tmp_path, capsys):
    from posa_vla.cli import main

    assert main(["eval", f"--policy.path={tmp_path}/nothing", f"--output={tmp_path}/out"]) == 2
    assert "found no config.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_films_are_half_successes_and_spread_over_tasks_and_reasons():
    def episodes(outcome, seeds, **known):
        return [EpisodeRecord("basic", s, outcome, task=f"task {s // 2}", **known) for s in seeds]

    records = episodes(SUCCESS, range(6)) + episodes(FAILURE, range(6, 9)) + episodes(FAILURE, [9], wrong_object="can")
    chosen = films.choose(records, 4)
    assert [r.seed for r in chosen] == [0, 2, 6, 9]
    assert [r.outcome for r in films.choose(records[:6], 4)] == [SUCCESS] * 4
    assert [r.outcome for r in films.choose(records[5:], 4)] == [SUCCESS] + [FAILURE] * 3
    assert films.choose(records, 0) == []
    assert films.choose([EpisodeRecord("basic", 0, ERROR)], 4) == []


def test_the_terminal_says_what_was_counted():
    half = {"rate": 0.5, "low": 0.2, "high": 0.8}
    row = {"condition": "basic", "episodes": 8, "errors": 2, "success": half, "stages": {"picked": half}}
    text = command.brief({"summary": {"conditions": [row]}})
    assert text == "basic         50.0 % [20.0, 80.0] success of 8, 2 errors (not counted)"
    long = row | {"stages": {"opened": {"rate": 0.875}, "placed": half}}
    assert command.brief({"summary": {"conditions": [long]}}) == text + "; opened 87.5 %, placed 50.0 %"
    none = {"rate": None, "low": 0.0, "high": 1.0}
    empty = long | {"episodes": 0, "success": none, "stages": {}}
    assert "no episode ended" in command.brief({"summary": {"conditions": [empty]}})


def test_two_evaluations_at_once_do_not_share_a_folder(evaluation, tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(PosaError, match="another process is evaluating into"):
        command.run(config_for(evaluation, output=tmp_path), "posa-vla eval", fake_setup())
    os.close(descriptor)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episode_length": -3}, "episode_length of at least 1, found -3"),
        ({"episode_length": 0}, "episode_length of at least 1, found 0"),
        ({"num_distractors": -1}, "num_distractors of at least 0, found -1"),
        ({"image_size": 8}, "image_size must lie in 16 … 2048 pixels, found 8"),
        ({"categories": "cann"}, "unknown category 'cann'"),
        ({"seed": 10**12}, "the seed must lie in"),
    ],
)
def test_options_that_no_scene_has_are_refused_before_anything_is_written(tmp_path, checkpoint, changes, message):
    with pytest.raises(PosaError, match=message):
        command.run(EvalConfig(PolicyArgs(checkpoint), tmp_path / "out", **changes), "posa-vla eval")
    assert not (tmp_path / "out").exists()


def test_an_evaluation_with_an_error_is_no_success_for_it_is_not_whole(tmp_path, checkpoint, monkeypatch, capsys):
    from posa_vla.cli import main

    def run(config, text):
        records = [EpisodeRecord("basic", 0, FAILURE), EpisodeRecord("basic", 1, ERROR, message="no OpenGL")]
        return {"summary": summarise(records), "records": [to_json(record) for record in records]}

    monkeypatch.setattr(command, "run", run)
    assert main(["eval", f"--policy.path={checkpoint}", f"--output={tmp_path}"]) == 2
    assert "1 of 2 episodes ended in an error and count nowhere, the first in no OpenGL" in capsys.readouterr().err


def test_the_revision_is_not_that_of_a_project_the_environment_lies_in(tmp_path, monkeypatch):
    def git(*words):
        identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    installed = tmp_path / ".venv/provenance.py"
    installed.parent.mkdir()
    installed.touch()
    git("init")
    git("commit", "--allow-empty", "-m", "theirs")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.git_revision() is None
    git("add", "--force", ".")
    git("commit", "-m", "ours")
    assert provenance.git_revision() is not None
