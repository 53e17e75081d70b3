"""Wilson's interval against scipy, and its properties."""

import pytest
from scipy.stats import binomtest

from posa_vla.evaluation.intervals import wilson


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
