"""Each failure signature appears on synthetic numbers that show it, and only there."""

import pytest

from posa_vla.errors import PosaError
from posa_vla.training.diagnostics import THRESHOLDS, Watch, check_finite, failure_signs

HEALTHY = {
    "loss": 1.0,
    "map_contrast_task": 0.6,
    "map_contrast_end": 0.7,
    "end_map_peak": 0.8,
    "same_task_pairs": 126.0,
}


@pytest.mark.parametrize(
    ("key", "limit", "sign", "advice"),
    [
        ("map_contrast_task", THRESHOLDS.map_contrast, "flat_task_map", "nearly uniform"),
        ("map_contrast_end", THRESHOLDS.map_contrast, "flat_end_map", "nearly uniform"),
        ("end_map_peak", THRESHOLDS.end_map_peak, "end_map_collapsed", "collapsed"),
        ("same_task_pairs", THRESHOLDS.pairs_per_sample * 64, "few_same_task_pairs", "--sampler=task_balanced"),
    ],
)
def test_a_signature_starts_exactly_at_its_threshold(key, limit, sign, advice):
    assert failure_signs(HEALTHY, 64, warm=True) == {}
    worse, better = limit * 0.99, limit * 1.01
    signs = failure_signs(HEALTHY | {key: worse}, 64, warm=True)
    assert list(signs) == [sign] and advice in signs[sign]
    assert failure_signs(HEALTHY | {key: better}, 64, warm=True) == {}


def test_flat_maps_are_normal_before_warmup_is_over():
    flat = HEALTHY | {"map_contrast_task": 0.0, "map_contrast_end": 0.0, "end_map_peak": 0.0}
    assert failure_signs(flat, 64, warm=False) == {}
    assert len(failure_signs(flat, 64, warm=True)) == 3


def test_what_an_ablation_does_not_log_is_not_judged():
    assert failure_signs({"loss": 1.0, "action_loss": 1.0}, 64, warm=True) == {}


def test_a_warning_is_said_once_while_it_lasts_and_again_when_it_returns():
    watch = Watch()
    assert watch.news({"a": "first"}) == ["first"]
    assert watch.news({"a": "first, still", "b": "second"}) == ["second"]
    assert watch.news({}) == []
    assert watch.news({"a": "back"}) == ["back"]


def test_a_loss_that_is_not_finite_stops_the_run():
    check_finite(HEALTHY, 7)
    for value in (float("nan"), float("inf")):
        with pytest.raises(PosaError, match="focal_loss became not a number by step 7"):
            check_finite(HEALTHY | {"focal_loss": value}, 7)
