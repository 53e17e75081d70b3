"""Gripper events: hysteresis, debouncing, what starts the list and what is dropped."""

import numpy as np
import pytest

from posa_vla.anchors.interaction import InteractionConfig, closed_states, find_interactions, next_event
from posa_vla.errors import PosaError

CONFIG = InteractionConfig(close_above=0.6, open_below=0.4, min_steps=3)


def signal(*runs: tuple[float, int]) -> np.ndarray:
    return np.concatenate([np.full(length, value) for value, length in runs])


def reference_states(values: np.ndarray, config: InteractionConfig) -> list[bool]:
    """One frame at a time: a change is taken, from its first frame on, once it has lasted long enough."""
    definite = [True if x >= config.close_above else False if x <= config.open_below else None for x in values]
    known = [state for state in definite if state is not None]
    if not known:
        return [False] * len(values)
    held, state = [], known[0]
    for now in definite:
        state = state if now is None else now
        held.append(state)
    current, result = held[0], []
    for t, now in enumerate(held):
        if now != current:
            ahead = held[t : t + config.min_steps]
            if len(ahead) == config.min_steps and all(x == now for x in ahead):
                current = now
        result.append(current)
    return result


@pytest.mark.parametrize("min_steps", [1, 2, 4])
def test_states_equal_a_frame_by_frame_reference(min_steps):
    config = InteractionConfig(min_steps=min_steps)
    rng = np.random.default_rng(min_steps)
    for _ in range(300):
        steps = rng.choice([-0.5, -0.1, 0, 0, 0, 0.1, 0.5], size=rng.integers(1, 60))
        values = np.clip(rng.random() + np.cumsum(steps), 0, 1)
        assert closed_states(values, config).tolist() == reference_states(values, config)


def test_noise_inside_the_hysteresis_makes_no_event():
    rng = np.random.default_rng(0)
    noisy = np.clip(signal((0.3, 30), (0.7, 30), (0.3, 30)) + rng.uniform(-0.29, 0.29, 90), 0, 1)
    open_part, closed_part = noisy[:30] < 0.6, noisy[30:60] > 0.4
    assert open_part.all() and closed_part.all() and (noisy[:30] > 0.5).any()  # a single threshold would bounce
    events = find_interactions(noisy, InteractionConfig(min_steps=1))
    assert len(events.frames) == 2 and events.closes.tolist() == [True, False]


def test_bounces_shorter_than_min_steps_are_ignored_and_events_stand_at_the_first_frame():
    values = signal((0, 5), (1, 2), (0, 4), (1, 6), (0, 1), (1, 3), (0, 5))
    events = find_interactions(values, CONFIG)
    assert events.frames.tolist() == [11, 21] and events.closes.tolist() == [True, False]


def test_a_change_cut_off_by_the_end_of_the_episode_is_not_confirmed():
    assert find_interactions(signal((0, 5), (1, 2)), CONFIG).frames.size == 0
    assert find_interactions(signal((0, 5), (1, 3)), CONFIG).frames.tolist() == [5]


def test_an_opening_before_the_first_close_is_no_interaction():
    events = find_interactions(signal((1, 5), (0, 5), (1, 5), (0, 5)), CONFIG)
    assert events.frames.tolist() == [10, 15] and events.closes.tolist() == [True, False]


def test_a_close_on_nothing_is_dropped_with_its_opening_and_counted():
    values = signal((0, 5), (1, 6), (0, 5), (1, 6), (0, 5), (1, 6), (0, 5))
    width = signal((0.08, 6), (0.0, 5), (0.08, 6), (0.04, 5), (0.08, 6), (0.001, 5), (0.08, 5))
    events = find_interactions(values, CONFIG, width)
    assert events.frames.tolist() == [16, 22] and events.dropped == 2
    assert find_interactions(values, CONFIG).dropped == 0  # without a width nothing is known to have missed


def test_an_object_lost_on_the_way_counts_as_a_close_on_nothing():
    values, width = signal((0, 5), (1, 10)), signal((0.08, 6), (0.04, 5), (0.0, 4))
    assert find_interactions(values, CONFIG, width).dropped == 1


def test_a_gripper_that_never_moves_has_no_events():
    for value in (0.0, 0.5, 1.0):
        assert find_interactions(np.full(20, value), CONFIG).frames.size == 0


@pytest.mark.parametrize("frames", [[], [0], [3, 7], [0, 9]])
def test_next_event_is_the_first_at_or_after(frames):
    expected = [next((e for e in frames if e >= t), -1) for t in range(10)]
    assert next_event(np.array(frames, dtype=np.int64), 10).tolist() == expected


def test_bad_thresholds_and_shapes_are_refused():
    with pytest.raises(PosaError, match="open_below < close_above"):
        InteractionConfig(close_above=0.4, open_below=0.6)
    with pytest.raises(ValueError, match="one shape"):
        find_interactions(np.zeros(5), CONFIG, np.zeros(4))
