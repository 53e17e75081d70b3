"""``posa-vla train`` on a real, small dataset, cache, policy and processors."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from toy_dataset import make_dataset

from posa_vla import cli
from posa_vla.data.batches import BatchSource
from posa_vla.errors import PosaError
from posa_vla.evaluation import rollout
from posa_vla.evaluation.records import EnvOptions, EpisodeRecord
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy
from posa_vla.training import config as options
from posa_vla.training import hardware, runlog, trainer
from posa_vla.training.clip_folder import make_clip_folder
from posa_vla.training.peer_config import ClipConfig
from posa_vla.training.runlog import read_log

SMALL = (
    *("--policy.preset=tiny", "--policy.device=cpu", "--policy.image_size=96", "--policy.vision_width=16"),
    *(
        "--policy.vision_blocks=1",
        "--policy.width=32",
        "--policy.depth=1",
        "--policy.heads=2",
        "--policy.memory_grid=3",
    ),
    *("--policy.text_width=16", "--policy.chunk_size=4", "--policy.flow_samples=1", "--policy.anchor_steps=3"),
    *("--policy.scheduler_warmup_steps=2", "--batch_size=4", "--steps=6", "--log_freq=1", "--threads=1"),
)
FILES = (
    *("pretrained_model/model.safetensors", "pretrained_model/config.json"),
    *("training_state/weights.safetensors", "training_state/optimizer.safetensors"),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "labelled", use_videos=False)


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    """A whole run of six steps, three in each stage, with a checkpoint in the middle."""
    folder = tmp_path_factory.mktemp("run")
    assert trainer.main([*SMALL, f"--dataset.root={dataset}", f"--output_dir={folder}", "--save_freq=4"]) == 0
    return folder


def contents(folder, step):
    return [(folder / "checkpoints" / f"{step:06d}" / name).read_bytes() for name in FILES]


def cut_back(run, folder, step):
    """A copy of `run` as if it had been killed after the checkpoint of `step`."""
    (folder / "checkpoints").mkdir(parents=True)
    source = run / "checkpoints" / f"{step:06d}"
    subprocess.run(["cp", "-r", source, folder / "checkpoints"], check=True)
    return folder


def test_resuming_continues_byte_for_byte_with_augmentation(run, tmp_path):
    folder = cut_back(run, tmp_path / "run", 4)
    assert json.loads((folder / "checkpoints/000004/pretrained_model/config.json").read_text())["augmentation"][
        "enabled"
    ]
    assert trainer.main(["--resume=true", f"--output_dir={folder}"]) == 0
    assert contents(folder, 6) == contents(run, 6)
    assert [line["step"] for line in read_log(folder / "log.jsonl")] == [5, 6]


def test_sigterm_saves_exits_with_143_and_loses_nothing(run, dataset, tmp_path, monkeypatch):
    batch = BatchSource.batch

    def interrupting(source, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(source, step)

    with monkeypatch.context() as patch:
        patch.setattr(BatchSource, "batch", interrupting)
        assert trainer.main([*SMALL, f"--dataset.root={dataset}", f"--output_dir={tmp_path}"]) == 143
    assert os.listdir(tmp_path / "checkpoints/last/pretrained_model")
    assert trainer.main(["--resume=true", f"--output_dir={tmp_path}"]) == 0
    assert contents(tmp_path, 6) == contents(run, 6)


def test_a_full_disk_under_the_log_is_one_sentence(dataset, tmp_path, capsys, monkeypatch):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr(runlog, "_keep_until", lambda path, step: None)  # reading /dev/full never ends
    assert cli.main(["train", *SMALL, f"--dataset.root={dataset}", f"--output_dir={tmp_path}"]) == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]


def test_both_stages_are_logged_with_the_signs_of_failure(run):
    lines = read_log(run / "log.jsonl")
    assert [("action_loss" in line) for line in lines] == [False] * 3 + [True] * 3
    expected = {"focal_loss", "contrastive_loss", "map_contrast_task", "map_contrast_end"}
    assert all(expected | {"end_map_peak", "same_task_pairs", "task_anchor_error"} <= set(line) for line in lines)


def test_the_saved_policy_loads_as_lerobot_loads_it_and_acts(run):
    from lerobot.policies.factory import make_pre_post_processors

    folder = run / "checkpoints" / "last" / "pretrained_model"
    policy = PosaVLAPolicy.from_pretrained(folder)
    pre, post = make_pre_post_processors(policy.config, pretrained_path=str(folder))
    observation = {f"observation.images.{name}": torch.rand(3, 32, 32) for name in ("head", "wrist")}
    action = post(policy.select_action(pre({**observation, "observation.state": torch.zeros(8), "task": "pick"})))
    assert action.shape == (1, 7) and action.isfinite().all()
    assert int(policy.steps) == 6


@pytest.mark.parametrize(
    ("word", "name"),
    [("--batch_size=8", "batch_size=8"), ("--policy.width=64", "policy.width=64"), ("--steps=12", "steps=12")],
)
def test_a_contradicting_option_is_named_when_resuming(run, word, name):
    with pytest.raises(PosaError, match=f"--{name} contradicts the checkpoint"):
        trainer.main(["--resume=true", f"--output_dir={run}", word])


def test_what_does_not_change_learning_may_be_set_anew_when_resuming(run, dataset):
    words = [
        "--resume=true",
        f"--output_dir={run}",
        "--log_freq=7",
        "--threads=2",
        "--batch_size=4",
        "--env.categories=[can,mug]",
        "--policy.width=32",
    ]
    config, policy, checkpoint = options.parse(words)
    assert config.env.categories == ("can", "mug")
    assert (config.log_freq, config.threads, config.steps, config.dataset.root) == (7, 2, 6, dataset)
    assert (policy.width, policy.state_dim, checkpoint.name) == (32, 8, "000006")


def test_a_finished_or_running_folder_is_not_overwritten(run, dataset):
    with pytest.raises(PosaError, match="already holds checkpoints"):
        trainer.main([*SMALL, f"--dataset.root={dataset}", f"--output_dir={run}"])


def test_an_unlabelled_dataset_is_told_the_command(tmp_path, capsys):
    root = make_dataset(tmp_path / "plain", episodes=2, length=6, labelled=False, use_videos=False)
    assert cli.main(["train", *SMALL, f"--dataset.root={root}", f"--output_dir={tmp_path / 'out'}"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "observation.anchors" in message and "posa-vla label" in message


def test_a_dataset_of_another_shape_is_refused_when_resuming(run, tmp_path):
    root = make_dataset(tmp_path / "other", episodes=2, length=6, image_size=48, use_videos=False)
    with pytest.raises(PosaError, match=r"expects 'observation.images.head' of shape \(3, 32, 32\).*\(3, 48, 48\)"):
        trainer.main(["--resume=true", f"--output_dir={cut_back(run, tmp_path / 'run', 4)}", f"--dataset.root={root}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "pass --output_dir"),
        (("--output_dir=OUT",), "pass --dataset.root"),
        (("--output_dir=OUT", "--resume=true"), "found no such folder"),
        (("--output_dir=OUT", "--sampler=often"), "choose one of task_balanced, uniform"),
        (("--output_dir=OUT", "--mixed_precision=fp8"), "choose one of auto, bf16, fp32"),
        (("--output_dir=OUT", "--save_freq=-1"), "--save_freq of at least 0"),
        (("--output_dir=OUT", "--ema_decay=1"), r"--ema_decay in \[0, 1\)"),
        (("--output_dir=OUT", "--policy.preset=huge"), "choose one of paper, sim, tiny"),
    ],
)
def test_a_wrong_option_is_one_sentence(words, message, tmp_path):
    with pytest.raises(PosaError, match=message):
        trainer.main([word.replace("OUT", str(tmp_path / "new")) for word in words])


def test_recipes_are_defaults_that_the_command_line_overrides(tmp_path):
    where = f"--output_dir={tmp_path / 'x'}"
    config, policy, _ = options.parse([where, "--policy.preset=tiny", "--seed=3"])
    assert (config.steps, config.batch_size, policy.seed, policy.push_to_hub) == (6000, 64, 3, False)
    assert (policy.optimizer_lr, policy.scheduler_warmup_steps) == (1e-3, 200)
    config, policy, _ = options.parse([where, "--policy.preset", "sim", "--steps", "7", "--policy.optimizer_lr=2e-5"])
    assert (config.steps, config.batch_size, policy.optimizer_lr, policy.scheduler_warmup_steps) == (7, 16, 2e-5, 2000)
    assert (policy.optimizer_betas, policy.optimizer_eps, policy.anchor_steps) == ((0.95, 0.999), 1e-8, 20_000)


def test_bf16_is_only_used_where_the_hardware_has_it(monkeypatch):
    monkeypatch.setattr(hardware, "has_fast_bf16", lambda device: False)
    assert hardware.mixed_precision("auto", "cpu") == "no"
    with pytest.raises(PosaError, match="bf16 expects hardware"):
        hardware.mixed_precision("bf16", "cpu")
    monkeypatch.setattr(hardware, "has_fast_bf16", lambda device: True)
    assert hardware.mixed_precision("auto", "cpu") == "bf16"
    assert hardware.mixed_precision("fp32", "cpu") == "no"


def test_a_device_without_an_index_is_the_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert hardware.plain_device(torch.device("cuda")) == torch.device("cuda:1")
    assert hardware.plain_device(torch.device("cuda:2")) == torch.device("cuda:2")
    assert hardware.plain_device(torch.device("cpu:3")) == torch.device("cpu")


def test_a_numbered_gpu_is_the_one_a_single_process_trains_on(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for asked in ("cpu", "cuda", "cuda:1"):
        hardware.choose_gpu(asked)
    assert chosen == [torch.device("cuda:1")]
    with pytest.raises(PosaError, match="cuda:2 expects that GPU, found 2"):
        hardware.choose_gpu("cuda:2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    hardware.choose_gpu("cuda")
    with pytest.raises(PosaError, match=r"found --policy\.device=cuda:1: use --policy\.device=cuda"):
        hardware.choose_gpu("cuda:1")


@pytest.fixture
def started(monkeypatch):
    """What `start` asks of the machine, in order, with 8 processes on two machines."""
    asked = []

    def accelerator(**options):
        asked.append(("accelerator", options))
        return SimpleNamespace(num_processes=8, is_main_process=False)

    monkeypatch.setattr(trainer, "Accelerator", accelerator)
    for name in ("choose_gpu", "set_threads"):
        monkeypatch.setattr(hardware, name, lambda *values, name=name: asked.append((name, values)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    trainer.start(options.TrainConfig(threads=0, mixed_precision="fp32"), PosaVLAConfig(device="cpu"))
    return asked


def test_the_gpu_is_chosen_first_and_cores_are_shared_on_one_machine(started):
    assert [name for name, _ in started] == ["choose_gpu", "accelerator", "set_threads"]
    assert started[2] == ("set_threads", (0, 4))


def test_processes_wait_for_hours_while_the_first_evaluates(started):
    handlers = started[1][1]["kwargs_handlers"]
    (waits,) = (handler.to_kwargs() for handler in handlers if hasattr(handler, "timeout"))
    assert waits.keys() == {"timeout"}  # and no backend: accelerate chooses it by the device
    assert waits["timeout"] >= timedelta(hours=12)


def test_without_torchrun_all_processes_are_here(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert hardware.processes_here(2) == 2


def test_glibc_takes_the_thresholds_that_keep_freed_memory(monkeypatch):
    assert hardware.keep_freed_memory()
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: object())  # another C library, without mallopt
    assert not hardware.keep_freed_memory()


@pytest.mark.parametrize(("words", "warned"), [(["--steps=3"], True), (["--steps=4"], False)])
def test_a_run_that_never_reaches_the_actions_says_so(dataset, tmp_path, capsys, words, warned):
    assert trainer.main([*SMALL, f"--dataset.root={dataset}", f"--output_dir={tmp_path}", *words]) == 0
    assert ("no action is learned" in capsys.readouterr().err) is warned


def test_evaluation_runs_on_validation_scenes_and_counts_errors_apart(tmp_path, monkeypatch):
    asked = {}

    def evaluate(path, conditions, episodes, **options):
        asked.update(options, path=path, conditions=conditions)
        outcomes = ["success", "failure", "error", "success"]
        return [EpisodeRecord(conditions[0], seed, outcome, message="m") for seed, outcome in enumerate(outcomes)]

    monkeypatch.setattr(rollout, "evaluate", evaluate)
    config = options.TrainConfig(eval_condition="lights", eval_episodes=4, env=EnvOptions(categories=("can",)))
    numbers = trainer.evaluate(tmp_path, 7, config)
    assert numbers == {"success": pytest.approx(2 / 3), "episodes": 3, "errors": 1}
    assert (asked["split"], asked["conditions"], asked["env_options"].categories) == ("val", ("lights",), ("can",))
    monkeypatch.setattr(rollout, "evaluate", lambda *a, **k: [EpisodeRecord("lights", 0, "error", message="no GL")])
    with pytest.raises(PosaError, match="all 1 evaluation episodes at step 7 ended in an error: no GL"):
        trainer.evaluate(tmp_path, 7, config)


def test_the_table_shows_first_middle_and_last(run):
    table = trainer.summary(read_log(run / "log.jsonl")).splitlines()
    assert table[0].split() == ["step", "1", "4", "6"]
    assert table[2].split()[:2] == ["action_loss", "-"]


@pytest.mark.slow
def test_two_processes_train_one_policy(dataset, tmp_path):
    """torchrun; the same weights in both processes, and a resume that continues them."""
    words = [*SMALL, f"--dataset.root={dataset}", f"--output_dir={tmp_path / 'out'}", "--save_freq=4"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    launch += ["-m", "posa_vla.cli", "train"]
    done = subprocess.run([*launch, *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 process(es) on cpu," in done.stdout
    folder = cut_back(tmp_path / "out", tmp_path / "resumed", 4)
    again = [*launch, "--resume=true", f"--output_dir={folder}"]
    subprocess.run(again, capture_output=True, check=True, timeout=300)
    assert contents(folder, 6) == contents(tmp_path / "out", 6)


def test_fine_tuning_begins_with_the_checkpoints_weights_and_without_a_first_stage(run, dataset, tmp_path):
    source = shutil.copytree(run / "checkpoints" / "last" / "pretrained_model", tmp_path / "source")
    words = ["--policy.optimizer_lr=0", "--steps=2", "--batch_size=4", "--log_freq=1", "--threads=1"]
    folder = tmp_path / "run"
    where = [f"--dataset.root={dataset}", f"--output_dir={folder}"]
    assert trainer.main([f"--policy.path={source}", *words, *where]) == 0
    (before, after) = (
        PosaVLAPolicy.from_pretrained(pretrained).state_dict()
        for pretrained in (source, folder / "checkpoints/last/pretrained_model")
    )
    assert (int(before.pop("steps")), int(after.pop("steps"))) == (6, 2)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all("action_loss" in line for line in read_log(folder / "log.jsonl"))
    shutil.rmtree(source)
    assert trainer.main(["--resume=true", f"--output_dir={folder}"]) == 0


def test_fine_tuning_resumes_with_its_command_and_remembers_where_it_began(run, dataset, tmp_path):
    source = shutil.copytree(run / "checkpoints" / "last" / "pretrained_model", tmp_path / "source")
    words = [f"--policy.path={source}", "--steps=4", "--save_freq=2", "--batch_size=4", "--threads=1"]
    words = [*words, f"--dataset.root={dataset}"]
    assert trainer.main([*words, f"--output_dir={tmp_path / 'whole'}"]) == 0
    folder = cut_back(tmp_path / "whole", tmp_path / "cut", 2)
    with pytest.raises(PosaError, match=r"--policy\.path=.*other contradicts the checkpoint"):
        trainer.main([*words, f"--policy.path={tmp_path / 'other'}", f"--output_dir={folder}", "--resume=true"])
    shutil.rmtree(source)
    assert trainer.main([*words, f"--output_dir={folder}", "--resume=true"]) == 0
    assert contents(folder, 4) == contents(tmp_path / "whole", 4)


@pytest.fixture(scope="module")
def clip_run(dataset, tmp_path_factory):
    """A run that began with the weights and the tokenizer of a CLIP folder, which is gone."""
    folder = tmp_path_factory.mktemp("clip_run")
    sizes = ClipConfig(width=32, layers=1, patch_size=8, text_width=32, text_layers=1)
    clip = make_clip_folder(folder / "clip", sizes, 32, ["pick up the red can"], seed=0)
    words = ["--policy.preset=sim", f"--policy.clip_model={clip}", f"--policy.tokenizer={clip}"]
    small = [word for word in SMALL if not word.startswith(("--policy.preset", "--policy.image_size"))]
    words = [*words, *small, "--policy.image_size=32", "--save_freq=4", f"--dataset.root={dataset}"]
    assert trainer.main([*words, f"--output_dir={folder / 'run'}"]) == 0
    shutil.rmtree(clip)
    return folder / "run"


def test_a_run_resumes_without_the_files_its_encoders_came_from(clip_run, tmp_path):
    folder = cut_back(clip_run, tmp_path / "cut", 4)
    assert trainer.main(["--resume=true", f"--output_dir={folder}"]) == 0
    assert contents(folder, 6) == contents(clip_run, 6)


def test_fine_tuning_needs_no_files_beside_the_checkpoint(clip_run, dataset, tmp_path):
    source = clip_run / "checkpoints/last/pretrained_model"
    words = [f"--policy.path={source}", "--steps=1", "--batch_size=2", "--threads=1", f"--dataset.root={dataset}"]
    assert trainer.main([*words, f"--output_dir={tmp_path}"]) == 0


def test_cameras_of_two_sizes_train_once_one_is_chosen(tmp_path):
    root = make_dataset(tmp_path / "data", episodes=2, length=6, image_size={"head": 32, "wrist": 24}, use_videos=False)
    words = [*SMALL, "--steps=4", f"--dataset.root={root}"]
    with pytest.raises(PosaError, match=r"name the ones to use in --policy\.input_features"):
        trainer.main([*words, f"--output_dir={tmp_path / 'both'}"])
    inputs = {
        "observation.images.head": {"type": "VISUAL", "shape": [3, 32, 32]},
        "observation.state": {"type": "STATE", "shape": [8]},
    }
    chosen = f"--policy.input_features={json.dumps(inputs)}"
    assert trainer.main([*words, chosen, f"--output_dir={tmp_path / 'one'}"]) == 0
    policy = PosaVLAPolicy.from_pretrained(tmp_path / "one/checkpoints/last/pretrained_model")
    assert policy.cameras == ("observation.images.head",)
    assert policy.config.output_features.keys() == {"action"}


@pytest.mark.parametrize("option", ["path", "type"])
@pytest.mark.parametrize("word", ["--policy.{}", "--policy.{}="])
def test_an_option_without_its_value_is_no_option_left_out(tmp_path, option, word):
    with pytest.raises(PosaError, match=f"--policy.{option} has no value"):
        options.parse([word.format(option), f"--output_dir={tmp_path}", "--steps=3"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval_condition=bsic"], "unknown condition 'bsic'"),
        (["--env.categories=[cann]"], "unknown category 'cann'"),
        (["--env.family=pikc"], "unknown task family 'pikc'"),
        (["--env.num_distractors=-1"], "num_distractors of at least 0"),
        (["--env.image_size=64"], r"found observation.images.head of shape \(3, 32, 32\)"),
    ],
)
def test_what_the_first_evaluation_would_stop_at_is_said_before_the_first_step(dataset, tmp_path, words, message):
    with pytest.raises(PosaError, match=message):
        trainer.main([*SMALL, f"--dataset.root={dataset}", f"--output_dir={tmp_path}", "--eval_freq=2", *words])
    assert not (tmp_path / "log.jsonl").exists()


def test_cameras_that_the_suite_lacks_cannot_be_evaluated_on_it(tmp_path):
    root = make_dataset(tmp_path / "own", episodes=1, cameras=("front",), use_videos=False)
    words = [*SMALL, f"--dataset.root={root}", f"--output_dir={tmp_path / 'out'}"]
    with pytest.raises(PosaError, match=r"cameras are head, wrist .*found observation.images.front"):
        trainer.main([*words, "--eval_freq=2", "--env.image_size=32"])


def strip_statistics(root, to, names):
    """A copy of the dataset without some statistics; without the file where `names` is None."""
    path = shutil.copytree(root, to) / "meta/stats.json"
    stats = json.loads(path.read_text())
    path.unlink()
    if names is not None:
        kept = {key: {n: v for n, v in own.items() if not n.startswith(names)} for key, own in stats.items()}
        path.write_text(json.dumps(kept))
    return to


@pytest.mark.parametrize("names", ["q", None])
def test_missing_statistics_are_those_of_the_frames(dataset, tmp_path, capsys, names):
    """Converted datasets have no quantiles; without any statistics LeRobot would not normalise at all."""
    from lerobot.policies.factory import make_pre_post_processors

    root = strip_statistics(dataset, tmp_path / "dataset", names)
    words = [*SMALL, f"--dataset.root={root}", f"--output_dir={tmp_path / 'out'}", "--steps=4"]
    assert trainer.main(words) == 0
    assert "computed from its frames: " in capsys.readouterr().out
    folder = tmp_path / "out/checkpoints/last/pretrained_model"
    _, post = make_pre_post_processors(PosaVLAPolicy.from_pretrained(folder).config, pretrained_path=str(folder))
    low, high = (post(torch.full((1, 7), value)) for value in (-1.0, 1.0))
    assert torch.all(low < high) and not torch.allclose(high, torch.ones(1, 7))


def test_images_that_a_peer_normalises_need_statistics(dataset, tmp_path):
    root = strip_statistics(dataset, tmp_path / "dataset", None)
    words = ["--policy.type=act", "--policy.device=cpu", "--peer.recipe=small", "--policy.chunk_size=4"]
    with pytest.raises(PosaError, match=r"expected statistics of 'observation.images.head'"):
        trainer.main([*words, "--policy.n_action_steps=4", f"--dataset.root={root}", f"--output_dir={tmp_path / 'o'}"])


def test_fine_tuning_adds_stages_to_the_network(run, dataset, tmp_path):
    source = run / "checkpoints" / "last" / "pretrained_model"
    words = [f"--policy.path={source}", "--policy.stages=3", "--steps=2", "--batch_size=4", "--threads=1"]
    assert trainer.main([*words, f"--dataset.root={dataset}", f"--output_dir={tmp_path / 'out'}"]) == 0
    tuned = PosaVLAPolicy.from_pretrained(tmp_path / "out/checkpoints/last/pretrained_model")
    assert tuned.network.stage_query.stages == 3


def test_fine_tuning_keeps_the_network(run, dataset, tmp_path, capsys):
    source = run / "checkpoints" / "last" / "pretrained_model"
    words = [f"--policy.path={source}", "--policy.width=64", f"--dataset.root={dataset}", f"--output_dir={tmp_path}"]
    assert cli.main(["train", *words]) == 2
    assert "of another size" in capsys.readouterr().err
    assert cli.main(["train", "--policy.type=act", *words]) == 2
    assert "found act" in capsys.readouterr().err
