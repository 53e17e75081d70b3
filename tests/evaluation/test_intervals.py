"""Intervals against scipy, against published tables, and in a simulation of scenes that are easy or hard."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest, ttest_ind

from posa_vla.evaluation.intervals import (
    by_scene,
    clustered_wilson,
    difference_interval,
    effective_trials,
    welch,
    wilson,
)


@pytest.mark.parametrize("trials", [1, 2, 7, 20, 200, 1500])
def test_agrees_with_scipy(trials):
    for successes in {0, 1, trials // 3, trials // 2, trials - 1, trials}:
        reference = binomtest(successes, trials).proportion_ci(method="wilson")
        assert wilson(successes, trials) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_textbook_value():
    """Brown, Cai & DasGupta's formula by hand for 15 of 20."""
    assert wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=5e-5)


def test_mirrors_contains_the_rate_and_shrinks():
    for successes in range(21):
        low, high = wilson(successes, 20)
        assert 0 <= low <= successes / 20 <= high <= 1
        assert wilson(20 - successes, 20) == pytest.approx((1 - high, 1 - low))
        wide, narrow = high - low, wilson(10 * successes, 200)
        assert narrow[1] - narrow[0] < wide


def test_no_trials_know_nothing_and_nonsense_raises():
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


@pytest.mark.parametrize(
    ("counts", "published"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0000)),
        ((10, 10, 0, 10), (0.6075, 1.0000)),
    ],
)
def test_difference_of_scenes_that_are_not_shared_agrees_with_newcombes_table(counts, published):
    """Newcombe (1998), Table II, method 10."""
    successes, trials, others, other_trials = counts
    reference = by_scene((1000 + seed, seed < others) for seed in range(other_trials))
    assert difference_interval(once(successes, trials), reference) == pytest.approx(published, abs=5e-5)


def once(successes: int, trials: int):
    """As many scenes as trials."""
    return by_scene((seed, seed < successes) for seed in range(trials))


def test_difference_is_antisymmetric_and_knows_nothing_without_trials():
    low, high = difference_interval(once(30, 50), once(20, 60))
    assert difference_interval(once(20, 60), once(30, 50)) == pytest.approx((-high, -low))
    assert difference_interval({}, once(3, 5)) == (-1, 1)


@pytest.mark.parametrize("successes", [0, 1, 3, 10])
def test_a_scene_met_five_times_with_the_same_outcome_counts_once(successes):
    repeated = by_scene((seed, seed < successes) for seed in range(10) for _ in range(5))
    assert repeated == {seed: (5 * (seed < successes), 5) for seed in range(10)}
    assert clustered_wilson(repeated) == pytest.approx(wilson(successes, 10))
    assert clustered_wilson(once(successes, 10)) == pytest.approx(wilson(successes, 10))
    assert difference_interval(repeated, once(5, 10)) == pytest.approx(
        difference_interval(once(successes, 10), once(5, 10))
    )


def test_few_successes_do_not_tell_how_alike_episodes_of_a_scene_are():
    """Two successes in two of twenty scenes, five episodes each: not the certainty of a hundred episodes."""
    scenes = by_scene((seed, seed < 2 and episode == 0) for seed in range(20) for episode in range(5))
    assert clustered_wilson(scenes) == pytest.approx(wilson(0.4, 20))


def test_outcomes_that_do_not_depend_on_the_scene_count_as_often_as_they_are():
    rng = np.random.default_rng(0)
    trials = [
        effective_trials(by_scene((s, rng.random() < 0.4) for s in range(100) for _ in range(3))) for _ in range(50)
    ]
    assert 270 < np.mean(trials) <= 300


def test_intervals_hold_for_scenes_of_different_difficulty():
    """Two policies, three trainings each, on 60 scenes whose difficulty both feel."""
    rng = np.random.default_rng(0)
    held = {"rate": 0, "difference": 0, "as if independent": 0}
    rounds, truth = 1000, (0.5, float(beta(0.7, 0.7).expect(lambda x: np.minimum(1, x + 0.1))) - 0.5)
    for _ in range(rounds):
        ease = rng.beta(0.7, 0.7, 60)
        mine, theirs = (
            by_scene((s, rng.random() < min(1.0, ease[s] + more)) for s in range(60) for _ in range(3))
            for more in (0.0, 0.1)
        )
        low, high = clustered_wilson(mine)
        held["rate"] += low <= truth[0] <= high
        low, high = difference_interval(theirs, mine)
        held["difference"] += low <= truth[1] <= high
        low, high = wilson(sum(hits for hits, _ in mine.values()), 180)
        held["as if independent"] += low <= truth[0] <= high
    assert 0.93 < held["rate"] / rounds < 0.97 and 0.93 < held["difference"] / rounds < 0.975
    assert held["as if independent"] / rounds < 0.9


def test_trainings_are_compared_by_welch():
    mine, theirs = [0.54, 0.59, 0.63], [0.33, 0.17, 0.36, 0.2]
    expected = ttest_ind(mine, theirs, equal_var=False).confidence_interval()
    assert welch(mine, theirs) == pytest.approx((expected.low, expected.high))
    assert welch([0.5], theirs) is None
    assert welch([0.5, 0.5], [0.2, 0.2]) == pytest.approx((0.3, 0.3))
