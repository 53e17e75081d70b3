"""The whole command on the real suite, with policies that have learned nothing."""

import dataclasses
import json

import pytest
from policy_folders import act_config, posa_config, save_policy

from posa_vla.cli import main
from posa_vla.errors import PosaError
from posa_vla.evaluation.command import EPISODES, HEADER, _same_evaluation
from posa_vla.evaluation.episode import expert_motion
from posa_vla.evaluation.records import ERROR, EnvOptions, Job
from posa_vla.evaluation.rollout import Setup, Worker, evaluate, make_expert, make_jobs, make_tabletop
from posa_vla.evaluation.runner import PolicySource

SHORT = EnvOptions(image_size=64, episode_length=12)


@pytest.fixture(scope="module")
def posa_folder(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("posa"), posa_config())


def test_the_command_end_to_end(posa_folder, tmp_path, capfd):
    flags = [
        "--conditions=basic:2,lights:1",
        "--videos_per_condition=1",
        "--episode_length=12",
        "--policy.device=cpu",
        "--workers=1",
    ]
    assert main(["eval", f"--policy.path={posa_folder}", f"--output={tmp_path / 'out'}", *flags]) == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [record["message"] for record in results["records"]] == [None] * 3
    assert results["env"]["image_size"] == 64  # the checkpoint's
    assert [row["camera"] for row in results["summary"]["anchors"]["rows"]] == ["head", "head", "wrist", "wrist"]
    assert results["summary"]["anchors"]["rows"][0]["first"]["samples"] == 3
    assert [film["reproduced"] for film in results["films"]] == [True, True]
    assert len((tmp_path / "out/episodes.csv").read_text().splitlines()) == 4  # names, three episodes
    assert (tmp_path / "out/report.html").stat().st_size > 50_000
    assert "success of 2" in capfd.readouterr().out


def test_a_long_task_end_to_end_and_none_of_it_in_the_folder_of_another(posa_folder, tmp_path, capfd):
    flags = ["--conditions=basic:1", "--videos_per_condition=0", "--policy.device=cpu", "--workers=1"]
    command = ["eval", f"--policy.path={posa_folder}", f"--output={tmp_path / 'out'}", *flags, "--episode_length=8"]
    assert main([*command, "--family=box"]) == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert (results["env"]["family"], results["task"]["family"]) == ("box", "box")
    assert results["records"][0]["stages"] == {"opened": False, "picked": False, "placed": False}
    assert results["summary"]["pooled"]["stages"]["opened"]["rate"] == 0
    assert "box" in results["records"][0]["task"]
    assert "opened 0.0 %" in capfd.readouterr().out
    assert "take the lid off a box" in (tmp_path / "out/report.html").read_text()
    assert main([*command, "--family=place"]) == 2
    assert "another evaluation (other env)" in capfd.readouterr().err
    assert main([*command, "--family=juggle"]) == 2
    assert "unknown task family" in capfd.readouterr().err


def test_an_evaluation_begun_before_there_were_families_goes_on(tmp_path):
    now = {"policy": {"path": "here"}, "env": dataclasses.asdict(EnvOptions(episode_length=150))}
    before = {"policy": {"path": "here"}, "env": {k: v for k, v in now["env"].items() if k != "family"}}
    (tmp_path / EPISODES).write_text("")
    (tmp_path / HEADER).write_text(json.dumps(before))
    _same_evaluation(tmp_path / HEADER, now)
    now["env"]["family"] = "box"
    with pytest.raises(PosaError, match="another evaluation"):
        _same_evaluation(tmp_path / HEADER, now)


def test_the_expert_solves_a_scene_unseen_and_leaves_the_eyes_open():
    env = make_tabletop("basic", "eval", EnvOptions(image_size=64))
    motion = expert_motion(env, make_expert, seed=3)
    assert motion.steps < 100
    assert 0.2 < motion.path_length < 2
    observation, _ = env.reset(seed=3)
    assert min(image.std() for image in observation["pixels"].values()) > 10
    env.close()


def test_an_episode_alone_equals_the_same_among_others(posa_folder):
    setup = Setup(PolicySource(posa_folder, "cpu"), env=SHORT)
    worker = Worker(setup)
    among = [worker(job) for job in make_jobs(["basic"], 3, seed=20)]
    worker.close()
    alone = Worker(setup)(Job("basic", 22))
    assert ERROR not in {record.outcome for record in among}
    assert alone.same_episode(among[2])
    assert alone.anchors == among[2].anchors
    assert not among[1].same_episode(among[2])


def test_evaluate_runs_policies_that_know_no_anchors(tmp_path):
    records = evaluate(save_policy(tmp_path / "act", act_config()), ("basic",), 2, workers=1, env_options=SHORT)
    assert [(r.seed, r.outcome, r.anchors) for r in records] == [(0, "failure", None), (1, "failure", None)]
    assert records[0].motion.steps == 12
    with pytest.raises(PosaError, match="choose one of"):
        evaluate(tmp_path / "act", ("dark",), 1)
    with pytest.raises(PosaError, match="choose one of"):
        evaluate(tmp_path / "act", ("basic",), 1, split="test")


def first_answer(folder, **options):
    return str(Worker(Setup(PolicySource(folder, "cpu"), env=EnvOptions(**options)))(Job("basic", 0)))


def test_misfits_are_refused(posa_folder, tmp_path):
    assert "--image_size=64" in first_answer(posa_folder, image_size=96)
    other = save_policy(tmp_path / "nine", act_config(), state=9)
    assert "of shape (9,), the environment gives (8,)" in first_answer(other, image_size=64)
    assert "choose one of" in first_answer(posa_folder, image_size=64, categories=("spoon",))


def test_a_refused_command_leaves_nothing_in_the_way(posa_folder, tmp_path, capsys):
    command = ["eval", f"--policy.path={posa_folder}", f"--output={tmp_path / 'out'}"]
    assert main([*command, "--image_size=96"]) == 2
    assert "expected --image_size=64" in capsys.readouterr().err
    assert main([*command, "--conditions=dark"]) == 2
    assert "background, basic, distractors, lights, objects" in capsys.readouterr().err
    assert main(["eval"]) == 2
    assert "--help" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
