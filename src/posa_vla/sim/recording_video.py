"""Videos of recorded episodes, through LeRobot's writer: encoded when the episode is complete, every byte counted."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets import LeRobotDataset
from lerobot.datasets.video_utils import StreamingVideoEncoder

from posa_vla.errors import PosaError

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
"""LeRobot's."""


@dataclass(frozen=True)
class VideoOptions:
    """How frames are stored. H.264 with a key frame every second frame decodes fast at random positions.

    Args:
        image_size: side of the square images, pixels.
        vcodec: encoder, one that LeRobot knows.
        crf: quality, lower is better.
        preset: the encoder's speed.
        gop: frames from one key frame to the next.
        pix_fmt: how pixels are stored.
    """

    image_size: int
    vcodec: str
    pix_fmt: str
    crf: int
    preset: str
    gop: int

    def encoder(self) -> RGBEncoderConfig:
        try:
            return RGBEncoderConfig(
                vcodec=self.vcodec, pix_fmt=self.pix_fmt, crf=self.crf, preset=self.preset or None, g=self.gop
            )
        except ValueError as error:
            raise PosaError(f"the video options were refused: {error}") from error


class EpisodeEncoder(StreamingVideoEncoder):
    """Takes the frames of an episode as they are and encodes them when it is complete, in the calling thread.

    LeRobot's own serves a robot that moves on while it encodes: a thread for each camera, a queue that drops frames
    when it is full, and statistics that sort every frame into 5,000 bins, which took longer than the encoding. Here
    all frames are there already, and a byte has 256 values, so that counting them is exact and fast.
    """

    def start_episode(self, video_keys: list[str], temp_dir: Path, depth_video_keys: list[str] | None = None) -> None:
        if depth_video_keys:
            raise PosaError(f"depth cannot be recorded, found the columns {depth_video_keys}")
        self._temp_dir = temp_dir
        self._frames: dict[str, list[np.ndarray]] = {key: [] for key in video_keys}
        self._episode_active = True

    def feed_frame(self, video_key: str, image: np.ndarray) -> None:
        """Keep `image`, uint8, (H, W, 3), which must not change until the episode is finished."""
        self._frames[video_key].append(image)

    def finish_episode(self) -> dict[str, tuple[Path, dict[str, np.ndarray]]]:
        """The video and the statistics (of bytes, as LeRobot's writer expects them) of each camera."""
        made = {}
        for key, frames in self._frames.items():
            path = Path(tempfile.mkdtemp(dir=self._temp_dir)) / f"{key}.mp4"
            write_video(path, frames, self.fps, self._rgb_encoder)
            made[key] = (path, byte_stats(frames))
        self._episode_active = False
        return made

    def cancel_episode(self) -> None:
        self._frames, self._episode_active = {}, False


class RecordedDataset(LeRobotDataset):
    """A LeRobotDataset whose videos an `EpisodeEncoder` writes."""

    @staticmethod
    def _build_streaming_encoder(fps: int, rgb_encoder: RGBEncoderConfig | None, *_) -> StreamingVideoEncoder:
        return EpisodeEncoder(fps, rgb_encoder)


def write_video(path: Path, frames: Sequence[np.ndarray], fps: int, encoder: RGBEncoderConfig) -> None:
    """Encode `frames`, each uint8, (H, W, 3), with one thread."""
    height, width, _ = frames[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder.vcodec, fps, options=encoder.get_codec_options(1, as_strings=True))
        stream.pix_fmt, stream.width, stream.height = encoder.pix_fmt, width, height
        stream.time_base = step = Fraction(1, fps)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = index, step
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def byte_stats(frames: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Exact statistics of each channel over all pixels, in bytes: `count` (1,), the others (channels,).

    The quantile q is the smallest byte that at least the share q of the pixels do not exceed.
    """
    channels = frames[0].shape[-1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for frame in frames:
        for channel in range(channels):
            counts[channel] += np.bincount(frame[..., channel].ravel(), minlength=256)
    total = counts[0].sum()
    values, shares, up_to = np.arange(256.0), counts / total, counts.cumsum(1)
    mean = shares @ values
    return {
        "min": (counts > 0).argmax(1).astype(np.float64),
        "max": 255.0 - (counts[:, ::-1] > 0).argmax(1),
        "mean": mean,
        "std": np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1)),
        "count": np.array([total]),
        **{f"q{round(100 * q):02d}": (up_to >= q * total).argmax(1).astype(np.float64) for q in QUANTILES},
    }
