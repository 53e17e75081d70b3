"""A toy dataset whose images move as its poses say: a textured table, and a textured blob for the hand."""

from pathlib import Path

import cv2
import numpy as np
from label_toy import RIG, edit, make_dataset
from scipy.spatial.transform import Rotation

from posa_vla import contract
from posa_vla.rigs import load_rig

CLOSE = 24
SIDE = 96
METRES = 3.0
TEXELS = 768


def make_moving(root: Path) -> Path:
    """6 episodes of 30 to 35 frames; the hand swings down to a point of the table and closes there at frame 24."""
    make_dataset(root, episodes=6, length=30, labelled=False)
    edit(root, _move)
    return root


def write_rig(path: Path, **changes) -> str:
    import yaml

    path.write_text(yaml.safe_dump({**RIG, **changes}))
    return str(path)


def _move(columns: dict[str, np.ndarray]) -> None:
    frames, episodes = columns["frame_index"], columns["episode_index"]
    left = np.clip((CLOSE - frames) / CLOSE, 0, 1)
    swing = 1.1 * episodes + 2.0 * left
    goal = np.array([0.4, 0.4]) + 0.15 * np.stack([np.cos(2.1 * episodes), np.sin(2.1 * episodes)], axis=1)
    columns[contract.EE_POSE][:, :2] = goal + 0.25 * left[:, None] * np.stack([np.cos(swing), np.sin(swing)], axis=1)
    columns[contract.EE_POSE][:, 2] = 0.4 * left
    turn = Rotation.from_rotvec(np.outer(0.5 * left + 0.7, [0, 0, 1])) * Rotation.from_euler("x", np.pi)
    columns[contract.EE_POSE][:, 3:] = np.roll(turn.as_quat(), 1, axis=1)
    late = frames >= CLOSE
    columns["action"][:, 6] = np.where(late, 1, -1)
    columns["observation.state"][:, 6:] = np.where(late, 0.015, 0.04)[:, None] * [1, -1]


class RenderedImages:
    """The pictures of such a dataset as the toy rig's cameras see them, true to the poses (N, 4, 4)."""

    def __init__(self, hand: np.ndarray, rig_file: str) -> None:
        rng = np.random.default_rng(0)
        noise = cv2.GaussianBlur(rng.normal(size=(TEXELS, TEXELS, 3)).astype(np.float32), (0, 0), 3)
        self.table = np.clip(128 + 350 * noise, 0, 255).astype(np.uint8)
        blob = cv2.GaussianBlur(rng.normal(size=(64, 64, 3)).astype(np.float32), (0, 0), 2)
        self.blob = np.clip(128 + 400 * blob, 0, 255).astype(np.uint8)[:18, :18]
        self.hand, self.rig = hand, load_rig(rig_file)

    def read(self, camera: str, rows: np.ndarray) -> np.ndarray:
        return np.stack([self._picture(camera, self.hand[row]) for row in rows])

    def _picture(self, name: str, hand: np.ndarray) -> np.ndarray:
        camera = self.rig.camera(name)
        pose = camera.cam_from_world(hand).matrix
        lens = np.diag([SIDE / camera.width, SIDE / camera.height, 1]) @ camera.matrix
        scale = METRES / TEXELS
        plane = np.array([[scale, 0, 0.4 - METRES / 2], [0, scale, 0.4 - METRES / 2], [0, 0, 1]])
        picture = cv2.warpPerspective(self.table, lens @ pose[:3, [0, 1, 3]] @ plane, (SIDE, SIDE))
        if camera.mount == "world":
            u, v, _ = camera.project(hand[:3, 3])
            move = np.array([[1, 0, u * SIDE - 9.5], [0, 1, v * SIDE - 9.5]])
            seen = cv2.warpAffine(np.ones((18, 18), np.float32), move, (SIDE, SIDE))[..., None]
            picture = (picture * (1 - seen) + cv2.warpAffine(self.blob, move, (SIDE, SIDE)) * seen).astype(np.uint8)
        return picture
