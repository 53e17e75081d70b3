"""The gymnasium environment of the tabletop suite. Robot constants are LIBERO's; control is our own."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from posa_vla.contract import CAMERAS
from posa_vla.errors import PosaError
from posa_vla.sim.conditions import EXTRA_DISTRACTORS, check_condition, check_names, episode_seed, split_pairs
from posa_vla.sim.episode import Episode, Options, sample_episode
from posa_vla.sim.kinematics import (
    ArmKinematics,
    axis_angle_from_quaternion,
    multiply,
    quaternion_from_axis_angle,
)
from posa_vla.sim.objects import CATEGORIES, COLOURS, VISIBLE
from posa_vla.sim.renderer import SceneRenderer
from posa_vla.sim.scene import (
    ARM_JOINTS,
    FINGER_JOINTS,
    GRIP_SITE,
    NEUTRAL,
    TABLE_CENTRE,
    TABLE_HALF,
    TIMESTEP,
    build_scene,
    scene_ids,
)
from posa_vla.sim.slots import Slots

FPS = 20
SUBSTEPS = round(1 / FPS / TIMESTEP)
POSITION_SCALE, ROTATION_SCALE = 0.05, 0.5  # m and rad at action ±1 (LIBERO)
FINGER_OPEN = 0.04  # m, each finger
LIFT_HEIGHT = 0.10  # m above where it stood
HOLD_STEPS = 10  # 0.5 s
REACH_LOW, REACH_HIGH = np.array([0.20, -0.40, 0.008]), np.array([0.80, 0.40, 0.60])  # m, goals are kept inside
SETTLE_STEPS = 25


@dataclass(frozen=True)
class ObjectState:
    """Pose in the world frame: position (3,) m, quaternion (w, x, y, z)."""

    name: str
    category: str
    colour: str
    position: np.ndarray
    quaternion: np.ndarray


@dataclass(frozen=True)
class GroundTruth:
    """What evaluation and labels may know and a policy may not.

    Args:
        target: name of the object the sentence names, "{colour} {category}".
        task_id: the goal, colour index × number of categories + category index.
        ee_pose: (7,) world_from_ee: position (m), quaternion (w, x, y, z); the EE is the grip site.
        cameras: name to (K (3, 3), OpenCV, pixel centres at integers; cam_from_world (4, 4), OpenCV axes).
        lifted: name of the object that is lifted by 10 cm now, whichever it is.
        held_out_phrasing: the sentence's phrasing never occurs in training.
    """

    target: str
    task_id: int
    objects: tuple[ObjectState, ...]
    ee_pose: np.ndarray
    cameras: dict[str, tuple[np.ndarray, np.ndarray]]
    lifted: str | None
    held_out_phrasing: bool

    @property
    def target_state(self) -> ObjectState:
        return self.objects[0]


class TabletopEnv(gym.Env):
    """A Panda, a table, and one object to pick among several.

    Observation: ``{"pixels": {"head", "wrist"}: uint8 (S, S, 3), "agent_pos": float32 (8,)}``, the state being
    EE position (m), EE axis-angle (rad) and two finger positions (m), world frame. Action, float32 (7,) in
    [-1, 1]: delta position (±1 = 0.05 m), delta axis-angle (±1 = 0.5 rad, world frame, left-multiplied),
    gripper (-1 open, +1 close). The goal is the measured pose plus the delta, kept within reach of the table.

    Args:
        condition: one of `conditions.CONDITIONS`.
        split: which disjoint range of scenes a seed maps to: train, val or eval.
        image_size: side of both square pictures, pixels.
        categories, colours: restrict the objects; None allows all.
        num_distractors: other objects on the table (2 to 4 more in the condition `distractors`).
        episode_length: steps until truncation.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (gymnasium's own name)
    render_mode = "rgb_array"
    task = "Pick-v0"

    def __init__(
        self,
        condition: str = "basic",
        split: str = "eval",
        image_size: int = 128,
        categories: tuple[str, ...] | None = None,
        colours: tuple[str, ...] | None = None,
        num_distractors: int = 4,
        episode_length: int = 150,
        render_mode: str = "rgb_array",
    ):
        episode_seed(split, 0)  # raises on an unknown split
        kinds = check_names("category", categories, CATEGORIES)
        pairs = split_pairs(kinds, check_names("colour", colours, COLOURS))
        if not 16 <= image_size <= 2048:
            raise PosaError(f"image_size must lie in 16 … 2048 pixels, found {image_size}")
        self.options = Options(check_condition(condition), split, pairs, num_distractors)
        self.image_size, self._max_episode_steps, self.render_mode = image_size, episode_length, render_mode
        self.model = build_scene(1 + num_distractors + EXTRA_DISTRACTORS[1])
        self.data = mujoco.MjData(self.model)
        self.slots = Slots(self.model)
        self.renderer = SceneRenderer(self.model, image_size)
        self._ids = scene_ids(self.model)
        self._kinematics = ArmKinematics()
        self._site = self.model.site(GRIP_SITE).id
        self._arm = np.array([self.model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._fingers = np.array([self.model.joint(name).qposadr[0] for name in FINGER_JOINTS])
        actuators = {int(self.model.actuator(i).trnid[0]): i for i in range(self.model.nu)}
        self._arm_ctrl = [actuators[self.model.joint(name).id] for name in ARM_JOINTS]
        self._finger_ctrl = [actuators[self.model.joint(name).id] for name in FINGER_JOINTS]
        self.episode: Episode | None = None
        self.task_description = ""
        self.observation_space, self.action_space = _spaces(image_size)

    # --- gymnasium ---

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.episode = sample_episode(self.options, seed)
        self.task_description = self.episode.instruction
        self._apply_look()
        mujoco.mj_resetData(self.model, self.data)
        self.slots.fill(self.data, list(self.episode.objects))
        joints = np.array(NEUTRAL) + self.episode.home_noise
        self.data.qpos[self._arm] = self.data.ctrl[self._arm_ctrl] = joints
        self.data.qpos[self._fingers] = self.data.ctrl[self._finger_ctrl] = (FINGER_OPEN, -FINGER_OPEN)
        mujoco.mj_step(self.model, self.data, SETTLE_STEPS)
        self._refresh()
        self._start_heights = self._heights()
        self._held = self._steps = 0
        return self._observation(), {"is_success": False, "lifted": "", "seed": seed}

    def step(self, action: np.ndarray):
        if self.episode is None:
            raise PosaError("call reset() before step()")
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise PosaError(f"an action is 7 finite numbers in [-1, 1], found shape {action.shape}: {action}")
        self._command(np.clip(action, -1, 1))
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        self._refresh()
        lifted = self._lifted()
        self._held = self._held + 1 if lifted == self.episode.target else 0
        self._steps += 1
        success = self._held >= HOLD_STEPS
        info = {"is_success": success, "lifted": lifted or ""}
        truncated = not success and self._steps >= self._max_episode_steps
        return self._observation(), float(success), success, truncated, info

    def render(self) -> np.ndarray:
        """Both cameras side by side, uint8 (S, 2 S, 3)."""
        return np.hstack([self.renderer.render(self.data, camera) for camera in CAMERAS])

    def close(self) -> None:
        self.renderer.close()

    # --- ground truth, for evaluation and labels only ---

    def ground_truth(self) -> GroundTruth:
        if self.episode is None:
            raise PosaError("call reset() before ground_truth()")
        objects = []
        for placed, start in zip(self.episode.objects, self.slots.qpos, strict=False):
            pose = self.data.qpos[start : start + 7]
            name = f"{placed.colour} {placed.category}"
            objects.append(ObjectState(name, placed.category, placed.colour, pose[:3].copy(), pose[3:].copy()))
        return GroundTruth(
            target=self.episode.target,
            task_id=self.episode.task_id,
            objects=tuple(objects),
            ee_pose=np.concatenate(self.ee_pose()),
            cameras={name: self.camera_matrices(name) for name in CAMERAS},
            lifted=self._lifted(),
            held_out_phrasing=self.episode.held_out_phrasing,
        )

    def ee_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """world_from_ee of the grip site: position (3,) m and quaternion (w, x, y, z) with w >= 0."""
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._site])
        return self.data.site_xpos[self._site].copy(), quaternion if quaternion[0] >= 0 else -quaternion

    def camera_matrices(self, camera: str) -> tuple[np.ndarray, np.ndarray]:
        """(K (3, 3), cam_from_world (4, 4)): OpenCV axes, pixel centres at integers, the current state."""
        index, size = self.model.camera(camera).id, self.image_size
        focal = size / 2 / np.tan(np.radians(self.model.cam_fovy[index]) / 2)
        centre = (size - 1) / 2
        intrinsics = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1.0]])
        rotation = (self.data.cam_xmat[index].reshape(3, 3) * (1, -1, -1)).T  # MuJoCo: y up, looking along -z
        cam_from_world = np.eye(4)
        cam_from_world[:3, :3] = rotation
        cam_from_world[:3, 3] = -rotation @ self.data.cam_xpos[index]
        return intrinsics, cam_from_world

    def target_visibility(self) -> dict[str, float]:
        """Share of the target's silhouette in the picture that nothing covers; 0 where it is out of frame."""
        geoms = [g for g in self.slots.geoms(0) if self.model.geom_group[g] == VISIBLE]
        alone = 5  # a geom group that nothing else uses
        shares = {}
        for camera in CAMERAS:
            seen = np.isin(self.renderer.geom_ids(self.data, camera), geoms).sum()
            self.model.geom_group[geoms] = alone
            whole = np.isin(self.renderer.geom_ids(self.data, camera, (alone,)), geoms).sum()
            self.model.geom_group[geoms] = VISIBLE
            shares[camera] = float(min(seen / whole, 1.0)) if whole else 0.0
        return shares

    @staticmethod
    def over_table(position: np.ndarray) -> bool:
        """Whether a point (3,) m lies within the table's outline; objects may fall off its edge."""
        return bool((np.abs(np.subtract(position[:2], TABLE_CENTRE)) < TABLE_HALF).all())

    # --- inside ---

    def _command(self, action: np.ndarray) -> None:
        position, quaternion = self.ee_pose()
        goal = np.clip(position + POSITION_SCALE * action[:3], REACH_LOW, REACH_HIGH)
        turned = multiply(quaternion_from_axis_angle(ROTATION_SCALE * action[3:6]), quaternion)
        joints = self._kinematics.solve(self.data.qpos[self._arm], goal, turned)
        self.data.ctrl[self._arm_ctrl] = joints
        opening = FINGER_OPEN * (1 - action[6]) / 2
        self.data.ctrl[self._finger_ctrl] = (opening, -opening)

    def _refresh(self) -> None:
        """mj_step leaves poses of the state before its last substep: bring them up to the present."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _observation(self) -> dict[str, Any]:
        position, quaternion = self.ee_pose()
        state = np.concatenate([position, axis_angle_from_quaternion(quaternion), self.data.qpos[self._fingers]])
        pixels = {camera: self.renderer.render(self.data, camera) for camera in CAMERAS}
        return {"pixels": pixels, "agent_pos": state.astype(np.float32)}

    def _heights(self) -> np.ndarray:
        return self.data.qpos[np.array(self.slots.qpos) + 2]

    def _lifted(self) -> str | None:
        assert self.episode is not None
        rise = (self._heights() - self._start_heights)[: len(self.episode.objects)]
        if rise.max() < LIFT_HEIGHT:
            return None
        placed = self.episode.objects[int(rise.argmax())]
        return f"{placed.colour} {placed.category}"

    def _apply_look(self) -> None:
        assert self.episode is not None
        look, lamp = self.episode.look, self._ids.lamp
        self.renderer.upload_texture(self._ids.table_texture, look.table)
        self.renderer.upload_texture(self._ids.wall_texture, look.wall)
        self.model.light_dir[lamp] = look.lamp_direction / np.linalg.norm(look.lamp_direction)
        self.model.light_diffuse[lamp] = look.lamp_diffuse
        self.model.light_specular[lamp] = 0.3 * look.lamp_diffuse
        headlight = self.model.vis.headlight
        headlight.ambient[:], headlight.diffuse[:], headlight.specular[:] = look.ambient, 0.25 * look.ambient, 0


def _spaces(size: int) -> tuple[gym.spaces.Dict, gym.spaces.Box]:
    picture = gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
    state = gym.spaces.Box(-np.inf, np.inf, (8,), np.float32)
    pixels = gym.spaces.Dict(dict.fromkeys(CAMERAS, picture))
    return gym.spaces.Dict({"pixels": pixels, "agent_pos": state}), gym.spaces.Box(-1, 1, (7,), np.float32)
