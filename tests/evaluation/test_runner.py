"""Any LeRobot policy folder: ACT, which knows nothing of anchors, and our own."""

import json
import shutil

import numpy as np
import pytest
import torch
from lerobot.policies.multi_task_dit.configuration_multi_task_dit import MultiTaskDiTConfig
from policy_folders import SIDE, act_config, posa_config, save_policy

from posa_vla.contract import ANCHORS, CAMERAS
from posa_vla.errors import PosaError
from posa_vla.evaluation.runner import PolicyRunner, PolicySource, image_size, set_integration_steps


@pytest.fixture(scope="module")
def act_folder(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("act"), act_config())


@pytest.fixture(scope="module")
def posa_folder(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("posa"), posa_config())


def observation(side: int = SIDE, state: int = 8, cameras=CAMERAS) -> dict:
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 255, (side, side, 3), np.uint8) for name in cameras}
    return {"pixels": pixels, "agent_pos": rng.normal(size=state).astype(np.float32)}


def play(runner: PolicyRunner, seed: int, steps: int = 7) -> np.ndarray:
    runner.reset(seed)
    return np.stack([runner.act(observation(), "pick up the red can") for _ in range(steps)])


@pytest.mark.parametrize("folder", ["act_folder", "posa_folder"])
def test_a_folder_runs_and_repeats(folder, request):
    runner = PolicyRunner(PolicySource(request.getfixturevalue(folder), "cpu"))
    runner.check(observation())
    actions = play(runner, seed=1)
    assert actions.shape == (7, 7)
    assert actions.dtype == np.float32
    torch.rand(5)
    assert np.array_equal(play(runner, seed=1), actions)


def test_the_seed_drives_the_flow_noise_and_looking_does_not_disturb_it(posa_folder):
    runner = PolicyRunner(PolicySource(posa_folder, "cpu"))
    one, other = play(runner, 1), play(runner, 2)
    assert not np.allclose(one, other)
    runner.reset(1)
    looked = []
    for _ in range(7):
        maps, uv = runner.attention(observation(), "pick up the red can")
        looked.append(runner.act(observation(), "pick up the red can"))
    assert np.array_equal(np.stack(looked), one)
    assert maps.shape[:2] == (2, 2)
    assert 0 <= maps.min() <= maps.max() <= 1
    assert uv.shape == (2, 2, 2)
    assert runner.cameras == CAMERAS


def test_attention_is_an_extra_of_policies_that_have_it(act_folder, posa_folder):
    assert not PolicyRunner(PolicySource(act_folder, "cpu")).has_attention
    assert PolicyRunner(PolicySource(posa_folder, "cpu")).has_attention


def test_n_action_steps_is_overridden_within_the_chunk(posa_folder):
    def distinct_plans(steps):
        runner = PolicyRunner(PolicySource(posa_folder, "cpu", steps))
        calls = []
        predict = runner.policy.predict_action_chunk
        runner.policy.predict_action_chunk = lambda *a, **k: calls.append(1) or predict(*a, **k)
        play(runner, 0, steps=6)
        return len(calls)

    assert [distinct_plans(n) for n in (None, 1, 6)] == [2, 6, 1]
    with pytest.raises(PosaError, match="between 1 and 6"):
        PolicyRunner(PolicySource(posa_folder, "cpu", 7))


def test_integration_steps_are_overridden_where_a_policy_takes_such(posa_folder, act_folder):
    def velocities(steps):
        runner = PolicyRunner(PolicySource(posa_folder, "cpu", n_action_steps=6, integration_steps=steps))
        transformer, calls = runner.policy.network.action_transformer, []
        velocity = transformer.velocity
        transformer.velocity = lambda *a: calls.append(1) or velocity(*a)
        play(runner, 0, steps=6)
        return len(calls)

    assert [velocities(n) for n in (None, 1, 3)] == [2, 1, 3]
    with pytest.raises(PosaError, match="of at least 1, found 0"):
        PolicyRunner(PolicySource(posa_folder, "cpu", integration_steps=0))
    with pytest.raises(PosaError, match="leave --integration_steps out"):
        PolicyRunner(PolicySource(act_folder, "cpu", integration_steps=3))


@pytest.mark.parametrize(
    ("objective", "field"), [("flow_matching", "num_integration_steps"), ("diffusion", "num_inference_steps")]
)
def test_lerobots_policies_call_the_steps_from_noise_otherwise(objective, field):
    config = MultiTaskDiTConfig(objective=objective)
    set_integration_steps(config, 7)
    assert getattr(config, field) == 7


@pytest.mark.parametrize("folder", ["act_folder", "posa_folder"])
def test_it_says_which_calls_computed_a_chunk(folder, request):
    runner = PolicyRunner(PolicySource(request.getfixturevalue(folder), "cpu", 2))
    runner.reset(0)
    planned = []
    for _ in range(5):
        runner.act(observation(), "pick up the red can")
        planned.append(runner.planned)
    assert planned == [True, False, True, False, True]


def test_a_policy_of_true_anchors_asks_for_them_and_takes_them_raw(tmp_path, act_folder):
    config = posa_config()
    config.maps, config.anchor_steps = "ground_truth", 0
    runner = PolicyRunner(PolicySource(save_policy(tmp_path, config), "cpu"))
    assert runner.needs_anchors
    assert not PolicyRunner(PolicySource(act_folder, "cpu")).needs_anchors
    with pytest.raises(PosaError, match=r"expected observation\.anchors in the batch"):
        runner.act(observation(), "pick up the red can")
    anchors = np.array([[[0.4, 0.6, 1.0, 1.0], [0.5, 0.3, 1.0, 1.0]]] * 2, np.float32)
    _, uv = runner.attention({**observation(), ANCHORS: anchors}, "pick up the red can")
    np.testing.assert_allclose(uv, anchors[..., :2], atol=1e-6)


def test_what_does_not_fit_the_checkpoint_is_said(posa_folder):
    runner = PolicyRunner(PolicySource(posa_folder, "cpu"))
    with pytest.raises(PosaError, match=r"\(3, 64, 64\).*\(3, 96, 96\).*--image_size=64"):
        runner.check(observation(side=96))
    with pytest.raises(PosaError, match=r"observation.state of shape \(8,\).*\(9,\)"):
        runner.check(observation(state=9))
    with pytest.raises(PosaError, match=r"expects observation\.images\.wrist"):
        runner.check(observation(cameras=("head",)))


def test_the_image_size_stands_in_the_checkpoint(posa_folder):
    assert image_size(posa_folder) == SIDE


def damage(folder, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif how == "no weights":
        weights.unlink()
    elif how == "config":
        (folder / "config.json").write_text("{")
    elif how == "unknown type":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "type": "nonesuch"}))
    elif how == "no processors":
        (folder / "policy_preprocessor.json").unlink()
    elif how == "other network":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "dim_model": 64}))


@pytest.mark.parametrize("how", ["truncated", "no weights", "config", "unknown type", "no processors", "other network"])
def test_a_damaged_checkpoint_is_one_sentence_that_names_it(act_folder, tmp_path, how):
    folder = tmp_path / "pretrained_model"
    shutil.copytree(act_folder, folder)
    damage(folder, how)
    with pytest.raises(PosaError, match="pretrained_model") as caught:
        PolicyRunner(PolicySource(folder, "cpu"))
    assert "\n" not in str(caught.value)


def test_the_folder_above_points_to_the_right_one(act_folder, tmp_path):
    shutil.copytree(act_folder, tmp_path / "000100" / "pretrained_model")
    with pytest.raises(PosaError, match=r"pass .*000100/pretrained_model"):
        PolicyRunner(PolicySource(tmp_path / "000100"))
