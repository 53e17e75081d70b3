"""A camera from pixels of places that are known in its mount's frame: robust PnP with unknown focal length.

Places of the hand for a camera in the world; places of later grasps, in the hand's frame, for a camera on the hand.
"""

import cv2
import numpy as np

from posa_vla.calibration.adjustment import Estimate, Sightings, fit
from posa_vla.calibration.pinhole import Pinhole, image_centre

FOCALS = np.geomspace(0.4, 5.0, 22)
"""Focal lengths to try, in image widths (the longer side): 100 to 11 degrees of view, 13 % apart."""
RANSAC_SHARE = 0.02
"""Of the longer side: marks this near to their projection count as agreeing while the focal length is a guess."""
RANSAC_DRAWS = 100
REFINED = 3
"""How many of the best guesses are refined; nearly flat sets of points have two good ones."""


def fit_known(
    sightings: Sightings,
    size: tuple[int, int],
    focal: float | None = None,
    principal: tuple[float, float] | None = None,
) -> Estimate | None:
    """Marks of known landmarks -> the camera in its mount's frame, or None where nothing agrees.

    Args:
        sightings: with `known`.
        size: width and height of the image in pixels.
        focal: pixels, where it is known; None estimates it.
        principal: OpenCV pixels; None takes the image's centre.
    """
    assert sightings.known is not None
    principal = image_centre(size) if principal is None else principal
    points, pixels = sightings.in_mount(sightings.known), sightings.pixels
    scale = max(size)
    guesses = []
    for guess in [focal] if focal else FOCALS * scale:
        camera = _ransac(points, pixels, guess, principal, RANSAC_SHARE * scale)
        if camera is not None:
            guesses.append((_cost(camera, sightings, RANSAC_SHARE * scale), camera))
    guesses.sort(key=lambda pair: pair[0])
    estimates = [fit(camera, sightings.known, sightings, focal is not None) for _, camera in guesses[:REFINED]]
    estimates = [estimate for estimate in estimates if estimate.trusted.sum() >= 4]
    if not estimates:
        return None
    return min(estimates, key=lambda estimate: _cost(estimate.camera, sightings, RANSAC_SHARE * scale))


def _ransac(
    points: np.ndarray, pixels: np.ndarray, focal: float, principal: tuple[float, float], threshold: float
) -> Pinhole | None:
    matrix = np.array([[focal, 0, principal[0]], [0, focal, principal[1]], [0, 0, 1.0]])
    try:
        found, turn, shift, inliers = cv2.solvePnPRansac(
            points, pixels, matrix, None,
            iterationsCount=RANSAC_DRAWS, reprojectionError=threshold, confidence=0.9999, flags=cv2.SOLVEPNP_AP3P,
        )  # fmt: skip
    except cv2.error:  # degenerate draws
        return None
    if not found or inliers is None or not (np.isfinite(turn).all() and np.isfinite(shift).all()):
        return None
    rotation = cv2.Rodrigues(turn)[0]
    return Pinhole(rotation, -rotation.T @ shift.ravel(), float(focal), principal)


def _cost(camera: Pinhole, sightings: Sightings, threshold: float) -> float:
    """Truncated squared error, in units of the threshold: what RANSAC should have minimised."""
    assert sightings.known is not None
    points = sightings.in_mount(sightings.known)
    lengths = np.linalg.norm(camera.project(points) - sightings.pixels, axis=1) / threshold
    lengths[camera.in_camera(points)[:, 2] <= 0] = 1
    return float(np.minimum(lengths**2, 1).sum())
