"""A camera on the hand from pixels of points that rest in the world: where the points are is found with it.

With the rotation and the focal length given, every mark is a ray, and camera position and points solve a linear
problem. So rotations and focal lengths are tried on a grid, and the best are refined.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.calibration.adjustment import Estimate, Sightings, adjust, fit, trust
from posa_vla.calibration.pinhole import Pinhole, image_centre

FOCALS = np.geomspace(0.45, 2.6, 7)
"""Focal lengths to try, in image widths (the longer side): 96 to 22 degrees of view."""
ROTATIONS = 1500
"""Rotations to try, uniformly spread: the nearest is some 15 degrees from the truth."""
REWEIGHTED = 4
IMPROVED, QUICK = 24, 15
"""How many guesses are improved, and with how many steps, before the best `REFINED` are carried to the end."""
REFINED = 3
SHARE = 0.02
"""Of the image's longer side: an error beyond it counts like any mistake when refined guesses are compared."""
REACH = 0.5
"""Metres: a camera on the hand is hardly farther than this from the hand's own frame, and points from it."""
WEAK = 0.03
"""Radians: how weakly the linear problem holds positions near 0 ± REACH, against an open direction."""
COARSE = 0.12
"""Radians: errors of rays beyond this count as mistakes while the rotation is a guess."""


def fit_hand(
    world_from_ee: np.ndarray,
    pixels: np.ndarray,
    landmark: np.ndarray,
    size: tuple[int, int],
    focal: float | None = None,
    principal: tuple[float, float] | None = None,
    height: float | None = None,
) -> Estimate | None:
    """Hand poses (N, 4, 4), OpenCV pixels (N, 2) and the marked landmark (N,) -> the camera in the hand's frame.

    None where nothing agrees.

    Args:
        size: width and height of the image in pixels.
        focal: pixels, where it is known; None estimates it.
        principal: OpenCV pixels; None takes the image's centre.
        height: m, known world height of all the points marked.
    """
    principal = image_centre(size) if principal is None else principal
    ee_from_world = np.linalg.inv(world_from_ee)
    sightings = Sightings(pixels, ee_from_world, landmark, height=height)
    candidates = []
    for guess in [focal] if focal else FOCALS * max(size):
        candidates += _candidates(sightings, world_from_ee, float(guess), principal)
    candidates.sort(key=lambda item: item[0])
    improved = []
    for _, camera, landmarks in candidates[:IMPROVED]:
        trusted = trust(camera, landmarks, sightings)
        camera, landmarks, _ = adjust(camera, landmarks, sightings, trusted, focal is not None, "soft_l1", QUICK)
        points = sightings.in_mount(np.nan_to_num(landmarks))
        lengths = np.linalg.norm(camera.project(points) - pixels, axis=1)
        improved.append((float(np.minimum(lengths / (SHARE * max(size)), 1).sum()), camera, landmarks))
    improved.sort(key=lambda item: item[0])
    estimates = [fit(camera, landmarks, sightings, focal is not None) for _, camera, landmarks in improved[:REFINED]]
    estimates = [estimate for estimate in estimates if estimate.trusted.sum() >= 4]
    return min(estimates, key=lambda estimate: _cost(estimate, max(size)), default=None)


def _candidates(
    sightings: Sightings, world_from_ee: np.ndarray, focal: float, principal: tuple[float, float]
) -> list[tuple[float, Pinhole, np.ndarray]]:
    """(cost, camera, landmarks) for the best of the rotations tried at one focal length."""
    rotations = Rotation.random(ROTATIONS, random_state=0).as_matrix()  # cam_from_ee, (G, 3, 3)
    rays = np.concatenate([(sightings.pixels - principal) / focal, np.ones((len(sightings), 1))], axis=1)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    turn, place = world_from_ee[:, :3, :3], world_from_ee[:, :3, 3]
    world_rays = np.einsum("nij,gkj,nk->gni", turn, rotations, rays)
    costs, positions, landmarks = _solve(world_rays, turn, place, sightings)
    best = np.argsort(costs)[:IMPROVED]
    return [(float(costs[g]), Pinhole(rotations[g], positions[g], focal, principal), landmarks[g]) for g in best]


def _solve(
    rays: np.ndarray, turn: np.ndarray, place: np.ndarray, sightings: Sightings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rays (G, N, 3) in the world -> costs (G,), camera positions (G, 3) in the hand, landmarks (G, K, 3).

    Minimises the distances of landmarks from rays, reweighted to angles and to their first power, so that wrong
    marks count little.
    """
    G, N, _ = rays.shape
    landmark, K = sightings.landmark, int(sightings.landmark.max()) + 1
    design = np.zeros((N, 3, 3 + 3 * K))  # landmark − turn·position: the way from camera to landmark, less place
    design[:, :, :3] = -turn
    for n in range(N):
        design[n, :, 3 + 3 * landmark[n] : 6 + 3 * landmark[n]] = np.eye(3)
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]  # (G, N, 3, 3)
    hold = np.full(3 + 3 * K, (WEAK / REACH) ** 2)
    start = np.concatenate([np.zeros(3), np.tile(place.mean(axis=0), K)])
    weights = np.full((G, N), 1 / REACH**2)
    for _ in range(REWEIGHTED):
        normal = np.einsum("gn,nai,gnab,nbj->gij", weights, design, across, design, optimize=True)
        normal[:, range(len(hold)), range(len(hold))] += hold
        target = place - design @ start  # (N, 3)
        right = np.einsum("gn,nai,gnab,nb->gi", weights, design, across, target, optimize=True)
        solution = start + np.linalg.solve(normal, right[..., None])[..., 0]
        way = np.einsum("nai,gi->gna", design, solution) - place
        distance = np.maximum(np.linalg.norm(way, axis=2), 0.02)
        angle = np.linalg.norm(np.einsum("gnab,gnb->gna", across, way), axis=2) / distance
        angle = np.where(np.einsum("gna,gna->gn", way, rays) > 0, angle, np.pi)  # behind the camera
        weights = 1 / (distance**2 * np.maximum(angle, 0.01) / 0.05)
    costs = np.minimum(angle / COARSE, 1).sum(axis=1)
    return costs, solution[:, :3], solution[:, 3:].reshape(G, K, 3)


def _cost(estimate: Estimate, scale: int) -> float:
    """Truncated errors of all marks, the untrusted at full price."""
    threshold = SHARE * scale
    lengths = np.where(estimate.trusted, estimate.lengths / threshold, 1)
    return float(np.minimum(lengths, 1).sum())
