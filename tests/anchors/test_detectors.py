"""Detectors of interactions on paths and forces whose right answer is known, and the rules that merge them."""

import numpy as np
import pytest

from posa_vla.anchors import contact, dwell
from posa_vla.anchors.contact import ContactConfig, contact_size, find_contacts
from posa_vla.anchors.detectors import DetectorConfig, Signals, detect, detector_names
from posa_vla.anchors.dwell import DwellConfig, find_dwells, hand_speed
from posa_vla.anchors.events import DETECTORS, Event, combine
from posa_vla.anchors.interaction import InteractionConfig, find_interactions
from posa_vla.errors import PosaError

FPS = 20.0


def path(*parts: tuple[float, int]) -> np.ndarray:
    """Speeds along x (m/s) and how many frames each lasts -> positions (T, 3)."""
    speed = np.concatenate([np.full(length, value) for value, length in parts])
    x = np.concatenate([[0.0], np.cumsum(speed[:-1]) / FPS])
    return np.stack([x, np.full(len(x), 0.3), np.full(len(x), 0.1)], axis=1)


def dwells(positions: np.ndarray, fps: float = FPS, **options) -> list[Event]:
    return find_dwells(positions, fps, dwell.resolve(DwellConfig(**options), [positions], fps))


STOPS = path((0.2, 20), (0.0, 10), (0.2, 20), (0.0, 10), (0.2, 5))


def test_a_hand_that_stops_twice_dwells_twice_where_it_stops():
    found = dwells(STOPS)
    assert [(event.frame, event.kind) for event in found] == [(21, "dwell"), (51, "dwell")]
    np.testing.assert_allclose([STOPS[event.frame, 0] for event in found], [0.2, 0.4], atol=1e-9)
    assert found[0].numbers["threshold"] == pytest.approx(0.02) and found[0].numbers["before"] == pytest.approx(0.1)


def test_the_threshold_follows_the_dataset_and_not_the_unit_of_time_or_length():
    frames = [event.frame for event in dwells(STOPS)]
    assert [event.frame for event in dwells(3 * STOPS)] == frames
    config = dwell.resolve(DwellConfig(window=0.05, min_seconds=0.125), [STOPS], 2 * FPS)  # played twice as fast
    assert config.speed == pytest.approx(0.04)
    assert [event.frame for event in find_dwells(STOPS, 2 * FPS, config)] == frames


def test_noise_of_the_pose_neither_makes_nor_splits_a_dwell():
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = dwells(STOPS + rng.normal(scale=0.0005, size=STOPS.shape))
        assert len(found) == 2 and abs(found[0].frame - 21) <= 2 and abs(found[1].frame - 51) <= 2


def test_hysteresis_keeps_one_dwell_while_the_speed_wavers():
    wavering = path((0.2, 20), *[(0.01, 3), (0.045, 1)] * 5, (0.2, 20))
    assert len(dwells(wavering, min_travel=0.0005)) == 1
    assert dwells(wavering, min_travel=0.0005, leave=1.0) == []  # without it the stops are too short to count


def test_a_turn_and_a_short_stop_are_no_dwells():
    turning = path((0.2, 20), (0.0, 2), (-0.2, 20))
    assert dwells(turning) == []


def test_the_rest_before_the_first_motion_is_none_and_the_last_one_is_optional():
    resting = path((0.0, 15), (0.2, 20), (0.0, 12))
    assert [event.frame for event in dwells(resting)] == [36]
    assert dwells(resting)[0].until == len(resting) - 1
    assert dwells(resting, at_end=False) == []


def test_stops_at_one_place_are_one_dwell():
    creeping = path((0.2, 20), (0.0, 10), (0.1, 2), (0.0, 10), (0.2, 20))  # 1 cm on
    assert len(dwells(creeping)) == 1 and len(dwells(creeping, min_travel=0.005)) == 2


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_episodes_have_no_dwell_and_no_error(length):
    config = dwell.resolve(DwellConfig(), [STOPS, STOPS[:length]], FPS)
    assert find_dwells(STOPS[:length], FPS, config) == []
    assert hand_speed(STOPS[:length], FPS, 0.1).shape == (length,)


def test_a_speed_in_another_unit_is_explained():
    with pytest.raises(PosaError, match=r"dwell.speed is 20 m/s, but the hand's speed runs from 0 to 0.2 m/s"):
        dwell.resolve(DwellConfig(speed=20.0), [STOPS], FPS)
    with pytest.raises(PosaError, match="the hand never moves"):
        dwell.resolve(DwellConfig(), [np.zeros((30, 3))], FPS)
    with pytest.raises(PosaError, match="speed must be above 0"):
        DwellConfig(speed=-1.0)


def touches(*parts: tuple[float, int]) -> np.ndarray:
    return np.concatenate([np.full(length, value) for value, length in parts])


def contacts(sizes: np.ndarray, **options) -> list[tuple[int, str]]:
    config = contact.resolve(ContactConfig(**options), [sizes])
    return [(event.frame, event.kind) for event in find_contacts(sizes, FPS, config)]


def test_a_simulators_flag_gives_touch_and_release():
    flag = touches((0, 10), (1, 12), (0, 8))
    assert contacts(flag) == [(10, "touch"), (22, "release")]
    assert contacts(flag, release=False) == [(10, "touch")]


def test_chatter_and_spikes_shorter_than_min_seconds_are_none():
    chatter = touches((0, 9), (1, 1), (0, 11), (1, 6), (0, 1), (1, 6), (0, 9))
    assert contacts(chatter) == [(21, "touch"), (34, "release")]
    assert contacts(chatter, gap_seconds=0) == [(21, "touch"), (34, "release")]


def test_a_row_of_taps_is_one_contact_from_the_first_to_the_last():
    push = touches((0, 20), *[(1, 1), (0, 4)] * 3, (1, 1), (0, 10), (1, 2), (0, 11), (1, 2), (0, 15))
    assert contacts(push) == [(20, "touch"), (48, "release"), (59, "touch"), (61, "release")]
    assert contacts(push, gap_seconds=0) == [(46, "touch"), (48, "release"), (59, "touch"), (61, "release")]


def test_a_contact_at_the_start_is_no_touch_and_its_glitch_no_release():
    assert contacts(touches((1, 10), (0, 10))) == [(10, "release")]
    assert contacts(touches((1, 1), (0, 11), (1, 10))) == [(12, "touch")]


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_a_noisy_force_with_impacts_is_cut_in_any_unit(unit):
    rng = np.random.default_rng(1)
    for _ in range(30):
        force = np.abs(rng.normal(scale=0.1, size=120))
        force[40:80] = 3 + rng.exponential(2.0, 40)
        force[40] = 60  # an impact
        assert contacts(unit * force) == [(40, "touch"), (80, "release")]


def test_one_hard_blow_does_not_hide_the_touches_of_the_other_episodes():
    rng = np.random.default_rng(2)
    episodes = [touches((0, 30), (force, 12), (0, 18)) for force in rng.uniform(1, 4, 20)]
    episodes[7][20:44] = rng.uniform(60, 90, 24)  # 2 % of all frames, at twenty times the force of a push
    config = contact.resolve(ContactConfig(), episodes)
    assert all(len(find_contacts(sizes, FPS, config)) == 2 for sizes in episodes)


def test_short_episodes_of_noise_are_not_taken_for_touches():
    rng = np.random.default_rng(3)
    with pytest.raises(PosaError, match="shows no two levels"):
        contact.resolve(ContactConfig(), [np.abs(rng.normal(5, 1, 30)) for _ in range(60)])


def test_an_offset_is_taken_off_where_asked():
    wrench = np.tile([0.0, -9.0, 2.0], (60, 1))
    wrench[30:45] += [0.0, 9.0, 1.0]  # with the offset the norm gets smaller
    sizes = contact_size(wrench, FPS, rest=True)
    assert contacts(sizes) == [(30, "touch"), (45, "release")]
    assert contact_size(wrench, FPS, rest=False)[30] < contact_size(wrench, FPS, rest=False)[0]


def test_signals_that_say_nothing_are_refused():
    with pytest.raises(PosaError, match="is 2 in all 50 frames"):
        contacts(np.full(50, 2.0))
    with pytest.raises(PosaError, match="shows no two levels"):
        contacts(np.random.default_rng(0).normal(5, 1, 4000))
    with pytest.raises(PosaError, match="never passes between off=500 and on=900"):
        contacts(touches((0, 10), (4, 10)), on=900.0, off=500.0)
    with pytest.raises(PosaError, match="both on and off or neither"):
        ContactConfig(on=1.0)


def event(frame: int, detector: str, until: int | None = None) -> Event:
    kind = {"gripper": "close", "contact": "touch", "dwell": "dwell", "end": "end"}[detector]
    return Event(frame, detector, kind, frame if until is None else until)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "taken", "merged"),
    [
        ([event(20, "dwell", 30), event(25, "gripper")], [(25, "gripper")], [(20, 25)]),
        ([event(20, "dwell", 30), event(40, "gripper")], [(40, "gripper")], [(20, 40)]),
        ([event(20, "dwell", 30), event(41, "gripper")], [(20, "dwell"), (41, "gripper")], []),
        ([event(31, "contact"), event(25, "gripper")], [(25, "gripper")], [(31, 25)]),
        ([event(5, "gripper"), event(7, "gripper")], [(5, "gripper"), (7, "gripper")], []),
        ([event(90, "dwell", 99), event(99, "end")], [(90, "dwell")], [(99, 90)]),
        ([event(60, "dwell", 70), event(99, "end")], [(60, "dwell"), (99, "end")], []),
        # the contact is merged into the gripper and cannot take the dwell with it
        (
            [event(50, "gripper"), event(60, "contact"), event(70, "dwell")],
            [(50, "gripper"), (70, "dwell")],
            [(60, 50)],
        ),
    ],
)
def test_merging(found, taken, merged):
    for order in (found, found[::-1]):
        result = combine(order, merge_steps=10)
        assert [(item.frame, item.detector) for item in result.events] == taken
        assert [(item.frame, item.merged_into) for item in result.merged] == merged
        assert result.frames.tolist() == [frame for frame, _ in taken]
        assert result.closes.tolist() == [detector == "gripper" for _, detector in taken]


def test_the_gripper_alone_gives_exactly_its_own_list():
    rng = np.random.default_rng(3)
    for _ in range(100):
        signal = np.repeat(rng.integers(0, 2, 20), rng.integers(1, 8, 20)).astype(float)
        width = rng.uniform(0, 0.01, len(signal))
        own = find_interactions(signal, InteractionConfig(), width)
        signals = Signals(rng.normal(size=(len(signal), 3)), signal, width)
        result = detect(signals, DetectorConfig(), InteractionConfig(), FPS)
        assert result.frames.tolist() == own.frames.tolist() and result.dropped == own.dropped
        assert result.closes.tolist() == own.closes.tolist() and result.merged == ()


def test_names_are_read_in_any_order_and_unknown_ones_listed():
    assert detector_names("dwell, gripper") == ("gripper", "dwell") and DETECTORS[0] == "gripper"
    with pytest.raises(PosaError, match="unknown detector 'dwel': choose one of contact, dwell, end, gripper"):
        detector_names("gripper,dwel")
    with pytest.raises(PosaError, match="expected different detectors"):
        detector_names("dwell,dwell")
