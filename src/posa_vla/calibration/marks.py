"""Marked pixels: a CSV of episode, frame, u, v, made by hand or by the page of ``posa-vla calibrate mark``."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.calibration.poses import EpisodePoses
from posa_vla.errors import PosaError

COLUMNS = ("episode", "frame", "u", "v")
POINT, CAMERA = "point", "camera"
"""Optional columns: which of an episode's fixed points a mark shows, for a camera on the hand; in whose pictures."""


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


def read_marks(path: Path, size: tuple[int, int], camera: str) -> Marks:
    """Reads and checks a marks file against the image's (width, height) and the camera's name."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
            names = tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PosaError(f"cannot read the marks {path}: {error}") from error
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        found = ", ".join(names) or "nothing"
        raise PosaError(f"{path}: expected a first line naming the columns {', '.join(COLUMNS)}, found {found}")
    parsed = [_parse(row, f"{path}, line {line}", camera) for line, row in rows]
    episode, frame, u, v = (np.array([row[i] for row in parsed]) for i in range(4))
    uv = np.stack([u, v], axis=1).astype(np.float64) if parsed else np.empty((0, 2))
    outside = (uv < 0).any(axis=1) | (uv > np.asarray(size)).any(axis=1)
    if outside.any():
        first = int(np.argmax(outside))
        raise PosaError(
            f"{path}, line {rows[first][0]}: the mark {uv[first].tolist()} lies outside the {size[0]}x{size[1]} "
            f"picture ({int(outside.sum())} marks in all): give pixels of the images as the dataset stores them"
        )
    point = np.array([row.get(POINT) or "" for _, row in rows], dtype=str)
    marks = Marks(episode.astype(int), frame.astype(int), uv, point)
    _check_once(marks, path)
    return marks


def _parse(row: Mapping[str | None, Any], place: str, camera: str) -> tuple[int, int, float, float]:
    if None in row:  # as where decimals are commas: the columns would be read shifted
        raise PosaError(f"{place} has more fields than the first line names: write decimals with a point")
    if row.get(CAMERA) and row[CAMERA] != camera:
        raise PosaError(f"{place} is a mark of camera {row[CAMERA]}, not of {camera}: give its own --marks or --camera")
    try:
        values = int(row["episode"] or ""), int(row["frame"] or ""), float(row["u"] or ""), float(row["v"] or "")
    except ValueError:
        found = ", ".join(str(row[name]) for name in COLUMNS)
        raise PosaError(f"{place}: expected integers episode, frame and numbers u, v, found {found}") from None
    if not np.isfinite(values).all():
        raise PosaError(f"{place}: u and v must be finite numbers, found {values[2]} and {values[3]}")
    return values


def _check_once(marks: Marks, path: Path) -> None:
    """A frame shows each point once."""
    counts = Counter(zip(marks.episode.tolist(), marks.frame.tolist(), marks.point.tolist(), strict=True))
    for (episode, frame, point), count in counts.items():
        if count > 1:
            what = f"point {point} in " if point else ""
            raise PosaError(f"{path} marks {what}frame {frame} of episode {episode} {count} times: keep one of them")
