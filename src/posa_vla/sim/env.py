"""The gymnasium environment of the tabletop suite. Robot constants are LIBERO's; control is our own."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from posa_vla.contract import CAMERAS
from posa_vla.errors import PosaError
from posa_vla.sim.conditions import (
    EXTRA_DISTRACTORS,
    OCCLUSION,
    check_condition,
    chosen_pairs,
    episode_seed,
)
from posa_vla.sim.episode import Episode, Options
from posa_vla.sim.families import get_family
from posa_vla.sim.fixtures import Fixtures, add_screen
from posa_vla.sim.kinematics import axis_angle_from_quaternion
from posa_vla.sim.objects import VISIBLE
from posa_vla.sim.renderer import SceneRenderer
from posa_vla.sim.robot import FINGER_OPEN, Robot
from posa_vla.sim.scene import NEUTRAL, TABLE_CENTRE, TABLE_HALF, TIMESTEP, build_scene, scene_ids
from posa_vla.sim.slots import Slots
from posa_vla.sim.touch import Touch

FPS = 20
SUBSTEPS = round(1 / FPS / TIMESTEP)
LIFT_HEIGHT = 0.10  # m above where it stood
HOLD_STEPS = 10  # 0.5 s
LEFT_OPENING, LEFT_DISTANCE = 0.06, 0.07  # m: the hand is open this far, and this far away, once it left a thing
SETTLE_STEPS = 25
VIEW_SIZE = 320  # pixels of the pictures for people
BLOWN_UP = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


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
        task_id: the goal (see `Family.task_id`), whatever its wording.
        ee_pose: (7,) world_from_ee: position (m), quaternion (w, x, y, z); the EE is the grip site.
        cameras: name to (K (3, 3), OpenCV, pixel centres at integers; cam_from_world (4, 4), OpenCV axes).
        lifted: name of the object that is lifted by 10 cm now, whichever it is.
        held_out_phrasing: the sentence's phrasing never occurs in training.
        stages: which of the family's stages have been reached so far.
        focus: (3,) m, where the hand will be when it next closes or opens for good; None: nothing is left to do.
    """

    target: str
    task_id: int
    objects: tuple[ObjectState, ...]
    ee_pose: np.ndarray
    cameras: dict[str, tuple[np.ndarray, np.ndarray]]
    lifted: str | None
    held_out_phrasing: bool
    stages: dict[str, bool]
    focus: np.ndarray | None

    @property
    def target_state(self) -> ObjectState:
        return self.objects[0]


class TabletopEnv(gym.Env):
    """A Panda, a table, and one object among several that a sentence names, with something to do to it.

    Observation: ``{"pixels": {"head", "wrist"}: uint8 (S, S, 3), "agent_pos": float32 (8,)}``, the state being
    EE position (m), EE axis-angle (rad) and two finger positions (m), world frame. Action, float32 (7,) in
    [-1, 1]: delta position (±1 = 0.05 m), delta axis-angle (±1 = 0.5 rad, world frame, left-multiplied),
    gripper (-1 open, +1 close). The goal is the measured pose plus the delta, kept within reach of the table.

    Args:
        condition: one of `conditions.TESTS`, or `conditions.RANDOMISED`.
        split: which disjoint range of scenes a seed maps to: train, val or eval.
        image_size: side of both square pictures, pixels.
        categories, colours: restrict the objects; None allows all.
        held_out: pairs ("cyan cube") that only the condition `objects` shows; None: see `conditions.split_pairs`.
        num_distractors: other objects on the table (2 to 4 more in the condition `distractors`).
        episode_length: steps until truncation; None for the family's own.
        family: what there is to do, one of `families.FAMILIES`.
        contacts: measure how hard the hand presses on things, also in a family that does not need it.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (gymnasium's own name)
    render_mode = "rgb_array"

    def __init__(
        self,
        condition: str = "basic",
        split: str = "eval",
        image_size: int = 128,
        categories: tuple[str, ...] | None = None,
        colours: tuple[str, ...] | None = None,
        num_distractors: int = 4,
        episode_length: int | None = None,
        render_mode: str = "rgb_array",
        family: str = "pick",
        contacts: bool = False,
        held_out: tuple[str, ...] | None = None,
    ):
        episode_seed(split, 0)  # raises on an unknown split
        pairs = chosen_pairs(categories, colours, held_out)
        if not 16 <= image_size <= 2048:
            raise PosaError(f"image_size must lie in 16 … 2048 pixels, found {image_size}")
        if num_distractors < 0 or (episode_length is not None and episode_length < 1):
            raise PosaError(
                f"expected num_distractors of at least 0 and episode_length of at least 1, found {num_distractors} and "
                f"{episode_length}"
            )
        self.options = Options(check_condition(condition), split, pairs, num_distractors)
        self.family = get_family(family)
        self.task = f"{family.capitalize()}-v0"  # LeRobot's name of it
        self.image_size, self.render_mode = image_size, render_mode
        self._max_episode_steps = episode_length or self.family.episode_length
        screens = (add_screen,) if condition == OCCLUSION else ()  # other conditions' scenes do not contain it
        self.model = build_scene(1 + num_distractors + EXTRA_DISTRACTORS[1], (*self.family.fixtures, *screens))
        self.data = mujoco.MjData(self.model)
        self.slots, self.fixtures = Slots(self.model), Fixtures(self.model)
        self.robot = Robot(self.model, self.data)
        self.touch = Touch(self.model, measuring=contacts or self.family.contacts)
        self.renderer = SceneRenderer(self.model, image_size, largest=VIEW_SIZE)
        self._ids = scene_ids(self.model)
        self.episode: Episode | None = None
        self.task_description = ""
        self.observation_space, self.action_space = _spaces(image_size)

    # --- gymnasium ---

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.episode = self.family.sample(self.options, seed)
        self.task_description = self.episode.instruction
        self._apply_look()
        mujoco.mj_resetData(self.model, self.data)
        self.slots.fill(self.data, list(self.episode.objects))
        self.fixtures.place(self.data, dict(self.episode.layout.fixtures))
        finger = FINGER_OPEN if self.family.gripper_open else 0.0
        self.robot.place(np.array(NEUTRAL) + self.episode.home_noise, finger)
        self._held = self._steps = 0
        self.touch.step(self.data, SETTLE_STEPS)
        self._draw_screen()
        self._refresh()
        self._start_heights = self._heights()
        self.stages = dict.fromkeys(self.family.stages, False)
        return self._observation(), {"is_success": False, **self._progress(), "seed": seed}

    def step(self, action: np.ndarray):
        if self.episode is None:
            raise PosaError("call reset() before step()")
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise PosaError(f"an action is 7 finite numbers in [-1, 1], found shape {action.shape}: {action}")
        self.robot.command(np.clip(action, -1, 1))
        self.touch.step(self.data, SUBSTEPS)
        self._steps += 1
        self._draw_screen()
        self._refresh()
        reached = self.family.reached(self)
        self.stages = {stage: self.stages[stage] or reached[stage] for stage in self.family.stages}
        self._held = self._held + 1 if reached[self.family.stages[-1]] else 0
        success = self._held >= HOLD_STEPS and all(self.stages.values())
        info = {"is_success": success, **self._progress()}
        truncated = not success and self._steps >= self._max_episode_steps
        return self._observation(), float(success), success, truncated, info

    def render(self) -> np.ndarray:
        """Both cameras side by side, for people, uint8 (V, 2 V, 3)."""
        return np.hstack(list(self.views().values()))

    def views(self) -> dict[str, np.ndarray]:
        """The cameras' pictures for people, uint8 (V, V, 3): sharper than a policy's, whatever its `image_size`."""
        return {camera: self.renderer.render(self.data, camera, size=VIEW_SIZE) for camera in CAMERAS}

    def close(self) -> None:
        self.renderer.close()

    def diverged(self) -> bool:
        """Whether the physics blew up since reset; MuJoCo then starts over by itself, and all numbers are finite."""
        return any(self.data.warning[kind].number for kind in BLOWN_UP)

    # --- ground truth, for evaluation and labels only ---

    def ground_truth(self) -> GroundTruth:
        if self.episode is None:
            raise PosaError("call reset() before ground_truth()")
        objects = []
        for slot, placed in enumerate(self.episode.objects):
            name = f"{placed.colour} {placed.category}"
            objects.append(ObjectState(name, placed.category, placed.colour, *self.object_pose(slot)))
        focus = self.family.focus(self)
        return GroundTruth(
            target=self.episode.target,
            task_id=self.episode.task_id,
            objects=tuple(objects),
            ee_pose=np.concatenate(self.ee_pose()),
            cameras={name: self.camera_matrices(name) for name in CAMERAS},
            lifted=self.lifted(),
            held_out_phrasing=self.episode.held_out_phrasing,
            stages=dict(self.stages),
            focus=None if focus is None else focus.position,
        )

    def ee_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """world_from_ee of the grip site: position (3,) m and quaternion (w, x, y, z) with w >= 0."""
        return self.robot.pose()

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
        return self._visibility(self.object_geoms(0))

    def focus_visibility(self) -> dict[str, float]:
        """The same of what the hand acts on next (`Family.focus`); -1 when nothing is left to do."""
        focus = self.family.focus(self)
        return dict.fromkeys(CAMERAS, -1.0) if focus is None else self._visibility(focus.geoms)

    @staticmethod
    def over_table(position: np.ndarray) -> bool:
        """Whether a point (3,) m lies within the table's outline; objects may fall off its edge."""
        return bool((np.abs(np.subtract(position[:2], TABLE_CENTRE)) < TABLE_HALF).all())

    # --- the true state, for families and experts ---

    @property
    def target(self) -> str:
        """Name of the object that the sentence names, "{colour} {category}"."""
        assert self.episode is not None
        return self.episode.target

    def slot_of(self, name: str) -> int:
        """The slot of the object of that name."""
        assert self.episode is not None
        return next(i for i, o in enumerate(self.episode.objects) if f"{o.colour} {o.category}" == name)

    def object_pose(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """world_from_object: position (3,) m and quaternion (w, x, y, z); slot 0 holds the target."""
        start = self.slots.qpos[slot]
        pose = self.data.qpos[start : start + 7].copy()
        return pose[:3], pose[3:]

    def fixture_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """world_from_fixture: position (3,) m and quaternion (w, x, y, z)."""
        return self.fixtures.pose(self.data, name)

    def object_geoms(self, slot: int) -> list[int]:
        """Ids of the geoms that are drawn of an object."""
        return [geom for geom in self.slots.geoms(slot) if self.model.geom_group[geom] == VISIBLE]

    def rise(self, slot: int) -> float:
        """Metres by which an object is higher than it was after reset."""
        return float(self.data.qpos[self.slots.qpos[slot] + 2] - self._start_heights[slot])

    def lifted(self) -> str | None:
        """Name of the object that is lifted by `LIFT_HEIGHT` now, whichever it is."""
        assert self.episode is not None
        rise = (self._heights() - self._start_heights)[: len(self.episode.objects)]
        if rise.max() < LIFT_HEIGHT:
            return None
        placed = self.episode.objects[int(rise.argmax())]
        return f"{placed.colour} {placed.category}"

    def touches(self, slot: int) -> bool:
        """Whether the hand touched an object in the last control step; needs `contacts`."""
        return self.slots.bodies[slot] in self.touch.forces

    def contact_force(self) -> float:
        """Force (N) of the hand on all that moves freely, the mean of the last control step; needs `contacts`."""
        return sum(self.touch.forces.values())

    def left(self, slot: int) -> bool:
        """Whether the hand is open and away from an object."""
        distance = np.linalg.norm(self.ee_pose()[0] - self.object_pose(slot)[0])
        return bool(self.robot.opening > LEFT_OPENING and distance > LEFT_DISTANCE)

    # --- inside ---

    def _draw_screen(self) -> None:
        """Where the screen is now, in the condition that has one."""
        assert self.episode is not None
        if self.episode.screen is not None:
            self.fixtures.move(self.data, "screen", self.episode.screen.pose(self._steps))

    def _visibility(self, geoms: list[int]) -> dict[str, float]:
        alone = 5  # a geom group that nothing else uses
        shares = {}
        for camera in CAMERAS:
            seen = np.isin(self.renderer.geom_ids(self.data, camera), geoms).sum()
            self.model.geom_group[geoms] = alone
            whole = np.isin(self.renderer.geom_ids(self.data, camera, (alone,)), geoms).sum()
            self.model.geom_group[geoms] = VISIBLE
            shares[camera] = float(min(seen / whole, 1.0)) if whole else 0.0
        return shares

    def _progress(self) -> dict[str, Any]:
        return {"lifted": self.lifted() or "", "stages": dict(self.stages), "mistake": self.family.mistake(self)}

    def _refresh(self) -> None:
        """mj_step leaves poses of the state before its last substep: bring them up to the present."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _observation(self) -> dict[str, Any]:
        position, quaternion = self.ee_pose()
        state = np.concatenate([position, axis_angle_from_quaternion(quaternion), self.robot.fingers])
        pixels = {camera: self.renderer.render(self.data, camera) for camera in CAMERAS}
        return {"pixels": pixels, "agent_pos": state.astype(np.float32)}

    def _heights(self) -> np.ndarray:
        return self.data.qpos[np.array(self.slots.qpos) + 2]

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
