"""Cameras of known place and lens, and hand poses that show them a board: the truth of the benchmark and the tests."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.anchors.camera import Mount
from posa_vla.anchors.pose import homogeneous
from posa_vla.calibration.boards import Board, View
from posa_vla.calibration.drawing import Lens
from posa_vla.calibration.intrinsics import distorted

SIZE = (640, 480)
DOWN = Rotation.from_euler("x", 180, degrees=True)
"""A hand that points at the table."""
MARGIN = 15
"""Pixels between the board and the picture's edge."""


@dataclass(frozen=True)
class Placement:
    """One true camera.

    Args:
        name: for the table.
        mount: world or end_effector.
        lens: its lens.
        cam_from_mount: (4, 4).
        tilt: degrees up to which the board is tilted against the picture.
        near, far: metres from the camera between which the board is shown.
    """

    name: str
    mount: Mount
    lens: Lens
    cam_from_mount: np.ndarray
    tilt: float = 40.0
    near: float = 0.35
    far: float = 0.75


def placements() -> list[Placement]:
    """Three cameras around a table and three on a hand, of other lenses each."""
    around = {
        "front, high": ((1.2, 0.0, 0.8), (0.45, 0.0, 0.1), _lens(610.0, (-0.08, 0.06, 0.0005, -0.0003))),
        "left shoulder": ((0.0, 0.75, 0.7), (0.5, 0.0, 0.1), _lens(520.0, (-0.02, 0.01, 0.0, 0.0))),
        "from above": ((0.5, 0.1, 1.3), (0.45, 0.0, 0.0), _lens(700.0, (0.03, -0.05, -0.0004, 0.0006))),
    }
    on_hand = {
        "beside, tilted": ((0.07, 0.0, -0.06), (0.0, -20.0, 90.0), _lens(450.0, (-0.03, 0.02, 0.0004, 0.0))),
        "behind, upside down": ((-0.05, 0.03, -0.10), (10.0, 5.0, 180.0), _lens(600.0, (0.02, -0.03, 0.0, 0.0005))),
        "wide, looking along": ((0.0, 0.08, -0.02), (25.0, 0.0, 0.0), _lens(380.0, (-0.06, 0.03, 0.0, 0.0))),
    }
    found = []
    for name, (place, target, lens) in around.items():
        found.append(Placement(name, "world", lens, looking(np.array(place), np.array(target)), near=0.45, far=0.9))
    for name, (place, angles, lens) in on_hand.items():
        turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        found.append(Placement(name, "end_effector", lens, np.linalg.inv(homogeneous(turn, np.array(place)))))
    return found


def _lens(focal: float, distortion: tuple[float, ...]) -> Lens:
    matrix = np.array([[focal, 0, SIZE[0] / 2 + 4], [0, focal * 1.002, SIZE[1] / 2 - 6], [0, 0, 1]])
    return Lens(matrix, np.array(distortion), SIZE)


def looking(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """cam_from_world (4, 4) of a camera at a place (3,) m that looks at a target, upright."""
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, (0, 0, 1) if abs(forward[2]) < 0.99 else (1, 0, 0))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return homogeneous(rotation, -rotation @ place)


@dataclass(frozen=True)
class Session:
    """A board shown to a camera.

    Args:
        cam_from_board: (V, 4, 4).
        world_from_ee: (V, 4, 4), exact.
        last: Y (4, 4): ee_from_board, or world_from_board for a camera on the hand.
    """

    cam_from_board: np.ndarray
    world_from_ee: np.ndarray
    last: np.ndarray


def show(placement: Placement, board: Board, count: int, rng: np.random.Generator) -> Session:
    """The board near and far, in the middle and at the edges, tilted all ways: what the guide asks for."""
    on_hand = placement.mount == "end_effector"
    corners = board.corners()
    centre = homogeneous(np.eye(3), -corners.mean(axis=0))
    if on_hand:
        last = homogeneous(Rotation.from_euler("z", 30, degrees=True).as_matrix(), np.array([0.45, -0.05, 0.01]))
    else:
        last = homogeneous(Rotation.from_euler("yz", [12, 70], degrees=True).as_matrix(), np.array([0.02, -0.01, 0.05]))
    seen = []
    while len(seen) < count:
        lean = Rotation.from_rotvec(np.radians(placement.tilt) * _in_disc(rng))
        turn = lean * Rotation.from_euler("z", rng.uniform(-180, 180), degrees=True)
        depth = rng.uniform(placement.near, placement.far)
        pixel = rng.uniform(0.2, 0.8, 2) * placement.lens.size
        way = np.linalg.inv(placement.lens.matrix) @ [*pixel, 1.0] * depth
        pose = homogeneous(turn.as_matrix(), way) @ centre
        pixels = distorted(_moved(pose, corners), placement.lens.matrix, placement.lens.distortion)
        if (pixels > MARGIN).all() and (pixels < np.array(placement.lens.size) - MARGIN).all():
            seen.append(pose)
    poses = np.stack(seen)
    # cam_from_board = X A Y
    middle = np.linalg.inv(placement.cam_from_mount) @ poses @ np.linalg.inv(last)
    return Session(poses, np.linalg.inv(middle) if on_hand else middle, last)


def exact_views(placement: Placement, board: Board, session: Session) -> list[View | None]:
    """Where the lens shows each corner, without a picture."""
    corners = board.corners()
    return [
        View(f"{i:02}.png", corners, distorted(_moved(p, corners), placement.lens.matrix, placement.lens.distortion))
        for i, p in enumerate(session.cam_from_board)
    ]


def recorded(world_from_ee: np.ndarray, metres: float, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """Poses (V, 4, 4) with noise, standard deviations along each axis."""
    noisy = world_from_ee.copy()
    noisy[:, :3, 3] += rng.normal(size=(len(noisy), 3)) * metres
    turns = Rotation.from_rotvec(rng.normal(size=(len(noisy), 3)) * degrees, degrees=True).as_matrix()
    noisy[:, :3, :3] = turns @ noisy[:, :3, :3]
    return noisy


def workspace(placement: Placement, rng: np.random.Generator, count: int = 500) -> np.ndarray:
    """(count, 3) m in the mount's frame: places inside the picture, as far away as the board was shown."""
    pixels = rng.uniform(0, 1, (count, 2)) * placement.lens.size
    rays = np.concatenate([pixels, np.ones((count, 1))], axis=1) @ np.linalg.inv(placement.lens.matrix).T
    points = rays * rng.uniform(placement.near, placement.far, (count, 1))
    return _moved(np.linalg.inv(placement.cam_from_mount), points)


def _moved(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ pose[:3, :3].T + pose[:3, 3]


def _in_disc(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.sqrt(rng.uniform()) * np.array([np.cos(angle), np.sin(angle), 0])
