"""Wilson's interval against scipy, and its properties."""

import pytest
from scipy.stats import binomtest

from posa_vla.evaluation.intervals import newcombe, wilson


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
def test_difference_agrees_with_newcombes_table(counts, published):
    """Newcombe (1998), Table II, method 10."""
    assert newcombe(*counts) == pytest.approx(published, abs=5e-5)


def test_difference_is_antisymmetric_and_knows_nothing_without_trials():
    low, high = newcombe(30, 50, 20, 60)
    assert newcombe(20, 60, 30, 50) == pytest.approx((-high, -low))
    assert newcombe(0, 0, 3, 5) == (-1, 1)
