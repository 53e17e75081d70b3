"""Statistics that a dataset lacks are those of its frames; those that it has stay as they are."""

import dataclasses

import numpy as np
import pytest
import torch

from posa_vla import contract
from posa_vla.data.cache import FrameCache, build_cache
from posa_vla.data.statistics import complete_stats


@pytest.fixture(scope="module")
def cache(image_dataset, tmp_path_factory):
    return FrameCache.open(build_cache(image_dataset, tmp_path_factory.mktemp("cache") / "cache", progress=False))


def test_a_complete_dataset_keeps_its_own(cache):
    stats, computed = complete_stats(cache)
    assert computed == []
    assert stats.keys() == cache.stats.keys()
    assert all(torch.equal(stats[k][n], torch.from_numpy(v)) for k, own in cache.stats.items() for n, v in own.items())


def test_what_is_missing_is_computed_over_all_frames(cache):
    without = {
        k: {n: v for n, v in own.items() if n[0] != "q"} for k, own in cache.stats.items() if k != contract.STATE
    }
    stats, computed = complete_stats(dataclasses.replace(cache, stats=without))
    assert {f"{contract.STATE}.mean", f"{contract.ACTION}.q01", f"{contract.ACTION}.q99"} <= set(computed)
    assert f"{contract.ACTION}.mean" not in computed
    for key in (contract.STATE, contract.ACTION):
        for name in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(stats[key][name], cache.stats[key][name], rtol=1e-4, atol=1e-5)
        below = (cache.columns[key] < stats[key]["q01"].numpy()).mean(axis=0)
        above = (cache.columns[key] > stats[key]["q99"].numpy()).mean(axis=0)
        assert np.all((below > 0) & (below <= 0.06) & (above > 0) & (above <= 0.06))
