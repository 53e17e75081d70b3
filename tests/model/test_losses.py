"""The losses against plain loops in float64, and their edge cases."""

import math

import pytest
import torch

from posa_vla.model.losses import ContrastiveLoss, flow_loss, focal_loss, pairwise_bce, pooled_anchor_features


def focal_reference(logits, targets, weight, known, gamma):
    total, count = 0.0, 0
    for index in torch.cartesian_prod(*[torch.arange(n) for n in logits.shape[:-1]]).tolist():
        if not known[tuple(index)]:
            continue
        count += 1
        loss, mass = 0.0, 0.0
        for logit, target in zip(logits[tuple(index)].tolist(), targets[tuple(index)].tolist(), strict=True):
            m = 1 / (1 + math.exp(-logit))
            bce = -(target * math.log(m) + (1 - target) * math.log(1 - m))
            loss += abs(target - m) ** gamma * bce
            mass += target
        total += float(weight[tuple(index)]) * loss / max(1.0, mass)
    return total / max(1, count)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_equals_the_loop(gamma):
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 2, 2, 20), torch.rand(3, 2, 2, 20)
    weight, known = torch.rand(3, 2, 2), torch.rand(3, 2, 2) > 0.3
    found = focal_loss(logits, targets, weight, known, gamma)
    assert float(found) == pytest.approx(focal_reference(logits, targets, weight, known, gamma), rel=1e-5)


def test_focal_loss_is_zero_only_at_the_target_and_pulls_an_empty_map_down():
    targets = torch.zeros(1, 5)
    logits = torch.full((1, 5), 0.5, requires_grad=True)
    focal_loss(logits, targets, torch.ones(1), torch.ones(1, dtype=torch.bool)).backward()
    assert (logits.grad > 0).all()  # descending lowers every logit: a known negative is trained to zero


def test_nothing_known_gives_zero_loss_and_zero_gradient():
    logits = torch.randn(2, 2, 2, 9, requires_grad=True)
    none = torch.zeros(2, 2, 2)
    loss = focal_loss(logits, torch.zeros(2, 2, 2, 9), none, none.bool())
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def contrastive_reference(left, right, task, temperature, bias):
    total, pairs = 0.0, 0
    for m in range(len(left)):
        for n in range(len(left)):
            if m == n:
                continue
            score = sum(a * b for a, b in zip(left[m].tolist(), right[n].tolist(), strict=True)) / temperature + bias
            p = 1 / (1 + math.exp(-score))
            total -= math.log(p) if task[m] == task[n] else math.log(1 - p)
            pairs += 1
    return total / pairs


def test_pairwise_bce_equals_the_loop():
    torch.manual_seed(1)
    left, right = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    task = torch.tensor([0, 1, 0, 2, 1, 0])
    found = pairwise_bce(left, right, task, torch.tensor(0.7, dtype=torch.float64), torch.tensor(-1.0))
    assert float(found) == pytest.approx(contrastive_reference(left, right, task, 0.7, -1.0), rel=1e-9)


def test_pairwise_bce_of_one_sample_is_zero():
    one = torch.ones(1, 3, requires_grad=True)
    loss = pairwise_bce(one, one, torch.zeros(1), torch.tensor(1.0), torch.tensor(0.0))
    loss.backward()
    assert loss.item() == 0.0 and torch.isfinite(one.grad).all()


@pytest.mark.parametrize("mode", ["paper", "visual"])
def test_contrastive_prefers_matching_pairs_and_ignores_missing_anchors(mode):
    torch.manual_seed(2)
    loss = ContrastiveLoss(mode, text_width=8, vision_width=6)
    task = torch.tensor([0, 1, 2, 0])
    text = torch.randn(3, 8)[task]
    v = torch.randn(3, 6)[task].requires_grad_()
    end = torch.randn(1, 8).expand(4, -1)
    v_missing = torch.zeros(4, 6, requires_grad=True)
    loss(text, end, v_missing, v, task).backward()
    assert torch.isfinite(v.grad).all() and torch.isfinite(v_missing.grad).all()
    if mode == "paper":
        wrong = torch.tensor([3, 1, 2, 7])
        assert loss(text, end, v_missing, v, task) < loss(text, end, v_missing, v, wrong)


def test_pooled_features_are_the_mean_over_cameras_and_zero_when_empty():
    patches = torch.arange(2 * 2 * 3, dtype=torch.float32).view(2, 2, 3, 1)
    positives = torch.zeros(2, 2, 3, dtype=torch.bool)
    positives[0, 0, 1] = positives[0, 1, 2] = True
    v = pooled_anchor_features(patches, positives)
    assert v[:, 0].tolist() == [(1 + 5) / 2, 0.0]


def test_flow_loss_leaves_padding_out():
    velocity, target = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    target[:, 2] = 100
    assert flow_loss(velocity, target, torch.tensor([[False, False, True]])).item() == pytest.approx(1.0)
