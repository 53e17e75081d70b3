"""LeRobot's own policies in our loop: multi_task_dit, act and diffusion, from the frame cache, and back as a folder."""

import json
import shutil

import numpy as np
import pytest
import torch
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from toy_dataset import make_dataset

from posa_vla import cli, contract
from posa_vla.data.augmentation import AugmentationConfig
from posa_vla.data.batches import BatchSource
from posa_vla.data.cache import FrameCache, build_cache
from posa_vla.errors import PosaError
from posa_vla.evaluation.runner import PolicyRunner, PolicySource
from posa_vla.training import config as options
from posa_vla.training import trainer
from posa_vla.training.bundle import resolve
from posa_vla.training.clip_folder import make_clip_folder, quiet_transformers, word_tokenizer
from posa_vla.training.optimiser import make_optimizer
from posa_vla.training.peer_config import ClipConfig, PeerConfig
from posa_vla.training.peers import AugmentedSource
from posa_vla.training.runlog import read_log

SIDE = 64
RUN = ("--policy.device=cpu", "--steps=4", "--batch_size=4", "--log_freq=1", "--threads=1", "--peer.recipe=small")
CROP = "[56,56]"
TINY = {
    "multi_task_dit": (
        *(f"--policy.image_crop_shape={CROP}", "--policy.hidden_dim=32", "--policy.num_layers=1"),
        *("--policy.timestep_embed_dim=8", "--peer.clip.width=32", "--peer.clip.layers=1", "--peer.clip.patch_size=8"),
        *("--peer.clip.text_width=64", "--peer.clip.text_layers=1", "--policy.horizon=9", "--policy.n_action_steps=4"),
    ),
    "act": (
        *("--policy.dim_model=32", "--policy.dim_feedforward=32", "--policy.n_encoder_layers=1", "--policy.n_heads=2"),
        *("--policy.n_vae_encoder_layers=1", "--policy.chunk_size=8", "--policy.n_action_steps=4"),
    ),
    "diffusion": (
        *(f"--policy.crop_shape={CROP}", "--policy.down_dims=[16,32]", "--policy.diffusion_step_embed_dim=16"),
        *("--policy.horizon=8", "--policy.n_action_steps=4", "--policy.num_inference_steps=2"),
    ),
}
PEERS = tuple(TINY)
SENTENCES = ("pick up the red can", "pick up the blue milk")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
CATEGORIES = ("cube", "can", "bowl", "bottle", "lemon", "milk", "cereal", "bread", "mug", "ring")
PHRASINGS = ("pick up the {} {}", "pick the {} {} up", "grab the {} {}", "take the {} {}", "please lift the {} {}")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "labelled", image_size=SIDE, use_videos=False)


@pytest.fixture(scope="module")
def runs(dataset, tmp_path_factory):
    """By type, the folder of four steps with a checkpoint after the second; trained when first asked for."""
    folders = {}

    def run(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            assert trainer.main([*words(name, dataset), f"--output_dir={folders[name]}", "--save_freq=2"]) == 0
        return folders[name]

    return run


def words(name, dataset):
    return [f"--policy.type={name}", f"--dataset.root={dataset}", *RUN, *TINY[name]]


def pretrained(folder):
    return folder / "checkpoints" / "last" / "pretrained_model"


def observation(seed=0):
    rng = np.random.default_rng(seed)
    pixels = {name: rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8) for name in contract.CAMERAS}
    return {"pixels": pixels, "agent_pos": rng.normal(size=8).astype(np.float32)}


@pytest.mark.parametrize("name", PEERS)
def test_resuming_continues_byte_for_byte(runs, name, tmp_path):
    """Augmentation, crops, dropout and noise included; the loss is logged at every step."""
    run = runs(name)
    shutil.copytree(run / "checkpoints/000002", tmp_path / "run/checkpoints/000002")
    assert trainer.main(["--resume=true", f"--output_dir={tmp_path / 'run'}"]) == 0
    for file in ("pretrained_model/model.safetensors", *(f"training_state/{n}" for n in ("weights", "optimizer"))):
        path = f"checkpoints/000004/{file.removesuffix('.safetensors')}.safetensors"
        assert (tmp_path / "run" / path).read_bytes() == (run / path).read_bytes()
    losses = [line["loss"] for line in read_log(run / "log.jsonl")]
    assert len(losses) == 4 and np.isfinite(losses).all()


@pytest.mark.parametrize("name", PEERS)
def test_a_checkpoint_is_complete_by_itself(runs, name, tmp_path):
    """Moved elsewhere, it loads, looks at the history it was trained with and executes as many actions as asked."""
    folder = shutil.copytree(pretrained(runs(name)), tmp_path / "elsewhere")
    runner = PolicyRunner(PolicySource(folder, "cpu", n_action_steps=3))
    runner.check(observation())
    chunks = count_calls(runner.policy, "predict_action_chunk")
    runner.reset(0)
    actions = np.stack([runner.act(observation(step), SENTENCES[0]) for step in range(7)])
    assert actions.shape == (7, 7) and np.isfinite(actions).all() and len(chunks) == 3
    runner.reset(0)
    again = np.stack([runner.act(observation(step), SENTENCES[0]) for step in range(7)])
    assert np.array_equal(actions, again)


def count_calls(target, name):
    calls, method = [], getattr(target, name)
    setattr(target, name, lambda *args, **kwargs: calls.append(1) or method(*args, **kwargs))
    return calls


@pytest.mark.parametrize(("name", "longest"), [("multi_task_dit", 8), ("act", 8), ("diffusion", 7)])
def test_as_many_actions_run_as_a_chunk_holds_from_now_on(runs, name, longest):
    """A chunk of horizon T that begins at the older of two observations has T − 1 actions left."""
    runner = PolicyRunner(PolicySource(pretrained(runs(name)), "cpu", n_action_steps=longest))
    runner.reset(0)
    chunks = count_calls(runner.policy, "predict_action_chunk")
    assert [len(chunks) for _ in range(longest + 1) if runner.act(observation(), SENTENCES[0]) is not None] == (
        [1] * longest + [2]
    )
    with pytest.raises(PosaError, match=f"between 1 and {longest}"):
        PolicyRunner(PolicySource(pretrained(runs(name)), "cpu", n_action_steps=longest + 1))


def test_a_checkpoint_without_its_encoders_says_what_is_missing(runs, tmp_path):
    folder = shutil.copytree(pretrained(runs("multi_task_dit")), tmp_path / "half")
    shutil.rmtree(folder / "clip")
    with pytest.raises(PosaError, match="copy the whole pretrained_model folder"):
        PolicyRunner(PolicySource(folder, "cpu"))


def test_the_checkpoint_names_its_encoders_relative_to_itself(runs):
    folder = pretrained(runs("multi_task_dit"))
    saved = json.loads((folder / "config.json").read_text())
    assert saved["vision_encoder_name"] == saved["text_encoder_name"] == "clip"
    steps = json.loads((folder / "policy_preprocessor.json").read_text())["steps"]
    assert [step["config"]["tokenizer_name"] for step in steps if "tokenizer_name" in step["config"]] == ["clip"]


def test_the_instruction_reaches_multi_task_dit_and_no_other(runs):
    """LeRobot's act and diffusion never read it; multi_task_dit gets it through a text tower that is not trained."""
    differ = {}
    for name in PEERS:
        runner = PolicyRunner(PolicySource(pretrained(runs(name)), "cpu"))
        if name == "multi_task_dit":
            assert not any(
                p.requires_grad for p in runner.policy.observation_encoder.text_encoder.text_encoder.parameters()
            )
            for block in runner.policy.noise_predictor.transformer_blocks:  # zero at the start of training
                torch.nn.init.normal_(block.adaLN_modulation[-1].weight, generator=torch.Generator().manual_seed(0))
        actions = []
        for sentence in SENTENCES:
            runner.reset(0)
            actions.append(runner.act(observation(), sentence))
        differ[name] = not np.array_equal(*actions)
    assert differ == {"multi_task_dit": True, "act": False, "diffusion": False}


def test_lerobots_own_loader_builds_the_same_policy(runs):
    """From the folder itself, as lerobot-eval does, once the bundled names are resolved."""
    from lerobot.configs import PreTrainedConfig

    folder = pretrained(runs("multi_task_dit"))
    config = PreTrainedConfig.from_pretrained(folder)
    overrides = resolve(config, folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
    pre, post = make_pre_post_processors(config, str(folder), preprocessor_overrides=overrides)
    runner = PolicyRunner(PolicySource(folder, "cpu"))
    runner.reset(3)
    expected = runner.act(observation(), SENTENCES[0])
    torch.manual_seed(3)
    images = {
        contract.image_key(name): torch.from_numpy(pixels).permute(2, 0, 1) / 255
        for name, pixels in observation()["pixels"].items()
    }
    batch = pre({**images, contract.STATE: torch.from_numpy(observation()["agent_pos"]), "task": SENTENCES[0]})
    assert np.array_equal(post(policy.select_action(batch)).squeeze(0).numpy(), expected)


def test_batches_hold_what_the_policy_asks_for_and_no_labels(dataset, tmp_path):
    config, policy, _ = options.parse([*words("multi_task_dit", dataset), f"--output_dir={tmp_path / 'o'}"])
    built = trainer.build(config, policy, trainer.start(config, policy))
    batch = built.source.batch(0)
    assert batch[contract.image_key("head")].shape == (4, 2, 3, SIDE, SIDE)
    assert batch[contract.STATE].shape == (4, 2, 8) and batch[contract.ACTION].shape == (4, 9, 7)
    assert contract.ANCHORS not in batch and contract.STEPS_TO_INTERACTION not in batch
    assert set(policy.input_features) == {*map(contract.image_key, contract.CAMERAS), contract.STATE}
    assert type(built.optimizer) is torch.optim.Adam and built.warmup == 200
    assert {group["base_lr"] for group in built.optimizer.param_groups} == {1e-3}


def test_augmentation_changes_the_frames_of_a_history_alike(dataset, tmp_path):
    cache = FrameCache.open(build_cache(dataset, tmp_path / "c", progress=False))
    source = BatchSource(cache, 4, 2, observation_deltas=(0, 0))
    strong = AugmentationConfig(shift=0.2, brightness=0.5, erase_probability=1.0)
    batch = AugmentedSource(source, strong, seed=1).batch(5)
    plain = source.batch(5)
    for camera in contract.CAMERAS:
        images = batch[contract.image_key(camera)]
        assert images.shape == plain[contract.image_key(camera)].shape and 0 <= images.min() <= images.max() <= 1
        assert torch.equal(images[:, 0], images[:, 1])
        assert not torch.allclose(images, plain[contract.image_key(camera)] / 255)
    assert torch.equal(batch[contract.STATE], plain[contract.STATE])
    again = AugmentedSource(source, strong, seed=1)
    assert all(torch.equal(again.batch(5)[key], batch[key]) for key in batch if key != "task")
    assert not torch.equal(again.batch(6)[contract.image_key("head")], batch[contract.image_key("head")])


def test_a_clip_folder_is_a_function_of_its_arguments(tmp_path):
    small = ClipConfig(width=32, layers=1, patch_size=8, text_width=32, text_layers=1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(1)
        make_clip_folder(tmp_path / name, small, 32, SENTENCES, seed)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"] != weights["c"]
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    with pytest.raises(PosaError, match="do not divide into patches of 7"):
        make_clip_folder(tmp_path / "d", ClipConfig(patch_size=7), 32, SENTENCES, 0)


def test_every_training_word_is_one_token_and_others_are_spelled_out(tmp_path):
    tokenizer = word_tokenizer([phrase.format("red", "can") for phrase in PHRASINGS])
    words = ["please", "pick", "up", "the", "red", "can"]
    assert tokenizer.tokenize(" ".join(words)) == [f"{word}</w>" for word in words]
    spelled = tokenizer("the box, é")["input_ids"]
    assert spelled.count(tokenizer.eos_token_id) == 1 and len(spelled) > 5
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path)("the box, é")["input_ids"] == spelled


def test_a_linear_map_reads_the_goal_from_the_untrained_text_tower(tmp_path):
    """What multi_task_dit trains on top of it: fitted on four phrasings, it names colour and object in the fifth."""
    from transformers import AutoTokenizer, CLIPTextModel

    pairs = [(colour, category) for colour in COLOURS for category in CATEGORIES]
    sentences = [phrase.format(*pair) for phrase in PHRASINGS for pair in pairs]
    make_clip_folder(tmp_path / "clip", ClipConfig(width=32, layers=1), 112, sentences, seed=0)
    with quiet_transformers(), torch.no_grad():
        tower = CLIPTextModel.from_pretrained(tmp_path / "clip").eval()
        tokens = AutoTokenizer.from_pretrained(tmp_path / "clip")(sentences, padding=True, return_tensors="pt")
        features = tower(**tokens).pooler_output
    features = torch.cat([(features - features.mean(0)) / features.std(), torch.ones(len(features), 1)], dim=1)
    known = torch.arange(len(sentences)) < 4 * len(pairs)
    for names, position in ((COLOURS, 0), (CATEGORIES, 1)):
        goals = torch.tensor([names.index(pair[position]) for pair in pairs]).repeat(len(PHRASINGS))
        target = torch.nn.functional.one_hot(goals).float()
        gram = features[known].T @ features[known] + 1e-2 * torch.eye(features.shape[1])
        readout = torch.linalg.solve(gram, features[known].T @ target[known])
        correct = (features[~known] @ readout).argmax(1) == goals[~known]
        assert correct.float().mean() > 0.9


def test_bare_parameters_and_groups_make_the_same_optimiser():
    from lerobot.optim import AdamConfig, SGDConfig

    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    module[0].requires_grad_(False)
    bare = make_optimizer(module, module.parameters(), AdamConfig(lr=0.5, weight_decay=0.25))
    grouped = make_optimizer(module, [{"params": module[1].parameters()}], AdamConfig(lr=0.5, weight_decay=0.25))
    assert type(bare) is torch.optim.Adam and str(bare) == str(grouped)
    with pytest.raises(PosaError, match="trained by adam or adamw, found sgd"):
        make_optimizer(module, module.parameters(), SGDConfig())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--policy.type=actt"], "unknown policy type 'actt'.*act, "),
        (["--policy.type=act", "--policy.chunk_size=2", "--policy.n_action_steps=3"], "do not fit together"),
        (["--policy.type=act", "--peer.recipe=big"], "choose one of lerobot, small"),
        (["--policy.type=vqbet", "--peer.recipe=small"], "exists for act, diffusion, multi_task_dit"),
        (["--policy.type=act", "--peer.augmentation.output_size=112"], "output_size must be left out"),
        (["--policy.type=multi_task_dit", "--peer.clip.width=50"], "clip.width must be a positive multiple of 32"),
    ],
)
def test_a_wrong_option_is_one_sentence(extra, message, tmp_path):
    with pytest.raises(PosaError, match=message):
        options.parse([f"--output_dir={tmp_path / 'x'}", *extra])


def test_another_type_or_size_of_clip_is_refused_when_resuming(runs):
    folder = f"--output_dir={runs('multi_task_dit')}"
    for word in ("--policy.type=act", "--peer.clip.width=64", "--policy.horizon=12"):
        name = word.removeprefix("--").partition("=")[0]
        with pytest.raises(PosaError, match=f"--{name}=.* contradicts the checkpoint"):
            options.parse(["--resume=true", folder, word])
    config, policy, _ = options.parse(["--resume=true", folder, "--policy.type=multi_task_dit", "--log_freq=9"])
    assert (policy.type, policy.horizon, config.log_freq, config.peer.clip.width) == ("multi_task_dit", 9, 9, 32)


def test_recipes_stay_defaults(tmp_path):
    where = f"--output_dir={tmp_path / 'x'}"
    config, policy, _ = options.parse(
        [where, "--policy.type", "diffusion", "--peer.recipe=small", "--policy.horizon=32"]
    )
    assert (config.steps, config.batch_size, policy.horizon, policy.drop_n_last_frames) == (6000, 64, 32, 0)
    config, policy, _ = options.parse([where, "--policy.type=act"])
    assert (config.steps, config.batch_size, config.after_interaction, policy.dim_model) == (100_000, 8, 1.0, 512)
    assert PeerConfig().augmentation == AugmentationConfig()


def test_help_lists_the_options_of_the_named_policy(capsys):
    assert cli.main(["train", "--policy.type=act", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--kl_weight" in shown and "--anchor_steps" not in shown and "--peer.recipe" in shown
