"""Pictures of a board through a camera that is known exactly: what calibration is measured and tested on."""

from dataclasses import dataclass

import cv2
import numpy as np

from posa_vla.calibration.boards import Board

PIXELS_PER_SQUARE = 96
FINER = 2
"""Rays through every pixel along each axis."""
BLUR = 0.7
"""Standard deviation of the lens's blur, pixels."""
GREY_NOISE = 3.0
"""Standard deviation of the sensor's noise, of 255 grey levels."""
BLACK, WHITE, BACKGROUND = 35, 215, 120
"""Grey levels: no print is black, no paper white."""


@dataclass(frozen=True)
class Lens:
    """The true lens.

    Args:
        matrix: (3, 3) OpenCV's K, pixels.
        distortion: (4,) k1, k2, p1, p2.
        size: (width, height), pixels.
    """

    matrix: np.ndarray
    distortion: np.ndarray
    size: tuple[int, int]

    def rays(self) -> np.ndarray:
        """(height * FINER, width * FINER, 2): where each ray crosses the plane one metre ahead, camera axes."""
        width, height = self.size
        # Ray i of pixel k lies at k - 1/2 + (i + 1/2) / FINER: OpenCV's pixel centres are at integers.
        across, down = ((np.arange(n * FINER) + 0.5) / FINER - 0.5 for n in (width, height))
        grid = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 1, 2)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-9)
        rays = cv2.undistortPointsIter(  # type: ignore[call-overload]
            grid, self.matrix, self.distortion, None, None, criteria
        )
        return rays.reshape(height * FINER, width * FINER, 2)


def texture(board: Board) -> tuple[np.ndarray, np.ndarray]:
    """The printed sheet, float32 grey (h, w), and the place (2,) m of its left top edge in the board's frame."""
    side = PIXELS_PER_SQUARE
    if board.kind != "chessboard":
        sheet = board.charuco().generateImage((board.columns * side, board.rows * side), marginSize=0, borderBits=1)
        start = 0.0
    else:
        squares = np.indices((board.rows + 1, board.columns + 1)).sum(axis=0) % 2
        sheet = np.kron(255 * squares, np.ones((side, side))).astype(np.uint8)
        start = -board.square  # its frame begins at the first inner corner
    sheet = cv2.copyMakeBorder(sheet, side, side, side, side, cv2.BORDER_CONSTANT, value=255)
    grey = BLACK + (WHITE - BLACK) / 255 * sheet.astype(np.float32)
    return grey, np.full(2, start - board.square)


def draw(board: Board, rays: np.ndarray, cam_from_board: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture, uint8 grey (H, W), of a board at cam_from_board (4, 4), through `Lens.rays`."""
    sheet, origin = texture(board)
    turn, shift = cam_from_board[:3, :3], cam_from_board[:3, 3]
    # A ray λ·(x, y, 1) meets the board's plane z = 0 where turn·(X, Y, 0) + shift lies on it.
    plane_from_ray = np.linalg.inv(np.column_stack([turn[:, 0], turn[:, 1], shift]))
    hits = rays @ plane_from_ray[:, :2].T + plane_from_ray[:, 2]
    depth = np.where(hits[..., 2] > 1e-9, hits[..., 2], np.nan)
    places = (hits[..., :2] / depth[..., None] - origin) * (PIXELS_PER_SQUARE / board.square) - 0.5
    places = np.nan_to_num(places, nan=-1e4).clip(-1e4, 1e4).astype(np.float32)
    light = np.linspace(0.9, 1.05, rays.shape[1], dtype=np.float32)
    fine: np.ndarray = light * cv2.remap(
        sheet, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=BACKGROUND
    )
    size = (rays.shape[1] // FINER, rays.shape[0] // FINER)
    picture = cv2.GaussianBlur(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), (0, 0), BLUR)
    return np.clip(picture + GREY_NOISE * rng.normal(size=picture.shape), 0, 255).round().astype(np.uint8)
