"""Frames with the anchors drawn in: contact sheets of a dataset and filmstrips of an episode."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from posa_vla.evaluation.overlay import END_COLOUR, TASK_COLOUR, draw
from posa_vla.inspection.checks import inside
from posa_vla.inspection.frames import FrameReader
from posa_vla.inspection.subject import Subject

TILE = 200
"""Longer side of one picture, pixels."""

SHEET = 40
"""Episodes on a contact sheet, at most."""

STRIP = 6
"""Frames of a filmstrip beside those of the interactions."""

MOST_IN_STRIP = 10
GAP = 2
MARKS = ((cv2.MARKER_TILTED_CROSS, TASK_COLOUR), (cv2.MARKER_CROSS, END_COLOUR))


@dataclass(frozen=True)
class Sheet:
    """One frame of each of many episodes, as one camera sees it.

    Args:
        camera: its name.
        moment: which frame it is.
        look_for: what should be seen there.
        image: uint8 (H, W, 3).
    """

    camera: str
    moment: str
    look_for: str
    image: np.ndarray


def contact_sheets(subject: Subject, reader: FrameReader) -> list[Sheet]:
    """For each camera the first frames of evenly spread episodes, and those of their first interaction."""
    episodes = spread(len(subject.episodes), SHEET)
    starts = [(i, 0) for i in episodes]
    events = [(i, int(frames[0])) for i in episodes if len(frames := subject.labels[i].interactions.frames)]
    moments = [("first frame", "✕ where the hand will act next, ✚ the hand.", starts)]
    if events:
        moments.append(("first interaction", "Both marks between the fingertips.", events))
    sheets = []
    for camera in subject.rig.camera_names:
        for moment, look_for, places in moments:
            numbers = [f"{subject.episodes[i].number}" for i, _ in places]
            rows = np.array([subject.episodes[i].rows.start + frame for i, frame in places])
            tiles = drawn(subject, reader, camera, rows, [f"episode {number}" for number in numbers])
            sheets.append(Sheet(camera, moment, look_for, tiled(tiles, columns=6)))
    return sheets


def filmstrip(subject: Subject, reader: FrameReader, episode: int, camera: str) -> np.ndarray:
    """Evenly spread frames of an episode and those of its interactions, side by side: uint8 (H, W, 3)."""
    rows = subject.episodes[episode].rows
    events = subject.labels[episode].interactions.frames
    frames = np.unique([*spread(rows.stop - rows.start, STRIP), *events[: MOST_IN_STRIP - STRIP]])
    texts = [f"{frame} {'interaction' if frame in events else ''}" for frame in frames]
    tiles = drawn(subject, reader, camera, rows.start + frames, texts)
    return tiled(tiles, columns=len(tiles))


def drawn(
    subject: Subject, reader: FrameReader, camera: str, rows: np.ndarray, texts: Sequence[str]
) -> list[np.ndarray]:
    """Pictures of ascending rows with their anchors (task green, end red; none where unknown) and a text."""
    c = subject.rig.camera_names.index(camera)
    images = reader.read(camera, rows)
    tiles = []
    for image, row, text in zip(images, rows, texts, strict=True):
        anchors = subject.anchors[row, c]
        points = np.where(inside(anchors)[:, None], anchors[:, :2], np.nan)
        tiles.append(captioned(marked(draw(image, None, None, TILE), points), text))
    return tiles


def captioned(tile: np.ndarray, text: str) -> np.ndarray:
    """A copy with a short text in its upper left corner."""
    tile = tile.copy()
    for thickness, ink in ((3, (0, 0, 0)), (1, (255, 255, 255))):
        cv2.putText(tile, text, (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, ink, thickness, cv2.LINE_AA)
    return tile


def marked(tile: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A copy with labels (2, 2), continuous coordinates: a diagonal cross for task, an upright one for end.

    Crosses leave the place between the fingertips visible, also where both coincide. NaN and points outside draw
    nothing.
    """
    tile = tile.copy()
    height, width = tile.shape[:2]
    for (u, v), (shape, colour) in zip(points, MARKS, strict=True):
        if 0 <= u <= 1 and 0 <= v <= 1:
            at = (round(u * width - 0.5), round(v * height - 0.5))
            for thickness, ink in ((3, (10, 10, 10)), (1, colour)):
                cv2.drawMarker(tile, at, ink, shape, 13, thickness, cv2.LINE_AA)
    return tile


def tiled(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size in rows: uint8 (H, W, 3)."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    lines = -(-len(tiles) // columns)
    sheet = np.zeros((lines * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.uint8)
    for number, tile in enumerate(tiles):
        y, x = number // columns * (height + GAP), number % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def spread(total: int, count: int) -> list[int]:
    """Up to ``count`` of the numbers 0 … total - 1, evenly spread, ascending, the first and last among them."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(int)).tolist()
