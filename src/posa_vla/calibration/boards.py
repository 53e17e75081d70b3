"""ChArUco boards and chessboards: their description on the command line, and their corners in pictures."""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posa_vla.errors import PosaError, unknown_name

FEWEST_CORNERS = 6
"""A view with fewer corners of a ChArUco board is left out: its pose would be poor."""
REFINED_WITHIN = (2, 5)
"""Pixels: half the side of the window in which a corner is refined."""
FORMS = (
    "charuco:7x5:30mm:22mm:5x5_100 (squares, side, marker, dictionary; charuco_legacy for boards of OpenCV before 4.6) "
    "or chessboard:9x6:25mm (inner corners, side)"
)
PATTERN = re.compile(
    r"(charuco|charuco_legacy|chessboard):(\d+)x(\d+):(\d+(?:\.\d+)?)mm(?::(\d+(?:\.\d+)?)mm:(\w+))?", re.ASCII
)


@dataclass(frozen=True)
class Board:
    """A flat calibration pattern; its frame has x along the columns, y along the rows, z into the board.

    Args:
        kind: charuco, charuco_legacy (with an even number of rows it begins with a marker) or chessboard.
        columns: squares of a ChArUco board along x, inner corners of a chessboard.
        rows: the same along y.
        square: m, side of a square.
        marker: m, side of a marker; 0 on a chessboard.
        dictionary: OpenCV's name without DICT_, in upper case; empty on a chessboard.
    """

    kind: str
    columns: int
    rows: int
    square: float
    marker: float = 0.0
    dictionary: str = ""

    def charuco(self) -> cv2.aruco.CharucoBoard:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{self.dictionary}"))
        board = cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, self.marker, dictionary)
        board.setLegacyPattern(self.kind == "charuco_legacy")
        return board

    def corners(self) -> np.ndarray:
        """(n, 3) m, all inner corners in the board's frame, by their number."""
        chessboard = self.kind == "chessboard"
        inner = (self.columns, self.rows) if chessboard else (self.columns - 1, self.rows - 1)
        across, down = np.meshgrid(np.arange(inner[0]), np.arange(inner[1]))
        grid = np.stack([across.ravel(), down.ravel(), np.zeros(across.size)], axis=1).astype(np.float64)
        return grid * self.square if chessboard else (grid + np.array([1, 1, 0])) * self.square


@dataclass(frozen=True)
class View:
    """One picture in which the board was found.

    Args:
        name: the picture's file name.
        corners: (n, 3) m, board frame.
        pixels: (n, 2), OpenCV's pixels.
    """

    name: str
    corners: np.ndarray
    pixels: np.ndarray


def parse_board(text: str) -> Board:
    """A board from its description, such as ``charuco:7x5:30mm:22mm:5x5_100``."""
    found = PATTERN.fullmatch(text.strip())
    if found is None or (found[1] == "chessboard") != (found[5] is None):
        raise PosaError(f"--board={text}: expected {FORMS}")
    kind, columns, rows, side = found[1], int(found[2]), int(found[3]), float(found[4]) / 1000
    if min(columns, rows) < 3 or side <= 0:
        raise PosaError(f"--board={text}: expected at least 3x3 and a side above 0 mm")
    if kind == "chessboard":
        if (columns + rows) % 2 == 0:
            raise PosaError(
                f"--board={text}: with {columns}x{rows} inner corners the board looks the same upside down, so its "
                "pose is ambiguous: use one with an even and an odd number, or a ChArUco board"
            )
        return Board(kind, columns, rows, side)
    marker, dictionary = float(found[5]) / 1000, found[6].upper()
    if not 0 < marker < side:
        raise PosaError(f"--board={text}: a marker must be smaller than its square")
    known = [name.removeprefix("DICT_") for name in dir(cv2.aruco) if name.startswith("DICT_")]
    if dictionary not in known:
        raise unknown_name("marker dictionary", found[6], [name.lower() for name in known])
    board = Board(kind, columns, rows, side, marker, dictionary)
    _check_charuco(text, board)
    return board


def _check_charuco(text: str, board: Board) -> None:
    """Boards that nobody can have printed, and those that no view of could be used."""
    corners = (board.columns - 1) * (board.rows - 1)
    if corners < FEWEST_CORNERS:
        raise PosaError(
            f"--board={text}: {board.columns}x{board.rows} squares have {corners} inner corners, and a view needs "
            f"{FEWEST_CORNERS}: print a larger board"
        )
    printed, held = board.columns * board.rows // 2, len(board.charuco().getDictionary().bytesList)
    if printed > held:
        raise PosaError(
            f"--board={text}: {board.columns}x{board.rows} squares hold {printed} markers, the dictionary "
            f"{board.dictionary.lower()} has only {held}: correct the squares or the dictionary"
        )


def detect(board: Board, image: np.ndarray, name: str) -> View | None:
    """The board in a picture, uint8 grey (H, W), or None."""
    if board.kind == "chessboard":
        pixels = _chessboard(board, image)
        return None if pixels is None else View(name, board.corners(), pixels)
    corners, numbers, _, _ = cv2.aruco.CharucoDetector(board.charuco()).detectBoard(image)
    if numbers is None or len(numbers) < FEWEST_CORNERS:
        return None
    # A single row of corners has no pose.
    points = board.corners()[numbers.ravel()]
    if min(len(np.unique(points[:, 0])), len(np.unique(points[:, 1]))) < 2:
        return None
    return View(name, points, _refined(board, image, corners.reshape(-1, 2)))


def _refined(board: Board, image: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n, 2) pixels, refined once more: until 4.13 OpenCV adds half a pixel to what it has refined (opencv #25539)."""
    apart = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    gap = apart[apart > 0].min() * (1 - board.marker / board.square) / 2  # from a corner to the next marker
    window = int(np.clip(gap, *REFINED_WITHIN))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-3)
    found = cv2.cornerSubPix(image, corners[:, None].astype(np.float32), (window, window), (-1, -1), criteria)
    return found.reshape(-1, 2).astype(np.float64)


def _chessboard(board: Board, image: np.ndarray) -> np.ndarray | None:
    """(n, 2) pixels, turned so that the first square within the corners is dark."""
    found, corners = cv2.findChessboardCornersSB(image, (board.columns, board.rows), flags=cv2.CALIB_CB_ACCURACY)
    if not found:
        return None
    grid: np.ndarray = corners.reshape(board.rows, board.columns, 2).astype(np.float64)
    centres = (grid[:-1, :-1] + grid[1:, :-1] + grid[:-1, 1:] + grid[1:, 1:]) / 4
    across, down = np.moveaxis(centres, -1, 0).astype(np.float32)
    grey = cv2.remap(image, across, down, cv2.INTER_LINEAR).astype(float)
    parity = np.indices(grey.shape).sum(axis=0) % 2
    if grey[parity == 0].mean() > grey[parity == 1].mean():
        grid = grid[::-1, ::-1]
    return grid.reshape(-1, 2)


def read_views(board: Board, paths: list[Path]) -> tuple[list[View | None], tuple[int, int]]:
    """The board in every picture (None where it is not found), and the pictures' (width, height)."""
    views: list[View | None] = []
    size: tuple[int, int] | None = None
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise PosaError(f"cannot read the picture {path}")
        here = (image.shape[1], image.shape[0])
        if size is not None and here != size:
            raise PosaError(
                f"{path} is {here[0]}x{here[1]}, the pictures before it are {size[0]}x{size[1]}: use one camera at one "
                "size"
            )
        size = here
        views.append(detect(board, image, path.name))
    assert size is not None
    return views, size
