"""The loop on a fake policy: exact resuming, signals, kills, and what is written down."""

import fcntl
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tqdm import tqdm
from training_fakes import make_trainer, run

from posa_vla.errors import PosaError
from posa_vla.training.checkpoint import Checkpoints, verify
from posa_vla.training.runlog import RunLog, read_log

FILES = (
    "pretrained_model/model.safetensors",
    "training_state/weights.safetensors",
    "training_state/optimizer.safetensors",
)


def contents(folder, step):
    return [(folder / "checkpoints" / f"{step:06d}" / name).read_bytes() for name in FILES]


def stop_after(trainer, step):
    """Let the process receive SIGTERM while the batch of `step` is made."""
    batch = trainer.source.batch

    def interrupting(asked):
        if asked == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(asked)

    trainer.source.batch = interrupting
    return trainer


def test_2n_steps_equal_n_resume_and_n_byte_for_byte(tmp_path):
    """The interruption falls into the first stage, before the head has any optimiser state."""
    run(tmp_path / "whole", steps=12)
    for stop in (2, 6):
        folder = tmp_path / f"stopped at {stop}"
        assert stop_after(make_trainer(folder, steps=12), stop - 1).run().received == signal.SIGTERM
        assert run(folder, steps=12).step == 12
        assert contents(folder, 12) == contents(tmp_path / "whole", 12)


def test_saving_and_evaluating_in_between_do_not_change_the_result(tmp_path):
    run(tmp_path / "plain")
    run(
        tmp_path / "busy",
        save_freq=1,
        log_freq=1,
        eval_freq=3,
        evaluate=lambda path, step: {"x": torch.rand(()).item()},
    )
    assert contents(tmp_path / "plain", 12) == contents(tmp_path / "busy", 12)


def test_sigterm_saves_the_step_it_was_in_and_restores_the_handler(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    outcome = stop_after(make_trainer(tmp_path), 4).run()
    assert (outcome.step, outcome.received) == (5, signal.SIGTERM)
    assert Checkpoints(tmp_path / "checkpoints").newest().name == "000005"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_log_has_one_line_per_window_also_across_a_kill_and_a_resume(tmp_path):
    stop_after(make_trainer(tmp_path, log_freq=2), 5).run()
    with (tmp_path / "log.jsonl").open("a") as log:  # work lost with a kill after the checkpoint of step 6
        log.write(json.dumps({"step": 8, "loss": 1.0}) + '\n{"step": 10, "lo')
    run(tmp_path, log_freq=2)
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert all(
        {"loss", "lr", "samples_per_second", "load_share", "seconds", "grad_norm"} <= set(line) for line in lines
    )
    assert "action_loss" not in lines[0] and "action_loss" in lines[-1]
    assert lines[-1]["lr"] < lines[1]["lr"]


def test_saved_policy_is_the_average_and_the_state_holds_the_raw_weights(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.run()
    folder = tmp_path / "checkpoints" / "last"
    raw, average = load_file(folder / "training_state/weights.safetensors"), load_file(folder / FILES[0])
    assert torch.equal(raw["body.weight"], trainer.policy.body.weight)
    assert torch.equal(average["body.weight"], trainer.ema.shadow["body.weight"])
    assert not torch.equal(raw["body.weight"], average["body.weight"])
    assert average["count"] == 12


def test_evaluation_sees_the_checkpoint_of_its_step_and_is_logged(tmp_path):
    seen = []

    def evaluate(path, step):
        verify(path.parent)
        seen.append((path.parent.name, step))
        return {"success": 0.5}

    run(tmp_path, steps=4, eval_freq=2, evaluate=evaluate)
    assert seen == [("000002", 2), ("000004", 4)]
    assert [line["eval_success"] for line in read_log(tmp_path / "log.jsonl") if "eval_success" in line] == [0.5, 0.5]


def test_an_evaluation_that_was_cut_short_is_made_up_for_and_none_is_made_twice(tmp_path):
    seen, broken = [], [True]

    def evaluate(path, step):
        seen.append(step)
        if step == 4 and broken and broken.pop():
            raise KeyboardInterrupt
        return {"success": step / 10}

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, steps=6, eval_freq=2, evaluate=evaluate)
    run(tmp_path, steps=6, eval_freq=2, evaluate=evaluate)
    run(tmp_path, steps=6, eval_freq=2, evaluate=evaluate)
    assert seen == [2, 4, 4, 6]
    lines = [line for line in read_log(tmp_path / "log.jsonl") if "eval_success" in line]
    assert [(line["step"], line["eval_success"]) for line in lines] == [(2, 0.2), (4, 0.4), (6, 0.6)]


def test_a_nan_stops_the_run_before_anything_spoilt_is_saved(tmp_path):
    trainer = make_trainer(tmp_path, save_freq=1, log_freq=100)
    trainer.policy.spoil_at = 5
    with pytest.raises(PosaError, match="loss became not a number by step 6"):
        trainer.run()
    assert Checkpoints(tmp_path / "checkpoints").steps() == [1, 2, 3, 4, 5]


def test_a_time_budget_stops_with_a_checkpoint(tmp_path):
    outcome = run(tmp_path, steps=10**6, max_minutes=1 / 60, log_freq=1)
    assert 1 <= outcome.seconds < 5 and outcome.step < 10**6
    assert read_log(tmp_path / "log.jsonl")[-1]["lr"] < 2e-4  # of 1e-3: the cosine came down with the time
    assert Checkpoints(tmp_path / "checkpoints").steps() == [outcome.step]


@pytest.mark.parametrize(("name", "other"), [("processes", 4), ("precision", "bf16"), ("dataset", "another")])
def test_surroundings_that_change_the_result_are_refused(tmp_path, name, other):
    run(tmp_path, steps=2)
    path = tmp_path / "checkpoints/000002/training_state/state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {name: other}))
    with pytest.raises(PosaError, match=f"trained with {name}={other}, found"):
        make_trainer(tmp_path).restore(path.parent.parent)


def test_weights_of_another_policy_are_refused(tmp_path):
    run(tmp_path, steps=2)
    trainer = make_trainer(tmp_path)
    trainer.policy.head = torch.nn.Linear(8, 3)
    with pytest.raises(PosaError, match=r"weights\.safetensors do not fit this policy"):
        trainer.restore(tmp_path / "checkpoints/000002")


def test_warnings_are_said_and_logged(tmp_path, capsys):
    run(tmp_path, batch_size=64, log_freq=4)
    assert capsys.readouterr().err.count("only 9.0 same-task pairs") == 1
    assert read_log(tmp_path / "log.jsonl")[-1]["warnings"] == ["few_same_task_pairs"]


def test_same_task_pairs_are_judged_by_the_batch_of_all_processes(tmp_path):
    trainer = make_trainer(tmp_path, batch_size=16)
    trainer.accelerator = SimpleNamespace(num_processes=4, device="cpu", reduce=lambda values, reduction: values)
    trainer.log = RunLog(tmp_path, 0)
    trainer.window.add({"loss": 1.0, "same_task_pairs": 9.0, "load_seconds": 0.1, "step_seconds": 1.0})
    trainer._log(tqdm(disable=True))
    (line,) = read_log(tmp_path / "log.jsonl")
    assert line["warnings"] == ["few_same_task_pairs"]  # of 64 samples; among 16 they would do


def test_tensorboard_gets_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = {line["step"]: line["loss"] for line in read_log(tmp_path / "log.jsonl")}
    assert {event.step: event.value for event in events.Scalars("loss")} == pytest.approx(logged)


# ---- kills: a process that may die at any moment, in the middle of a save included -------------------------


def _train(folder, paths):
    sys.path[:0] = paths
    import training_fakes

    training_fakes.run(folder, steps=10**6, save_freq=1, keep_last=2, log_freq=5)


def kill_and_resume(folder, kills, seed):
    """SIGKILL a run `kills` times at random moments; after each, the newest checkpoint must be whole and newer."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["posa_vla.training.loop"])  # imports once: each start then is a fork
    store, chance, newest = Checkpoints(folder / "checkpoints"), random.Random(seed), 0
    for _ in range(kills):
        process = context.Process(target=_train, args=(folder, sys.path))
        process.start()
        deadline = time.monotonic() + 60
        while (store.steps() or [0])[-1] <= newest + 1:
            assert process.is_alive() and time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.join()
        newest = int(store.newest().name)
        log = read_log(folder / "log.jsonl") if (folder / "log.jsonl").exists() else []
        assert [line["step"] for line in log] == list(range(5, 5 * len(log) + 1, 5))
    return newest


def test_killed_at_random_moments_it_resumes_from_a_complete_checkpoint(tmp_path):
    last = kill_and_resume(tmp_path / "killed", 4, seed=0)
    whole = make_trainer(tmp_path / "whole", steps=10**6)
    assert stop_after(whole, last - 1).run().step == last
    assert contents(tmp_path / "whole", last) == contents(tmp_path / "killed", last)


@pytest.mark.slow
def test_killed_fifty_times_it_resumes_from_a_complete_checkpoint(tmp_path):
    last = kill_and_resume(tmp_path / "killed", 50, seed=1)
    whole = make_trainer(tmp_path / "whole", steps=10**6)
    assert stop_after(whole, last - 1).run().step == last
    assert contents(tmp_path / "whole", last) == contents(tmp_path / "killed", last)


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(tmp_path):
    run(tmp_path, steps=4)
    log = (tmp_path / "log.jsonl").read_text()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(PosaError, match=f"another process is training into {tmp_path}"):
        run(tmp_path, steps=8)
    os.close(descriptor)
    assert (tmp_path / "log.jsonl").read_text() == log
    assert run(tmp_path, steps=8).step == 8


def test_a_run_that_time_ends_logs_its_last_steps(tmp_path):
    outcome = make_trainer(tmp_path, log_freq=0, max_minutes=1e-6).run()
    assert outcome.step == 1
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1]
