"""``posa-vla bench anchors``: projection against OpenCV and the simulator's pixels, and labelling speed."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import draccus
import numpy as np
from scipy.spatial.transform import Rotation

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.label import label_episode
from posa_vla.anchors.marker import MarkerErrors, marker_errors
from posa_vla.anchors.pose import homogeneous
from posa_vla.errors import PosaError
from posa_vla.rigs import load_rig


@dataclass
class DatasetFolder:
    """A dataset on disk.

    Args:
        root: its folder.
    """

    root: Path | None = None


@dataclass
class AnchorBenchmarkConfig:
    """posa-vla bench anchors: how exact and how fast labels are.

    Args:
        projections: random cameras and poses compared with cv2.projectPoints.
        states: random simulator states of the marker test, for each camera; 0 leaves it out.
        image_size: side of the simulator's pictures in the marker test, pixels.
        dataset: an unlabelled dataset to time `posa-vla label` on; None leaves it out.
        rig: the rig of the simulator and the dataset.
    """

    projections: int = 10_000
    states: int = 1_000
    image_size: int = 128
    dataset: DatasetFolder = field(default_factory=DatasetFolder)
    rig: str = "tabletop"


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=AnchorBenchmarkConfig, args=argv)
    _line("measure", "value", "bar")
    error = opencv_error(config.projections)
    _line(f"projection against OpenCV, {config.projections:,} cameras: max", f"{error:.1e} px", "1e-3 px")
    _line("geometry, two cameras", f"{geometry_rate():,.0f} frames/s", "50,000 frames/s")
    if config.states:
        for name, errors in _in_simulator(config).pixels.items():
            spread = f"{np.median(errors):.2f} median, {errors.max():.2f} max px"
            _line(f"marker in the {name} view, {len(errors):,} states", spread, "1 px")
    if config.dataset.root is not None:
        frames, seconds = label_time(config.dataset.root, config.rig)
        rate = f"{frames / seconds:,.0f} frames/s"
        _line(f"posa-vla label, {frames:,} frames in {seconds:.1f} s, start-up included", rate, "2,000 frames/s")
    return 0


def _line(measure: str, value: str, bar: str) -> None:
    print(f"{measure:<72}{value:>28}{bar:>18}", flush=True)


def _in_simulator(config: AnchorBenchmarkConfig) -> MarkerErrors:
    from posa_vla.rigs.simulators import TabletopScene
    from posa_vla.sim.env import TabletopEnv

    env = TabletopEnv(image_size=config.image_size)
    try:
        return marker_errors(TabletopScene(env), load_rig(config.rig), config.states)
    finally:
        env.close()


def label_time(root: Path, rig: str) -> tuple[int, float]:
    """Frames and seconds of the whole command in a process of its own; its output is thrown away."""
    with tempfile.TemporaryDirectory(dir=root.resolve().parent, prefix=".bench-") as folder:
        output = Path(folder) / "labelled"
        command = [sys.executable, "-m", "posa_vla.cli", "label", f"--dataset.root={root}", f"--rig={rig}"]
        start = time.perf_counter()
        done = subprocess.run([*command, f"--output={output}"], capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise PosaError(done.stderr.strip().splitlines()[-1])
        return json.loads((output / "meta/info.json").read_text())["total_frames"], seconds


def random_camera(rng: np.random.Generator) -> Camera:
    """Any resolution, aspect, off-centre principal point, mount pose and flips; fixed in the world."""
    width, height = (int(size) for size in rng.integers(32, 1281, 2))
    fx, fy = rng.uniform(0.4, 2.5, 2) * min(width, height)
    cx, cy = np.array([width, height]) * rng.uniform(0.3, 0.7, 2)
    pose = homogeneous(Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3))
    mirror, turn = (bool(draw < 0.5) for draw in rng.random(2))
    return Camera("any", width, height, fx, fy, cx, cy, "world", pose, mirror, turn)


def opencv_error(count: int, seed: int = 0) -> float:
    """Largest distance in pixels between `Camera.project` and cv2.projectPoints over ``count`` random cameras."""
    rng = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(count):
        camera = random_camera(rng)
        depth = rng.uniform(0.05, 5)
        in_camera = np.array([*rng.uniform(-1, 1, 2) * depth, depth])
        rotation, translation = camera.cam_from_mount[:3, :3], camera.cam_from_mount[:3, 3]
        point = rotation.T @ (in_camera - translation)
        expected, _ = cv2.projectPoints(point, cv2.Rodrigues(rotation)[0], translation, camera.matrix, None)
        worst = max(worst, float(np.abs(opencv_pixel(camera, point) - expected.ravel()).max()))
    return worst


def opencv_pixel(camera: Camera, point_world: np.ndarray) -> np.ndarray:
    """`Camera.project` of one point, taken back to OpenCV's pixel coordinates of the unflipped image, (2,)."""
    u, v, _ = camera.project(point_world)
    u = 1 - u if camera.flip_horizontal else u
    v = 1 - v if camera.flip_vertical else v
    return np.array([u * camera.width, v * camera.height]) - 0.5


def geometry_rate(seconds: float = 1.0, length: int = 80) -> float:
    """Frames per second of `label_episode` for a fixed and a hand camera, episodes of ``length`` frames."""
    rng = np.random.default_rng(0)
    head = random_camera(rng)
    cameras = [head, replace(random_camera(rng), mount="end_effector")]
    poses = np.concatenate([rng.normal(size=(length, 3)), Rotation.random(length, random_state=rng).as_quat()], axis=1)
    gripper = (np.arange(length) > length // 2).astype(np.float64)
    start, episodes = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        label_episode(poses, gripper, cameras, finger_width=1 - gripper * 0.5)
        episodes += 1
    return episodes * length / (time.perf_counter() - start)
