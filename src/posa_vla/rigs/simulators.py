"""The simulators of the rigs that ship with the package, as `posa_vla.anchors.marker` asks them for pictures.

LIBERO and Meta-World go through LeRobot's own environment wrappers and processors, so that flips, camera moves and
the state are the ones that LeRobot's datasets and policies get. They come with the extras ``libero``, ``metaworld``.
"""

import atexit
import contextlib
import importlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from posa_vla.anchors.marker import Ball
from posa_vla.anchors.pose import Transform, world_from_ee
from posa_vla.contract import OBS_IMAGES, STATE
from posa_vla.data.label_episodes import EpisodeRows
from posa_vla.data.label_poses import hand_poses
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig

LIBERO_ASSETS = "POSA_LIBERO_ASSETS"
"""Environment variable: a folder with LIBERO's assets, for machines that cannot download them."""
LIBERO_ARENAS = {
    "libero_spatial": (0,),
    "libero_object": (0,),
    "libero_goal": (0,),
    "libero_10": (0, 2, 5),  # living room, kitchen, study
}
"""Task numbers of each suite that cover its arenas."""
METAWORLD_CAMERAS = {"image": "corner2", "corner2": "corner2", "gripperPOV": "gripperPOV"}


class TabletopScene:
    """The project's own suite."""

    def __init__(self, env: Any):
        self.env = env

    def reset(self, seed: int) -> None:
        self.env.reset(seed=seed)

    def step(self, rng: np.random.Generator) -> None:
        self.env.step(rng.uniform(-1, 1, 7))

    def hand(self) -> Transform:
        return world_from_ee(self.env.ground_truth().ee_pose)

    def picture(self, camera: str, ball: Ball | None) -> np.ndarray:
        balls = [] if ball is None else [(ball.position, ball.radius, ball.rgba)]
        return self.env.renderer.render(self.env.data, camera, balls)


class LiberoScene:
    """One task of a LIBERO suite, through ``lerobot.envs.libero.LiberoEnv`` and its processor step."""

    def __init__(self, rig: Rig, suite: str, task: int):
        prepare_libero()
        from lerobot.envs.libero import LiberoEnv
        from lerobot.processor.env_processor import LiberoProcessorStep
        from libero.libero import benchmark

        self.env = LiberoEnv(benchmark.get_benchmark_dict()[suite](), task, suite, obs_type="pixels_agent_pos")
        self.rig = rig.for_episode([self.env.task_description], 0)
        self.name = f"{suite} {task} ({self.rig.name.partition('/')[2]})"
        self._processor = LiberoProcessorStep()

    def reset(self, seed: int) -> None:
        self.env.reset(seed=seed)

    def step(self, rng: np.random.Generator) -> None:
        self.env.step(rng.uniform(-1, 1, 7))

    def hand(self) -> Transform:
        return hand_of_state(self.rig, np.asarray(self._observation()[STATE])[0])

    def true_hand(self) -> np.ndarray:
        """The simulator's own point between the fingertips, (3,) m, world."""
        return np.array(self.env._env.sim.data.get_site_xpos("gripper0_grip_site"))

    def picture(self, camera: str, ball: Ball | None) -> np.ndarray:
        with drawn_into_every_picture(ball):
            pixels = self._observation()[f"{OBS_IMAGES}.{camera}"]  # (1, 3, H, W) in [0, 1]
        return (pixels[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    def close(self) -> None:
        self.env.close()

    def _observation(self) -> dict[str, Any]:
        """What a policy gets, rendered now."""
        from lerobot.envs.utils import preprocess_observation

        raw = self.env._env.env._get_observations(force_update=True)
        observation = _batched(self.env._format_raw_obs(raw))
        return self._processor.observation(preprocess_observation(observation))


class MetaworldScene:
    """One Meta-World task and one of its cameras, through ``lerobot.envs.metaworld.MetaworldEnv``."""

    def __init__(self, rig: Rig, task: str, camera: str):
        _require("metaworld")
        from lerobot.envs.metaworld import MetaworldEnv

        name = METAWORLD_CAMERAS[camera]
        self.env = MetaworldEnv(task=task, camera_name=name, obs_type="pixels_agent_pos")
        self.rig = rig
        self.name = task

    def reset(self, seed: int) -> None:
        self.env.reset(seed=seed)

    def step(self, rng: np.random.Generator) -> None:
        self.env._env.step(rng.uniform(-1, 1, 4).astype(np.float32))  # the wrapper would render each step

    def hand(self) -> Transform:
        return hand_of_state(self.rig, self._raw_state()[:4])

    def true_hand(self) -> np.ndarray:
        """The simulator's own point between the fingertips, (3,) m, world."""
        return np.array(self.env._env.tcp_center)

    def picture(self, camera: str, ball: Ball | None) -> np.ndarray:
        with drawn_into_every_picture(ball):
            return self.env._format_raw_obs(self._raw_state())["pixels"]

    def close(self) -> None:
        self.env.close()

    def _raw_state(self) -> np.ndarray:
        return self.env._env._get_obs()


ShippedScene = LiberoScene | MetaworldScene


def hand_of_state(rig: Rig, state: np.ndarray) -> Transform:
    """One frame's pose (4, 4) from its state, by the very code that labels datasets."""
    poses = hand_poses({rig.pose.column: state[None]}, rig.pose, [EpisodeRows(0, slice(0, 1))])
    return Transform(poses.dst, poses.src, poses.matrix[0])


@contextlib.contextmanager
def drawn_into_every_picture(ball: Ball | None) -> Iterator[None]:
    """Adds a ball to every scene that MuJoCo renders: the wrappers render themselves and take no markers."""
    import mujoco

    render = mujoco.mjr_render

    def with_ball(viewport: Any, scn: Any, con: Any) -> None:
        if ball is not None:
            geom = scn.geoms[scn.ngeom]
            size, turn = np.full(3, ball.radius), np.eye(3).ravel()
            colour = np.array(ball.rgba, np.float32)
            mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_SPHERE, size, ball.position, turn, colour)
            geom.emission = 1.0  # the same colour in any light
            scn.ngeom += 1
        render(viewport, scn, con)

    mujoco.mjr_render = with_ball
    try:
        yield
    finally:
        mujoco.mjr_render = render


def prepare_libero() -> None:
    """Lets LIBERO be imported without asking questions, and finds its assets.

    Without ``LIBERO_CONFIG_PATH`` or ~/.libero/config.yaml, LIBERO asks on standard input where its files are; and it
    looks for its assets on the hub. A folder in `LIBERO_ASSETS` comes first.
    """
    _require("libero")
    folder = Path(os.environ.get("LIBERO_CONFIG_PATH", Path.home() / ".libero"))
    if not (folder / "config.yaml").is_file():
        folder = Path(tempfile.mkdtemp(prefix="libero-config-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        spec = importlib.util.find_spec("libero")
        assert spec is not None and spec.submodule_search_locations
        root = Path(spec.submodule_search_locations[0]) / "libero"
        places = {"benchmark_root": "", "bddl_files": "bddl_files", "init_states": "init_files", "datasets": "datasets"}
        content = {name: str(root / place) for name, place in places.items()}
        (folder / "config.yaml").write_text(yaml.safe_dump({**content, "assets": str(root / "assets")}))
        os.environ["LIBERO_CONFIG_PATH"] = str(folder)
    if LIBERO_ASSETS in os.environ:
        assets = Path(os.environ[LIBERO_ASSETS])
        if not (assets / "scenes").is_dir():  # a missing file would make LIBERO's reset loop for ever
            raise PosaError(f"{LIBERO_ASSETS}={assets} has no folder scenes: expected LIBERO's assets")
        vars(importlib.import_module("libero.libero"))["_assets_path_cache"] = str(assets)


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise PosaError(f"{package} is not installed: pip install 'lerobot_policy_posa_vla[{package}]'")


def _batched(value: Any) -> Any:
    """A nested observation with a leading axis of one, as a vector environment gives it."""
    return {key: _batched(item) for key, item in value.items()} if isinstance(value, dict) else np.asarray(value)[None]
