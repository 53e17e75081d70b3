"""The whole command on the real suite, with policies that have learned nothing."""

import json

import pytest
from policy_folders import act_config, posa_config, save_policy

from posa_vla.cli import main
from posa_vla.errors import PosaError
from posa_vla.evaluation.records import ERROR, EnvOptions, Job
from posa_vla.evaluation.rollout import Setup, Worker, evaluate, make_jobs
from posa_vla.evaluation.runner import PolicySource

SHORT = EnvOptions(image_size=64, episode_length=12)


@pytest.fixture(scope="module")
def posa_folder(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("posa"), posa_config())


def test_the_command_end_to_end(posa_folder, tmp_path, capfd):
    flags = ["--conditions=basic:2,lights:1", "--videos_per_condition=1", "--episode_length=12", "--policy.device=cpu"]
    assert main(["eval", f"--policy.path={posa_folder}", f"--output={tmp_path / 'out'}", *flags]) == 0
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [record["message"] for record in results["records"]] == [None] * 3
    assert results["env"]["image_size"] == 64  # the checkpoint's
    assert [row["camera"] for row in results["summary"]["anchors"]["rows"]] == ["head", "head", "wrist", "wrist"]
    assert results["summary"]["anchors"]["rows"][0]["first"]["samples"] == 3
    assert [film["reproduced"] for film in results["films"]] == [True, True]
    assert (tmp_path / "out/report.html").stat().st_size > 50_000
    assert "success of 2" in capfd.readouterr().out


def test_an_episode_alone_equals_the_same_among_others_and_the_expert_solves_it(posa_folder):
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
