"""Short videos and filmstrips of episodes, with the attention drawn in."""

from pathlib import Path

import av
import cv2
import numpy as np

from posa_vla.data.files import replacing, write_bytes
from posa_vla.evaluation.overlay import draw

TILE, GAP = 320, 4
"""Pixels of one camera's view in a film, and between two views."""

STRIP_FRAMES = 6
HOLD_SECONDS = 0.6
"""How long the last frame stays, so that a loop shows how it ended."""


class Film:
    """Collects the frames of one episode; `write` leaves ``stem.mp4`` and ``stem.jpg`` (the filmstrip)."""

    def __init__(self, stem: str, cameras: tuple[str, ...], dt: float) -> None:
        self.stem, self.cameras, self.dt = Path(stem), cameras, dt
        self.frames: list[np.ndarray] = []

    def add(self, views: dict[str, np.ndarray], attention: tuple[np.ndarray, np.ndarray] | None) -> None:
        """One step: every camera side by side; attention as (maps (C, 2, Hp, Wp), points (C, 2, 2))."""
        tiles = []
        for name, image in views.items():
            maps = uv = None
            if attention is not None and name in self.cameras:
                maps, uv = (part[self.cameras.index(name)] for part in attention)
            tiles.append(draw(image, maps, uv, TILE))
        gap = np.full((tiles[0].shape[0], GAP, 3), 18, np.uint8)
        row = [piece for tile in tiles for piece in (tile, gap)][:-1]
        self.frames.append(np.concatenate(row, axis=1))

    def write(self) -> None:
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        hold = [self.frames[-1]] * round(HOLD_SECONDS / self.dt)
        write_mp4(self.stem.with_suffix(".mp4"), [*self.frames, *hold], round(1 / self.dt))
        write_jpeg(self.stem.with_suffix(".jpg"), filmstrip(self.frames))


def filmstrip(frames: list[np.ndarray], count: int = STRIP_FRAMES) -> np.ndarray:
    """`count` frames from first to last, the first view of each, side by side -> uint8 (H, W', 3)."""
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    views = [frames[index][:, :TILE] for index in chosen]
    gap = np.full((views[0].shape[0], GAP, 3), 18, np.uint8)
    return np.concatenate([piece for view in views for piece in (view, gap)][:-1], axis=1)


def write_mp4(path: Path, frames: list[np.ndarray], fps: int) -> None:
    """H.264, 4:2:0, index first: the one form that every current browser plays, Safari included."""
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])  # 4:2:0 needs even sides
    options = {"movflags": "+faststart"}
    with replacing(path) as beside, av.open(str(beside), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "27", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_jpeg(path: Path, image: np.ndarray, quality: int = 82) -> None:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OSError(f"cannot encode {path}")
    write_bytes(path, data.tobytes())
