"""A policy that looks where the true anchors are, maps=ground_truth."""

import pytest
import torch
from policy_fakes import batch_of, small_config, small_policy

from posa_vla import contract
from posa_vla.errors import PosaError
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy


def observed(batch: dict) -> dict:
    return {key: value for key, value in batch.items() if key.startswith("observation.")}


@pytest.fixture
def oracle():
    """A policy that looks where the true anchors are, and whose actions depend on what it sees."""
    policy = small_policy(maps="ground_truth", anchor_steps=0)
    for module in (policy.network.action_transformer.head, *policy.network.action_transformer.blocks):
        torch.nn.init.normal_(getattr(module, "modulation", module).weight, std=0.1)
    return policy


def test_only_a_policy_of_true_anchors_asks_for_them(oracle):
    assert oracle.needs_anchors
    assert not small_policy().needs_anchors
    assert contract.ANCHORS not in oracle.config.input_features
    batch = batch_of(oracle)
    del batch[contract.ANCHORS]
    with pytest.raises(PosaError, match=r"posa-vla label --dataset\.root="):
        oracle.train()(batch)
    with pytest.raises(PosaError, match=r"expected observation\.anchors in the batch.*`posa-vla eval`"):
        oracle.select_action(observed(batch))


def test_true_anchors_decide_the_action_and_stand_where_they_are_in_the_whole_image(oracle):
    batch, noise = observed(batch_of(oracle)), torch.randn(4, 6, 7)
    batch[contract.ANCHORS][:, 0, 0, :2] = 0.01  # in the image, but outside the centre crop
    moved = {**batch, contract.ANCHORS: batch[contract.ANCHORS].flip(0)}
    assert not torch.equal(oracle.predict_action_chunk(batch, noise), oracle.predict_action_chunk(moved, noise))
    view = oracle.attention(batch)
    inside = view.confidence > 0
    assert inside[:, 0, 0].sum() == 0
    assert view.uv[~inside].isnan().all()
    torch.testing.assert_close(view.uv[inside], batch[contract.ANCHORS][..., :2][inside])
    crop = ((batch[contract.ANCHORS][..., :2] - 0.5).abs() < 0.5 * 112 / 128).all(-1)
    assert torch.equal(inside, crop)


def test_true_anchors_leave_no_first_stage_and_train_by_the_action_alone(oracle):
    assert small_config(maps="ground_truth", anchor_steps=None).anchor_steps == 0
    assert small_config(spatial_loss=False, contrastive="none", anchor_steps=None).anchor_steps == 0
    assert small_config(anchor_steps=None).anchor_steps == 2_000
    with pytest.raises(PosaError, match="maps=ground_truth"):
        small_config(maps="ground_truth", anchor_steps=7)
    loss, info = oracle.train()(batch_of(oracle))
    assert info["loss"] == pytest.approx(info["action_loss"]) == pytest.approx(loss.item())


def test_a_saved_policy_of_true_anchors_acts_identically(oracle, tmp_path):
    oracle.save_pretrained(tmp_path)
    batch, noise = observed(batch_of(oracle)), torch.randn(4, 6, 7)
    loaded = PosaVLAPolicy.from_pretrained(tmp_path)
    assert torch.equal(loaded.predict_action_chunk(batch, noise), oracle.predict_action_chunk(batch, noise))
