"""Marked pixels: a CSV of episode, frame, u, v, made by hand or by the page of ``posa-vla calibrate mark``."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posa_vla.calibration.poses import EpisodePoses
from posa_vla.errors import PosaError

COLUMNS = ("episode", "frame", "u", "v")
POINT = "point"
"""Optional column: which of an episode's fixed points a mark shows, for a camera on the hand."""


@dataclass(frozen=True)
class Marks:
    """N marks of one camera.

    Args:
        episode: (N,) episode_index.
        frame: (N,) frame_index.
        uv: (N, 2) pixels of the stored image; 0 is the left/top edge, the centre of pixel k is k + 0.5.
        point: (N,) names of the points marked; empty where the file names none.
    """

    episode: np.ndarray
    frame: np.ndarray
    uv: np.ndarray
    point: np.ndarray

    def __len__(self) -> int:
        return len(self.episode)

    def unflipped(self, size: tuple[int, int], flips: tuple[bool, bool]) -> np.ndarray:
        """(N, 2) in OpenCV's pixels (centres at integers) of the unflipped image, ``size`` (width, height)."""
        return np.where(flips, np.asarray(size) - self.uv, self.uv) - 0.5

    def rows(self, poses: EpisodePoses) -> np.ndarray:
        """(N,) the dataset's row of each mark."""
        return np.array([poses.row(int(e), int(f)) for e, f in zip(self.episode, self.frame, strict=True)], dtype=int)


def read_marks(path: Path, size: tuple[int, int]) -> Marks:
    """Reads and checks a marks file against the image's (width, height)."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            names = tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PosaError(f"cannot read the marks {path}: {error}") from error
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        found = ", ".join(names) or "nothing"
        raise PosaError(f"{path}: expected a first line naming the columns {', '.join(COLUMNS)}, found {found}")
    parsed = [_parse(row, path, line) for line, row in enumerate(rows, start=2)]
    episode, frame, u, v = (np.array([row[i] for row in parsed]) for i in range(4))
    uv = np.stack([u, v], axis=1).astype(np.float64) if parsed else np.empty((0, 2))
    outside = (uv < 0).any(axis=1) | (uv > np.asarray(size)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        raise PosaError(
            f"{path}, line {row + 2}: the mark {uv[row].tolist()} lies outside the {size[0]}x{size[1]} picture "
            f"({int(outside.sum())} marks in all): give pixels of the images as the dataset stores them"
        )
    point = np.array([row.get(POINT) or "" for row in rows], dtype=str)
    return Marks(episode.astype(int), frame.astype(int), uv, point)


def _parse(row: Mapping[str, str | None], path: Path, line: int) -> tuple[int, int, float, float]:
    try:
        values = int(row["episode"] or ""), int(row["frame"] or ""), float(row["u"] or ""), float(row["v"] or "")
    except ValueError:
        found = ", ".join(str(row[name]) for name in COLUMNS)
        raise PosaError(
            f"{path}, line {line}: expected integers episode, frame and numbers u, v, found {found}"
        ) from None
    if not np.isfinite(values).all():
        raise PosaError(f"{path}, line {line}: u and v must be finite numbers, found {values[2]} and {values[3]}")
    return values
