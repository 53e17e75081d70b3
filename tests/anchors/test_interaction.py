"""Gripper events: hysteresis, debouncing, what starts the list and what is dropped."""

from itertools import pairwise

import numpy as np
import pytest

from posa_vla.anchors.interaction import (
    InteractionConfig,
    closed_states,
    find_interactions,
    finger_signal,
    holds_nothing,
    next_event,
)
from posa_vla.errors import PosaError

CONFIG = InteractionConfig(close_above=0.6, open_below=0.4, min_steps=3)


def signal(*runs: tuple[float, int]) -> np.ndarray:
    return np.concatenate([np.full(length, value) for value, length in runs])


def ramps(*stops: tuple[float, int], frames: int = 10) -> np.ndarray:
    """(value, frames at it), with a ramp from each value to the next."""
    parts = [np.full(stops[0][1], stops[0][0])]
    for (before, _), (value, length) in pairwise(stops):
        parts += [np.linspace(before, value, frames + 2)[1:-1], np.full(length, value)]
    return np.concatenate(parts)


def delayed(values: np.ndarray, frames: int) -> np.ndarray:
    return np.append(np.full(frames, values[0]), values)[: len(values)]


def reference_states(values: np.ndarray, config: InteractionConfig) -> list[bool]:
    """One frame at a time: a change is taken, from its first frame on, once it has lasted long enough."""
    definite = [True if x >= config.close_above else False if x <= config.open_below else None for x in values]
    held, state = [], False
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


RAMPED = InteractionConfig()
MISS = ramps((0.08, 20), (0.0, 20), (0.08, 20))


def test_a_close_on_nothing_is_dropped_where_the_fingers_reopen_before_the_state_does():
    """A measured width is no step: when it says open, the fingers have been on their way for some frames."""
    events = find_interactions(1 - MISS / 0.08, RAMPED, MISS)
    assert events.frames.size == 0 and events.dropped == 1
    assert find_interactions(finger_signal(MISS, 0.08, RAMPED), RAMPED, MISS).dropped == 1


@pytest.mark.parametrize("lag", [0, 1, 2, 4])
@pytest.mark.parametrize("noise", [0, 0.0005])
def test_a_close_on_nothing_is_dropped_where_a_ramped_command_leads_the_fingers(lag, noise):
    command = 1 - MISS / 0.08  # a leader arm's
    width = delayed(MISS, lag) + np.random.default_rng(lag).uniform(-noise, noise, len(MISS))
    events = find_interactions(command, RAMPED, width)
    assert events.frames.size == 0 and events.dropped == 1


@pytest.mark.parametrize("lag", [0, 1, 2, 4])
@pytest.mark.parametrize("thick", [0.004, 0.02, 0.045])
def test_a_ramped_grasp_is_kept_whatever_its_width(lag, thick):
    width = delayed(np.maximum(MISS, thick), lag)
    events = find_interactions(1 - MISS / 0.08, RAMPED, width)
    assert events.closes.tolist() == [True, False] and events.dropped == 0


def test_a_dip_of_the_sensor_drops_no_grasp():
    width = np.maximum(MISS, 0.03)
    width[35] = 0.0
    assert not holds_nothing(width[25:55], RAMPED)
    assert find_interactions(1 - MISS / 0.08, RAMPED, width).closes.tolist() == [True, False]
    width[35:38] = 0.0
    assert holds_nothing(width[25:55], RAMPED)  # as long as that the object is lost


def test_fingers_that_miss_and_close_again_on_something_hold_it():
    """They open half way, which is no opening yet, and take the object the second time."""
    command = ramps((0.0, 20), (1.0, 10), (0.5, 1), (1.0, 20), (0.0, 20))
    width = np.maximum(0.08 * (1 - command), np.where(np.arange(len(command)) < 50, 0, 0.03))
    events = find_interactions(command, RAMPED, width)
    assert events.closes.tolist() == [True, False] and events.dropped == 0
    assert find_interactions(command, RAMPED, 0.08 * (1 - command)).dropped == 1  # the second time on nothing too


def test_fingers_still_shut_from_before_may_take_something():
    """They follow the command: at its first frame they are on their way from shut to open."""
    command = signal((1, 10), (0, 6), (1, 20), (0, 10))
    width = delayed(signal((0.0, 10), (0.06, 6), (0.03, 20), (0.08, 10)), 7)
    assert find_interactions(command, RAMPED, width).frames.tolist() == [16, 36]


def test_a_gripper_that_starts_half_open_and_closes_has_its_events():
    values = ramps((0.5, 20), (1.0, 20), (0.0, 20))
    assert find_interactions(values, RAMPED).closes.tolist() == [True, False]
    assert find_interactions(ramps((0.5, 20), (0.0, 20)), RAMPED).frames.size == 0


def test_an_object_held_from_the_start_is_let_go():
    """Demonstrations of placing alone: the width proves the grasp."""
    command = signal((1, 20), (0, 20))
    width = delayed(signal((0.03, 20), (0.08, 20)), 3)
    events = find_interactions(command, RAMPED, width)
    assert events.frames.tolist() == [20] and events.closes.tolist() == [False] and events.dropped == 0
    assert find_interactions(command, RAMPED).frames.size == 0  # nothing says that something was held
    of_width = find_interactions(finger_signal(width, 0.08, RAMPED), RAMPED, width)
    assert of_width.frames.tolist() == [23]


@pytest.mark.parametrize("lag", [0, 4])
def test_an_arm_that_rests_closed_lets_nothing_go_at_first(lag):
    command = ramps((1.0, 20), (0.0, 40), (1.0, 40), (0.0, 20), (1.0, 20))
    width = delayed(0.08 * (1 - command), lag)
    width[75:125] = np.maximum(width[75:125], 0.03)  # the grasp
    events = find_interactions(command, RAMPED, width)
    assert events.closes.tolist() == [True, False] and events.frames[0] > 60
    assert events.dropped == 1  # it closes on nothing at the end
    assert find_interactions(command, RAMPED).closes.tolist() == [True, False, True]


def test_a_command_left_over_from_before_lets_nothing_go():
    command, width = signal((1, 1), (0, 20)), np.full(21, 0.08)
    assert find_interactions(command, RAMPED, width).frames.size == 0


@pytest.mark.parametrize("opened", [0.08, 0.1])  # the rig's, of fingers that open 0.08
@pytest.mark.parametrize("thick", [0.005, 0.025, 0.045, 0.06])
def test_a_measured_width_sees_objects_of_any_width(thick, opened):
    width = ramps((0.08, 40), (thick, 40), (0.08, 40))
    width += np.random.default_rng(0).uniform(-0.0005, 0.0005, len(width))
    events = find_interactions(finger_signal(width, opened, RAMPED), RAMPED, width)
    assert events.closes.tolist() == [True, False] and events.dropped == 0
    first, second = events.frames.tolist()
    assert 40 <= first < 50 and 90 <= second < 100  # while the fingers move


def test_fingers_that_open_no_further_than_they_need_are_seen_every_time():
    width = ramps((0.08, 20), (0.045, 20), (0.06, 20), (0.045, 20), (0.06, 20))
    events = find_interactions(finger_signal(width, 0.08, RAMPED), RAMPED, width)
    assert events.closes.tolist() == [True, False, True, False]


def test_a_measured_width_that_starts_half_open():
    grasp = ramps((0.04, 20), (0.02, 20), (0.06, 20))
    assert find_interactions(finger_signal(grasp, 0.08, RAMPED), RAMPED, grasp).closes.tolist() == [True, False]
    opens = ramps((0.04, 20), (0.08, 20), (0.02, 20))
    assert find_interactions(finger_signal(opens, 0.08, RAMPED), RAMPED, opens).closes.tolist() == [True]


def test_the_finger_signal_is_where_they_are_since_they_turned():
    width = 0.08 * (1 - np.array([0.0, 0.1, 0.25, 0.5, 0.4, 0.3, 0.2, 0.1, 0.2]))
    expected = [0, 0.4, 1, 1, 0.6, 0.2, 0, 0, 0.4]
    np.testing.assert_allclose(finger_signal(width, 0.08, RAMPED), expected, atol=1e-9)
    assert finger_signal(np.array([0.08, 0.04, 0.0]), 0.08, RAMPED).tolist() == [0, 1, 1]
    assert finger_signal(np.zeros(3), 0.08, RAMPED).tolist() == [1, 1, 1]  # begins closed
    noise = 0.04 + np.random.default_rng(1).uniform(-0.004, 0.004, 300)
    assert not closed_states(finger_signal(noise, 0.08, RAMPED), RAMPED).any()


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
