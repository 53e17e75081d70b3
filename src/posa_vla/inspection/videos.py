"""The videos: there, whole, as long as their episodes, and decodable.

Demultiplexing lists every frame of a file without decoding it: that alone finds truncated files and lost frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from posa_vla.data.features import image_sides
from posa_vla.inspection.findings import Finding, as_episodes
from posa_vla.inspection.layout import Layout, one_line

REORDERED = 32
"""Packets after a frame's own by which a decoder has handed it over, if it ever does."""

FAR_OFF = 1e12
"""Frames: where an episode is looked for, in vain, whose from_timestamp is no number of this world."""


@dataclass(frozen=True)
class VideoFile:
    """One video file and the episodes that should be in it.

    Args:
        path: relative to the dataset.
        key: the camera's feature.
        episodes: (E,) episode numbers.
        firsts: (E,) each one's first frame in the file.
        lengths: (E,) frames.
    """

    path: str
    key: str
    episodes: np.ndarray
    firsts: np.ndarray
    lengths: np.ndarray

    @property
    def num_frames(self) -> int:
        """Frames up to the end of the last episode."""
        return int((self.firsts + self.lengths).max())

    def owners(self, positions: np.ndarray | list[int]) -> tuple[int, ...]:
        """Episodes that frames of the file belong to."""
        at = np.asarray(positions, np.int64)[:, None]
        inside = (at >= self.firsts) & (at < self.firsts + self.lengths)  # (n, E)
        return as_episodes(self.episodes[inside.any(axis=0)])

    def finding(self, kind: str, message: str, positions: np.ndarray | list[int] | None = None) -> Finding:
        """About some frames, or about the whole file."""
        episodes = as_episodes(self.episodes) if positions is None else self.owners(positions)
        return Finding(kind, self.path, message, episodes)


def check_videos(layout: Layout, every_frame: bool, advance: Callable[[int], object]) -> list[Finding]:
    """All videos of all cameras; ``every_frame`` decodes everything, not only each episode's first and last frame."""
    findings, expected = [], set()
    for file in _video_files(layout):
        expected.add(file.path)
        findings += _check_file(layout, file, every_frame)
        advance(int(file.lengths.sum()))
    for path in sorted((layout.root / "videos").rglob("*.mp4")):
        relative = path.relative_to(layout.root).as_posix()
        if relative not in expected:
            findings.append(Finding("stray-file", relative, "no episode is said to be in this video"))
    return findings


def _video_files(layout: Layout) -> Iterator[VideoFile]:
    for key in layout.keys_of("video"):
        starts = layout.episodes[f"videos/{key}/from_timestamp"]
        for path, rows in layout.files(f"videos/{key}", str(layout.info.get("video_path")), video_key=key).items():
            frames = np.nan_to_num(starts[rows] * layout.fps, nan=-FAR_OFF).clip(-FAR_OFF, FAR_OFF)
            firsts = np.round(frames).astype(np.int64)
            numbers, lengths = (layout.episodes[name][rows] for name in ("episode_index", "length"))
            yield VideoFile(path, key, numbers, firsts, lengths)


def _check_file(layout: Layout, file: VideoFile, every_frame: bool) -> list[Finding]:
    path = layout.root / file.path
    if not path.is_file():
        return [file.finding("missing-file", "the video is missing")]
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return [file.finding("corrupt-video", "holds no video")]
            stream = container.streams.video[0]
            findings = _check_stream(layout, file, stream)
            promised = stream.frames
            stamps = _stamps(container, stream)
            whole = np.array(sorted(stamps), np.int64)
            times = whole * float(stream.time_base or 0)
        positions = np.round(times * layout.fps).astype(np.int64)
        bad = _undecodable(path, file, whole, positions, every_frame)
    except (av.FFmpegError, OSError, UnicodeDecodeError) as error:  # the last: scrambled names in the header
        return [file.finding("corrupt-video", f"truncated or not a video: {one_line(error)}")]
    findings += _check_count(layout, file, times, promised)
    if len(bad):
        message = f"{len(bad)} frames cannot be decoded, the first of them frame {bad[0]} of the file"
        findings.append(file.finding("corrupt-video", message, bad))
    return findings


def _check_stream(layout: Layout, file: VideoFile, stream: av.VideoStream) -> list[Finding]:
    """Picture size and frame rate against info.json."""
    findings = []
    height, width = image_sides(layout.features[file.key])
    if (stream.height, stream.width) != (height, width):
        message = f"is {stream.width}x{stream.height}, promised is {width}x{height}"
        findings.append(file.finding("wrong-shape", message))
    rate = float(stream.average_rate or 0)
    if rate and abs(rate - layout.fps) > 0.01 * layout.fps:
        findings.append(file.finding("frame-rate", f"has {rate:g} frames per second, promised are {layout.fps:g}"))
    return findings


def _stamps(container: av.container.InputContainer, stream: av.VideoStream) -> list[int]:
    """Presentation times of the frames that are whole in the file, in units of the time base."""
    stamps = []
    for packet in container.demux(stream):
        if packet.pts is not None and not packet.is_corrupt:  # the demuxer marks one that is cut off
            stamps.append(packet.pts)
    return stamps


def _check_count(layout: Layout, file: VideoFile, times: np.ndarray, promised: int) -> list[Finding]:
    """Frames in the file against its episodes, by their times (s)."""
    findings = []
    positions = np.round(times * layout.fps).astype(np.int64)
    wanted = np.concatenate([np.arange(f, f + n) for f, n in zip(file.firsts, file.lengths, strict=True)])
    missing = np.setdiff1d(wanted, positions)
    if len(missing):
        kind = "truncated-video" if missing[0] > positions.max(initial=-1) else "missing-frames"
        message = f"has {len(positions)} frames of {file.num_frames}, lacks {len(missing)} from frame {missing[0]} on"
        findings.append(file.finding(kind, message, missing))
    elif promised and promised != len(times):
        message = f"its header promises {promised} frames, it holds {len(times)}"
        findings.append(file.finding("truncated-video", message))
    extra = positions[positions >= file.num_frames]
    if len(extra):
        message = f"has {len(extra)} frames more than its episodes"
        findings.append(file.finding("frame-count", message, [file.num_frames - 1]))
    if len(wanted) != len(np.unique(wanted)):
        shared = np.unique(wanted)[np.bincount(np.unique(wanted, return_inverse=True)[1]) > 1]
        findings.append(file.finding("frame-count", "episodes share frames of the file", shared))
    off = positions[np.abs(times * layout.fps - positions) > 0.1]
    if len(off):
        message = f"{len(off)} frames are not stamped at multiples of 1/{layout.fps:g} s"
        findings.append(file.finding("timestamp", message, off))
    return findings


def _undecodable(
    path: Path, file: VideoFile, stamps: np.ndarray, positions: np.ndarray, every_frame: bool
) -> np.ndarray:
    """Positions of frames that are in the file but do not decode: of all, or of each episode's first and last."""
    last = file.firsts + file.lengths - 1
    wanted = np.isin(positions, np.concatenate([file.firsts, last])) | every_frame
    chosen = np.flatnonzero(wanted)
    neighbours = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1) if len(chosen) else []
    bad: list[int] = []
    with av.open(str(path)) as container:
        for group in neighbours:
            seen = _decode(container, stamps[group])
            bad += [int(positions[index]) for index in group if int(stamps[index]) not in seen]
    return np.array(bad, np.int64)


def _decode(container: av.container.InputContainer, stamps: np.ndarray) -> set[int]:
    """Of neighbouring frames, by ascending stamps, those that decode without damage."""
    stream = container.streams.video[0]
    first, last = int(stamps[0]), int(stamps[-1])
    seen: set[int] = set()
    late = 0
    container.seek(first, stream=stream)  # to the key frame before it
    for packet in container.demux(stream):
        try:
            frames = stream.codec_context.decode(packet)
        except (av.FFmpegError, OSError):
            frames = []
        seen |= {frame.pts for frame in frames if frame.pts is not None and not frame.is_corrupt}
        late += packet.pts is not None and packet.pts > last
        if last in seen or late > REORDERED:
            break
    return seen
