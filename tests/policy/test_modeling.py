"""The policy: repeatable losses, two stages, chunks, attention in the whole image, optimiser groups."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from policy_fakes import batch_of, fake_meta, small_config, small_policy
from transformers import CLIPConfig, CLIPModel

from posa_vla import contract
from posa_vla.errors import PosaError
from posa_vla.model.anchor_attention import predicted_focus
from posa_vla.model.network import Sight
from posa_vla.policy import modeling_posa_vla
from posa_vla.policy import weights as loading
from posa_vla.policy.attention import view_of
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy


def observed(batch: dict) -> dict:
    return {key: value for key, value in batch.items() if key.startswith("observation.")}


# ---- training ---------------------------------------------------------------------------------------------------


def test_a_training_loss_depends_on_seed_step_and_process_alone(monkeypatch):
    policy = small_policy(anchor_steps=0).train()
    batch = batch_of(policy)
    first = policy(batch)[0]
    torch.rand(17)  # whatever else draws in between
    assert torch.equal(first, policy(batch)[0])
    monkeypatch.setattr(modeling_posa_vla, "_rank", lambda: 1)
    assert not torch.equal(first, policy(batch)[0])
    monkeypatch.undo()
    policy.update()
    assert not torch.equal(first, policy(batch)[0])
    other = small_policy(anchor_steps=0, seed=1).train()
    assert not torch.equal(first, other(batch)[0])


def test_a_validation_loss_ignores_the_step_and_is_not_augmented():
    policy = small_policy(anchor_steps=0).eval()
    batch = batch_of(policy)
    first = policy(batch)[0]
    policy.update()
    assert torch.equal(first, policy(batch)[0])


def test_training_leaves_the_batch_alone():
    policy = small_policy().train()
    batch = batch_of(policy)
    copies = {key: value.clone() for key, value in batch.items()}
    policy(batch)
    assert all(torch.equal(batch[key], copies[key]) for key in copies)


def test_stage_one_trains_no_action_and_ends_by_the_saved_count():
    policy = small_policy(anchor_steps=2).train()
    batch = batch_of(policy)
    for _ in range(2):
        loss, info = policy(batch)
        assert "action_loss" not in info
        policy.update()
    loss.backward()
    assert policy.network.action_transformer.head.weight.grad is None
    later = small_policy(anchor_steps=2).train()
    later.load_state_dict(policy.state_dict())
    loss, info = later(batch)
    loss.backward()
    assert "action_loss" in info
    assert later.network.action_transformer.head.weight.grad.abs().sum() > 0


def test_logged_numbers_are_plain_floats():
    policy = small_policy(anchor_steps=0).train()
    loss, info = policy(batch_of(policy))
    assert {"focal_loss", "contrastive_loss", "action_loss"} <= info.keys()
    assert all(type(value) is float for value in info.values())
    assert info["loss"] == pytest.approx(loss.item())


def test_without_the_column_the_command_that_adds_it_is_named():
    policy = small_policy().train()
    batch = batch_of(policy)
    del batch[contract.ANCHORS]
    with pytest.raises(PosaError, match=r"posa-vla label --dataset\.root="):
        policy(batch)


def test_without_anchor_losses_no_column_is_needed():
    policy = small_policy(spatial_loss=False, contrastive="none", anchor_steps=0).train()
    batch = batch_of(policy)
    del batch[contract.ANCHORS]
    loss, info = policy(batch)
    assert loss.isfinite()
    assert info["loss"] == pytest.approx(info["action_loss"])


def test_event_frames_need_the_steps_column_and_take_lerobots_flat_shape():
    policy = small_policy(task_labels="event_frames").train()
    batch = batch_of(policy)
    assert policy(batch)[0].isfinite()
    del batch[contract.STEPS_TO_INTERACTION]
    with pytest.raises(PosaError, match=r"column observation\.steps_to_interaction"):
        policy(batch)


def test_anchors_follow_the_names_of_their_feature():
    straight = small_policy(fake_meta()).eval()
    swapped = small_policy(fake_meta(anchor_cameras=("wrist", "head"))).eval()
    batch = batch_of(straight)
    expected = straight(batch)[0]
    assert not torch.equal(expected, swapped(batch)[0])
    assert torch.equal(expected, swapped({**batch, contract.ANCHORS: batch[contract.ANCHORS].flip(1)})[0])


def test_cameras_without_anchors_are_named():
    with pytest.raises(PosaError, match="cameras head, wrist, found them for head, front"):
        small_policy(fake_meta(anchor_cameras=("head", "front")))
    policy = small_policy()
    batch = batch_of(policy)
    with pytest.raises(PosaError, match="of 2 cameras"):
        policy({**batch, contract.ANCHORS: batch[contract.ANCHORS][:, :1]})


def test_two_wordings_of_one_goal_count_as_the_same_task(tmp_path):
    (tmp_path / "meta").mkdir()
    goals = {"pick up the red can": 7, "grab the red can": 7, "pick up the blue milk": 9}
    (tmp_path / contract.TASK_IDS_FILE).write_text(json.dumps(goals))
    policy = small_policy(fake_meta(tmp_path))
    assert policy._goals(torch.tensor([0, 1, 2])).tolist() == [7, 7, 9]
    assert "goal_ids" not in policy.state_dict()
    policy.use_dataset({}, np.array([1, 1, 1]))
    assert policy._goals(torch.tensor([0, 1, 2])).tolist() == [1, 1, 1]
    assert small_policy()._goals(torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


def test_a_policy_can_run_for_a_recording_that_begins():
    """lerobot-record passes the metadata of the new dataset: no tasks and no anchors yet."""
    empty = SimpleNamespace(root="nowhere", tasks=None, features={})
    assert small_policy(empty).anchor_rows is None


def test_cameras_whose_names_have_dots_find_their_anchors():
    cameras = ("rgb.wrist", "rgb.head")
    policy = small_policy(fake_meta(anchor_cameras=cameras[::-1]), cameras=cameras)
    assert policy.anchor_rows == [1, 0]


def test_cameras_that_a_run_renames_keep_their_anchors():
    """LeRobot renames the batches' keys, not the labels' cameras; as it does, the run is a caller's variable."""
    left, right = contract.image_key("left"), contract.image_key("right")
    swap = {left: right, right: left}
    run = TrainPipelineConfig(dataset=DatasetConfig(repo_id="local/x"), steps=100, rename_map=swap)
    assert run.rename_map == swap
    meta = fake_meta(anchor_cameras=("left", "right"))
    assert small_policy(meta, cameras=("left", "right")).anchor_rows == [1, 0]
    run.rename_map = {contract.image_key("top"): contract.image_key("head")}
    policy = small_policy(fake_meta(anchor_cameras=("wrist", "top")))
    assert policy.anchor_rows == [1, 0]
    run.rename_map = {}
    with pytest.raises(PosaError, match="expected anchors for the cameras head, wrist"):
        small_policy(fake_meta(anchor_cameras=("wrist", "top")))


def test_going_on_with_lerobot_train_refuses_numbers_that_hardly_move(tmp_path):
    """It hands a checkpoint's normaliser the dataset's raw statistics, which a new policy's processors would mend."""
    run = TrainPipelineConfig(dataset=DatasetConfig(repo_id="local/x"), steps=100)
    meta = fake_meta(anchor_cameras=("head", "wrist"))
    moving = {"min": [0.0, 0.0], "max": [1.0, 1.0], "std": [0.3, 0.3], "q01": [0.1, 0.1], "q99": [0.9, 0.9]}
    meta.stats = {contract.STATE: moving, contract.ACTION: {**moving, "q01": [0.1, 0.5], "q99": [0.9, 0.5]}}
    small_policy(meta)  # new
    run.policy = small_config()
    run.policy.pretrained_path = tmp_path
    with pytest.raises(PosaError, match=r"hardly do \(action: 1\).*posa-vla train --policy.path"):
        small_policy(meta)
    meta.stats = {contract.STATE: {**moving, "max": [0.0, 1.0]}, contract.ACTION: moving}
    with pytest.raises(PosaError, match=r"hardly do \(observation.state: 0\)"):
        small_policy(meta)
    run.resume = True  # keeps the checkpoint's own statistics
    small_policy(meta)
    run.resume, meta.stats = False, {contract.STATE: moving, contract.ACTION: moving}
    small_policy(meta)


@pytest.mark.parametrize(("scale", "groups"), [(0.1, 2), (0.0, 1)])
def test_optimiser_groups_cover_everything_that_trains(scale, groups):
    policy = small_policy(encoder_lr_scale=scale)
    given = policy.get_optim_params()
    assert len(given) == groups
    trainable = {id(p) for p in policy.parameters() if p.requires_grad}
    assert {id(p) for group in given for p in group["params"]} == trainable
    encoder = next(policy.network.vision_encoder.parameters())
    assert encoder.requires_grad == (scale > 0)
    if scale:
        assert given[1]["lr"] == pytest.approx(0.1 * policy.config.optimizer_lr)
        assert id(encoder) in {id(p) for p in given[1]["params"]}


# ---- acting -----------------------------------------------------------------------------------------------------


def test_a_chunk_is_planned_once_for_its_executed_steps():
    policy = small_policy(n_action_steps=3).eval()
    policy.network.action_transformer.head.weight.data.normal_()  # the initial head answers zero
    batch = observed(batch_of(policy))
    noise = torch.randn(4, 6, 7)
    chunk = policy.predict_action_chunk(batch, noise)
    actions = [policy.select_action(batch, noise) for _ in range(3)]
    assert torch.equal(torch.stack(actions, 1), chunk[:, :3])
    assert not torch.equal(policy.select_action(batch, noise + 1), chunk[:, 3])
    policy.reset()
    assert torch.equal(policy.select_action(batch, noise), chunk[:, 0])


def test_noise_of_another_shape_is_refused():
    policy = small_policy()
    with pytest.raises(ValueError, match=r"expected noise of shape \(4, 6, 7\), got \(4, 7\)"):
        policy.predict_action_chunk(observed(batch_of(policy)), torch.zeros(4, 7))


def test_images_of_any_size_reach_the_network_at_its_own():
    policy = small_policy(side=64)
    images, _ = policy._look(batch_of(policy))
    assert policy.config.augmentation.output_size == (56, 56)
    assert images.shape == (4, 2, 3, 112, 112)


@pytest.mark.parametrize("camera", [0, 1])
def test_attention_points_at_the_same_scene_point_as_the_whole_image(camera):
    """A peak on one patch of the crop lies where that patch lies in the image the crop was cut from."""
    row, column, side = 3, 10, 14
    logits = torch.full((1, 2, 2, side * side), -30.0)
    logits[0, camera, 0, row * side + column] = 30.0
    sight = Sight(torch.zeros(1), torch.zeros(1), torch.zeros(1), predicted_focus(logits, (side, side)), (side, side))
    view = view_of(sight, (128, 128), (112, 112))
    expected = torch.tensor([(8 + 8 * (column + 0.5)) / 128, (8 + 8 * (row + 0.5)) / 128])
    torch.testing.assert_close(view.uv[0, camera, 0], expected)
    assert view.maps.shape == (1, 2, 2, 16, 16)
    peak = view.maps[0, camera, 0]
    assert divmod(int(peak.argmax()), 16) == (row + 1, column + 1)  # 8 of 128 px are one patch
    assert peak.max() == pytest.approx(1.0, abs=1e-5)
    assert view.confidence[0].argmax() == camera * 2
    assert torch.equal(view.maps[..., 0, :], torch.zeros(1, 2, 2, 16))  # outside the crop


def test_attention_of_a_policy_without_end_anchor_has_an_empty_end():
    policy = small_policy(end_anchor=False)
    view = policy.attention(observed(batch_of(policy)))
    assert view.maps.shape[:3] == (4, 2, 2)
    assert view.maps[:, :, 1].abs().sum() == 0
    assert view.uv[:, :, 1].isnan().all()
    assert view.uv[:, :, 0].isfinite().all()


def test_real_time_chunking_speaks_lerobots_time(rtc_policies):
    """With nothing left over, LeRobot's integration (t from 1 to 0) gives the network's own actions."""
    plain, guided = rtc_policies
    batch, noise = observed(batch_of(plain)), torch.randn(4, 6, 7)
    expected = plain.predict_action_chunk(batch, noise)
    got = guided.predict_action_chunk(batch, noise, inference_delay=0, prev_chunk_left_over=None)
    torch.testing.assert_close(got, expected)


def test_real_time_chunking_continues_the_last_chunk(rtc_policies):
    plain, guided = rtc_policies
    batch, noise = observed(batch_of(plain)), torch.randn(4, 6, 7)
    left_over = torch.rand(4, 4, 7) * 2 - 1
    free = plain.predict_action_chunk(batch, noise)[:, :2]
    bound = guided.predict_action_chunk(batch, noise, inference_delay=2, prev_chunk_left_over=left_over)[:, :2]
    distance = (free - left_over[:, :2]).abs().mean()
    assert (bound - left_over[:, :2]).abs().mean() < 0.2 * distance


@pytest.fixture
def rtc_policies():
    """The same weights without and with real-time chunking, set as LeRobot's rollout does."""
    plain, guided = small_policy(), small_policy()
    plain.network.action_transformer.head.weight.data.normal_(std=0.3)
    guided.load_state_dict(plain.state_dict())
    guided.config.rtc_config = RTCConfig(execution_horizon=4)
    guided.init_rtc_processor()
    return plain, guided


# ---- saving and loading -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    policy = small_policy()
    policy.network.action_transformer.head.weight.data.normal_()
    for _ in range(3):
        policy.update()
    policy.save_pretrained(tmp_path)
    return policy, tmp_path


def test_a_loaded_policy_acts_identically(saved):
    policy, folder = saved
    loaded = PosaVLAPolicy.from_pretrained(folder)
    batch, noise = observed(batch_of(policy)), torch.randn(4, 6, 7)
    assert torch.equal(policy.predict_action_chunk(batch, noise), loaded.predict_action_chunk(batch, noise))
    assert loaded._step == 3
    assert not loaded.training


@pytest.fixture
def saved_with_clip(tmp_path):
    """A policy of small towers, saved, and neither their folder nor a default architecture to load it with."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPConfig(
        text_config=sizes | {"vocab_size": 384}, vision_config=sizes | {"image_size": 56, "patch_size": 8}
    )
    CLIPModel(clip).save_pretrained(tmp_path / "clip")
    source = str(tmp_path / "clip")
    policy = small_policy(preset="sim", clip_model=source, tokenizer="bytes", heads=2, image_size=56)
    policy.network.action_transformer.head.weight.data.normal_()
    policy.save_pretrained(tmp_path / "saved")
    shutil.rmtree(source)
    return policy, tmp_path / "saved"


def test_a_checkpoint_brings_the_architecture_of_its_towers(saved_with_clip):
    policy, folder = saved_with_clip
    loaded = PosaVLAPolicy.from_pretrained(folder)
    assert loaded.config == policy.config
    batch, noise = observed(batch_of(policy)), torch.randn(4, 6, 7)
    assert torch.equal(policy.predict_action_chunk(batch, noise), loaded.predict_action_chunk(batch, noise))


def test_a_checkpoint_on_the_hub_needs_no_other_files(saved_with_clip, monkeypatch):
    _, folder = saved_with_clip
    asked = {}

    def snapshot(name, **options):
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(loading, "snapshot_download", snapshot)
    PosaVLAPolicy.from_pretrained("someone/policy", revision="v1", token="t", local_files_only=True)
    files = asked.pop("allow_patterns")
    assert {"config.json", "model.safetensors"} == set(files)
    assert asked == {"name": "someone/policy", "revision": "v1", "token": "t", "local_files_only": True}


@pytest.mark.parametrize("name", ["someone/policy", "no/such/folder"])
def test_a_checkpoint_that_is_nowhere_is_one_sentence(tmp_path, name):
    with pytest.raises(PosaError, match=f"expected a checkpoint's folder or its name on the hub, found '{name}'"):
        PosaVLAPolicy.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)


def test_missing_unexpected_and_misshaped_weights_are_named(saved):
    _, folder = saved
    without = small_config(anchor_tokens=False)
    with pytest.raises(PosaError, match=r"unexpected: network.anchor_position, network.embed_anchors"):
        PosaVLAPolicy.from_pretrained(folder, config=without)
    with pytest.raises(PosaError, match=r"of another size: .*and \d+ more"):
        PosaVLAPolicy.from_pretrained(folder, config=small_config(width=64))
    with pytest.raises(PosaError, match=r"missing: network.action_transformer.blocks.1"):
        PosaVLAPolicy.from_pretrained(folder, config=small_config(depth=2))


@pytest.mark.parametrize(
    "switches, module", [({"stages": 3}, "stage_query"), ({"anchor_depth": "predicted"}, "depth_head")]
)
def test_a_trained_policy_can_be_given_modules_it_lacks(saved, caplog, switches, module):
    policy, folder = saved
    more = PosaVLAPolicy.from_pretrained(folder, config=small_config(**switches))
    assert f"network.{module} is new and untrained" in caplog.text
    old, new = policy.state_dict(), more.state_dict()
    assert all(torch.equal(new[key], value) for key, value in old.items())
    added = new.keys() - old.keys()
    assert added and all(key.startswith(f"network.{module}.") for key in added)


def test_what_a_damaged_checkpoint_should_hold_is_no_addition(saved, tmp_path):
    _, folder = saved
    staged = tmp_path / "staged"
    PosaVLAPolicy.from_pretrained(folder, config=small_config(stages=3)).save_pretrained(staged)
    (staged / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(PosaError, match=r"missing: network\.stage_query"):
        PosaVLAPolicy.from_pretrained(staged)
    with pytest.raises(PosaError, match=r"missing: network\.stage_query"):
        PosaVLAPolicy.from_pretrained(staged, config=small_config(stages=3))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "gone"])
def test_a_damaged_checkpoint_is_one_sentence(saved, damage):
    _, folder = saved
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\xff" * 64)
    if damage == "gone":
        weights.unlink()
    with pytest.raises(PosaError, match=r"expected a complete model\.safetensors in"):
        PosaVLAPolicy.from_pretrained(folder)


def test_another_preset_and_a_damaged_config_are_refused(saved):
    _, folder = saved
    with pytest.raises(PosaError, match=r"preset 'tiny', --policy\.preset=paper asks for another"):
        PosaVLAPolicy.from_pretrained(folder, config=small_config(preset="paper", pretrained=False))
    (folder / "config.json").write_text('{"preset": "ti')
    with pytest.raises(PosaError, match=r"expected a complete config\.json in"):
        PosaVLAPolicy.from_pretrained(folder)
