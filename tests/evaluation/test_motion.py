"""Path length and smoothness against closed forms."""

import numpy as np
import pytest

from posa_vla.evaluation.motion import log_dimensionless_jerk, path_length

MINIMUM_JERK = -np.log(720 / 1.875**2)
"""∫ jerk² dt = 720 A²/D⁵ and v_peak = 1.875 A/D (Flash & Hogan 1985), so the dimensionless jerk is 204.8."""


def minimum_jerk(samples: int, amplitude: float = 0.3) -> np.ndarray:
    t = np.linspace(0, 1, samples)[:, None]
    return amplitude * np.array([[0.6, 0.0, -0.8]]) * (10 * t**3 - 15 * t**4 + 6 * t**5)


def test_minimum_jerk_has_its_analytic_smoothness():
    fine = log_dimensionless_jerk(minimum_jerk(2001), dt=1 / 2000)
    assert fine == pytest.approx(MINIMUM_JERK, abs=0.01)
    at_20_hz = log_dimensionless_jerk(minimum_jerk(41), dt=1 / 20)
    assert at_20_hz == pytest.approx(MINIMUM_JERK, abs=0.25)


def test_does_not_depend_on_size_duration_place_or_direction():
    track = minimum_jerk(60)
    value = log_dimensionless_jerk(track, 0.05)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    for same, dt in (
        (5 * track, 0.05),
        (track, 0.2),
        (track + 3, 0.05),
        (track @ rotation.T, 0.05),
        (track[::-1], 0.05),
    ):
        assert log_dimensionless_jerk(same, dt) == pytest.approx(value, rel=1e-6)


def test_tremor_and_stops_are_less_smooth():
    track = minimum_jerk(60)
    smooth = log_dimensionless_jerk(track, 0.05)
    tremor = track + 0.003 * np.sin(np.arange(60) * 1.7)[:, None]
    two_moves = np.concatenate([minimum_jerk(30), minimum_jerk(30)[-1] + minimum_jerk(30)])
    assert log_dimensionless_jerk(tremor, 0.05) < smooth - 1
    assert log_dimensionless_jerk(two_moves, 0.05) < smooth - 1


def test_no_movement_has_no_smoothness():
    assert log_dimensionless_jerk(np.zeros((30, 3)), 0.05) is None
    assert log_dimensionless_jerk(minimum_jerk(4), 0.05) is None


def test_path_length():
    assert path_length(minimum_jerk(50)) == pytest.approx(0.3)
    angle = np.linspace(0, 2 * np.pi, 2000)
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    assert path_length(0.1 * circle) == pytest.approx(0.2 * np.pi, rel=1e-5)
    assert path_length(np.zeros((1, 3))) == 0
