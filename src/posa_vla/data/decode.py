"""Frames of one file in one sequential pass, each handed over with its row in the dataset."""

from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow.parquet as pq

from posa_vla.data.source import Segment
from posa_vla.errors import PosaError

TABLE_BATCH = 64
"""Encoded images read from a table at a time."""


def decode_segment(segment: Segment, key: str, fps: float) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (row in the dataset, image uint8 (H, W, 3) RGB) for each frame of the segment.

    Raises:
        PosaError: the file has fewer or more frames than its episodes, or cannot be read; names the episode.
    """
    frames = _video_frames(segment, fps) if segment.is_video else _table_images(segment.path, key)
    ordered = sorted(segment.spans, key=lambda span: span.first)
    spans = iter(ordered)
    span = next(spans)
    position = -1
    for position, image in _readable(frames, segment):
        if position >= span.first + span.length:
            following = next(spans, None)
            if following is None:
                raise PosaError(
                    f"{segment.path} holds more frames than the {position} of its episodes, the last of them "
                    f"episode {span.episode}: video and table disagree, record or copy the dataset again"
                )
            span = following
        if position >= span.first:
            yield span.row + position - span.first, image
    missing = [span for span in ordered if span.first + span.length > position + 1]
    if missing:
        raise PosaError(
            f"{segment.path} ends after {position + 1} frames where episode {missing[0].episode} needs "
            f"{missing[0].first} to {missing[0].first + missing[0].length - 1}: video and table disagree, "
            "record or copy the dataset again"
        )


def _readable(frames: Iterator[tuple[int, np.ndarray]], segment: Segment) -> Iterator[tuple[int, np.ndarray]]:
    """Turns the decoders' errors into one that names the file and its episodes."""
    try:
        yield from frames
    except (av.FFmpegError, OSError, cv2.error) as error:
        episodes = f"episodes {segment.spans[0].episode} to {segment.spans[-1].episode}"
        raise PosaError(
            f"{segment.path} ({episodes}) cannot be decoded, {error}: copy or record the dataset again"
        ) from error


def _video_frames(segment: Segment, fps: float) -> Iterator[tuple[int, np.ndarray]]:
    """Frames by their presentation time, so that a lost frame is noticed instead of shifting the rest."""
    with av.open(str(segment.path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # files are decoded side by side instead
        for expected, frame in enumerate(container.decode(stream)):
            position = round(frame.time * fps)
            if position != expected:
                span = max((s for s in segment.spans if s.first <= expected), key=lambda s: s.first)
                raise PosaError(
                    f"{segment.path}: frame {expected}, of episode {span.episode}, is stamped {frame.time:.4f} s, "
                    f"which is frame {position} at {fps:g} per second: record the episode again"
                )
            yield position, frame.to_ndarray(format="rgb24")


def _table_images(path: Path, key: str) -> Iterator[tuple[int, np.ndarray]]:
    """Images stored as encoded bytes in the rows of a parquet file."""
    position = 0
    for batch in pq.ParquetFile(path).iter_batches(TABLE_BATCH, columns=[key]):
        for cell in batch.column(0).to_pylist():
            content = (cell or {}).get("bytes")  # an empty cell, or one that names a file elsewhere
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB) if content else None
            if image is None:
                raise OSError(f"row {position} holds no readable image")
            yield position, image
            position += 1
