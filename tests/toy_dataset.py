"""A small LeRobotDataset with known contents, written by LeRobot's own code.

Not called ``datasets``: the tests' folder stands on sys.path, where that name would hide Hugging Face's.
"""

import json
from pathlib import Path

import numpy as np
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from posa_vla import contract

TASKS = {
    "pick up the red can": 0,
    "grab the red can": 0,
    "pick up the blue milk": 1,
    "pick up the green bottle": 2,
}
"""Sentence to goal id: two wordings of one goal among three goals."""


def make_dataset(
    root: Path,
    episodes: int = 4,
    length: int = 12,
    image_size: int | dict[str, int] = 32,
    labelled: bool = True,
    use_videos: bool = True,
    cameras: tuple[str, ...] = contract.CAMERAS,
    tasks: dict[str, int] = TASKS,
    video_files_size_in_mb: float | None = None,
    vcodec: str = "h264",
    seed: int = 0,
) -> Path:
    """Writes a dataset and its task-id file; episode e has `length` + e frames and the e-th task, round robin.

    Every image is a grey of its own (`frame_grey`) with a bright square around the end anchor, so that a frame
    is recognised through the video codec. State, action and EE pose are random.

    Args:
        root: new folder.
        image_size: side in pixels, for all cameras or for each.
        labelled: adds the anchors and steps_to_interaction columns.
        video_files_size_in_mb: a tiny number starts a new video file for every episode.
        vcodec: "libsvtav1" is LeRobot's default, and slower to write.
    """
    sizes = {c: image_size if isinstance(image_size, int) else image_size[c] for c in cameras}
    dataset = LeRobotDataset.create(
        repo_id="local/toy",
        fps=20,
        root=root,
        features=_features(sizes, labelled, use_videos),
        use_videos=use_videos,
        rgb_encoder=RGBEncoderConfig(vcodec=vcodec, g=2, crf=10),
        video_files_size_in_mb=video_files_size_in_mb,  # type: ignore[arg-type]
    )
    rng = np.random.default_rng(seed)
    count = 0
    for episode in range(episodes):
        task = list(tasks)[episode % len(tasks)]
        frames = length + episode
        for step in range(frames):
            dataset.add_frame({**_frame(rng, sizes, labelled, count, frames - 1 - step), "task": task})
            count += 1
        dataset.save_episode()
    dataset.finalize()
    (root / contract.TASK_IDS_FILE).write_text(json.dumps(tasks))
    return root


def frame_grey(index: int, camera: int) -> int:
    """Background level of the dataset's frame `index` in camera number `camera`: neighbours differ by 40."""
    return 20 + (40 * index + 90 * camera) % 180


def _features(sizes: dict[str, int], labelled: bool, use_videos: bool) -> dict:
    images = {
        contract.image_key(camera): {
            "dtype": "video" if use_videos else "image",
            "shape": (size, size, 3),
            "names": ["height", "width", "channels"],
        }
        for camera, size in sizes.items()
    }
    vectors = {contract.STATE: 8, contract.ACTION: 7, contract.EE_POSE: 7}
    features = {
        **images,
        **{key: {"dtype": "float32", "shape": (n,), "names": None} for key, n in vectors.items()},
    }
    if labelled:
        shape = (len(sizes), 2, 4)
        features[contract.ANCHORS] = {"dtype": "float32", "shape": shape, "names": list(sizes)}
        features[contract.STEPS_TO_INTERACTION] = {"dtype": "float32", "shape": (1,), "names": None}
    return features


def _frame(
    rng: np.random.Generator, sizes: dict[str, int], labelled: bool, index: int, remaining: int
) -> dict[str, np.ndarray]:
    anchors = np.ones((len(sizes), 2, 4), np.float32)
    anchors[..., :2] = rng.uniform(0.2, 0.8, (len(sizes), 2, 2))
    anchors[..., 2] = rng.uniform(0.3, 1.0, (len(sizes), 2))
    frame: dict[str, np.ndarray] = {
        contract.STATE: rng.normal(size=8).astype(np.float32),
        contract.ACTION: rng.uniform(-1, 1, 7).astype(np.float32),
        contract.EE_POSE: np.array([*rng.uniform(0.2, 0.6, 3), 1, 0, 0, 0], np.float32),
    }
    for number, (camera, size) in enumerate(sizes.items()):
        image = np.full((size, size, 3), frame_grey(index, number), np.uint8)
        u, v = (anchors[number, contract.END_ANCHOR, :2] * size).astype(int)
        image[max(v - 2, 0) : v + 2, max(u - 2, 0) : u + 2] = 255
        frame[contract.image_key(camera)] = image
    if labelled:
        frame[contract.ANCHORS] = anchors
        frame[contract.STEPS_TO_INTERACTION] = np.array([remaining], np.float32)
    return frame
