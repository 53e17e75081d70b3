"""Learning rate, seeds and averages against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from posa_vla.training.ema import Ema, ema_decay
from posa_vla.training.schedule import lr_factor, progress, seed_step, step_seed


def test_warmup_is_linear_and_starts_above_zero():
    factors = [lr_factor(step, 10, 0.0, 0.1) for step in range(10)]
    np.testing.assert_allclose(factors, np.arange(1, 11) / 10)


def test_after_warmup_the_factor_is_a_cosine_from_one_to_zero():
    warmup, steps = 20, 220
    for step in range(warmup, steps + 1):
        expected = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        factor = lr_factor(step, warmup, progress(step, steps), progress(warmup, steps))
        assert factor == pytest.approx(expected, abs=1e-12)


def test_warmup_longer_than_the_run_never_divides_by_zero():
    assert lr_factor(5, 100, progress(5, 6), progress(5, 6)) == pytest.approx(0.06)
    assert lr_factor(100, 100, 1.0, 1.0) == 0.0


def test_a_time_budget_ends_the_cosine_when_the_time_is_over():
    assert progress(10, 1000, elapsed=60.0, budget=60.0) == 1.0
    assert progress(10, 1000, elapsed=30.0, budget=60.0) == 0.5
    assert progress(900, 1000, elapsed=30.0, budget=60.0) == 0.9
    assert progress(10, 1000, elapsed=1e9, budget=None) == 0.01


def test_seeds_differ_between_steps_ranks_and_runs_and_repeat():
    seeds = {step_seed(seed, step, rank) for seed in range(5) for step in range(50) for rank in range(4)}
    assert len(seeds) == 1000
    seed_step(1, 2, 3)
    first = torch.rand(3), np.random.rand(3)
    torch.rand(17)
    seed_step(1, 2, 3)
    torch.testing.assert_close(torch.rand(3), first[0], rtol=0, atol=0)
    np.testing.assert_array_equal(np.random.rand(3), first[1])


def test_ema_equals_the_weighted_sum_of_all_weights():
    module = nn.Linear(1, 1, bias=False).double()
    ema = Ema(module, decay=0.9)
    history = [module.weight.item()]
    for updates in range(40):
        with torch.no_grad():
            module.weight.copy_(torch.randn(1, 1, dtype=torch.float64))
        history.append(module.weight.item())
        ema.update(updates)
    decays = [min(0.9, (1 + n) / (10 + n)) for n in range(40)]
    weights = [math.prod(decays)]
    weights += [(1 - decays[n]) * math.prod(decays[n + 1 :]) for n in range(40)]
    assert sum(weights) == pytest.approx(1.0)
    assert ema.state_dict()["weight"].item() == pytest.approx(np.dot(weights, history), rel=1e-12)


def test_ema_of_decay_zero_is_the_weights_themselves():
    module = nn.Linear(3, 2)
    ema = Ema(module, decay=0.0)
    with torch.no_grad():
        module.weight.normal_()
    ema.update(0)
    assert torch.equal(ema.state_dict()["weight"], module.weight)
    assert ema_decay(10**6, 0.999) == 0.999


def test_ema_takes_buffers_and_frozen_parameters_as_they_are():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    module[0].bias.requires_grad_(False)
    ema = Ema(module, decay=0.99)
    with torch.no_grad():
        module[0].bias.fill_(7.0)
        module[1].num_batches_tracked.fill_(5)
    ema.update(3)
    state = ema.state_dict()
    assert state["0.bias"].tolist() == [7.0, 7.0] and state["1.num_batches_tracked"] == 5
    assert set(state) == set(module.state_dict())
