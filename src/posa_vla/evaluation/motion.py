"""How the hand moved: path length and smoothness of an end-effector track."""

import numpy as np


def path_length(positions: np.ndarray) -> float:
    """Length in metres of the polyline through `positions` (T, 3), metres, world frame."""
    positions = np.asarray(positions, dtype=np.float64)
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())


def log_dimensionless_jerk(positions: np.ndarray, dt: float) -> float | None:
    """Smoothness: log dimensionless jerk of a track (T, 3) in metres, sampled every `dt` seconds.

    LDLJ = -ln( D³ / v_peak² · ∫ |d³x/dt³|² dt ), D the duration: the dimensionless jerk of Hogan & Sternad
    (2009), normalised by the peak speed and logged as in Balasubramanian et al. (2015, eq. 6). Closer to zero
    is smoother; a minimum-jerk reach has -ln 204.8 = -5.32, whatever its length and duration.

    The derivatives are finite differences of the raw track: the integral is the mean squared third
    difference times D, so that the three samples that differencing loses do not shorten the movement. No
    filter is applied, so compare only tracks with the same `dt`. None where nothing moves or T < 5.
    """
    positions = np.asarray(positions, dtype=np.float64)
    if len(positions) < 5:
        return None
    duration = (len(positions) - 1) * dt
    peak_speed = np.linalg.norm(np.diff(positions, axis=0), axis=1).max() / dt
    if peak_speed * duration < 1e-6:
        return None
    jerk = np.diff(positions, n=3, axis=0) / dt**3  # (T - 3, 3)
    squared_jerk = (jerk**2).sum(axis=1).mean() * duration
    if squared_jerk <= 0:
        return None
    return float(-np.log(duration**3 / peak_speed**2 * squared_jerk))
