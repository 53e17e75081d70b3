"""The simulated table: what an episode puts on it, its true state, and what the cameras see of it."""

import mujoco
import numpy as np

from posa_vla.contract import CAMERAS, FPS
from posa_vla.sim.episode import Episode
from posa_vla.sim.fixtures import Fixtures
from posa_vla.sim.objects import VISIBLE
from posa_vla.sim.renderer import SceneRenderer
from posa_vla.sim.robot import Robot
from posa_vla.sim.scene import (
    NEUTRAL,
    TABLE_CENTRE,
    TABLE_HALF,
    TIMESTEP,
    FixtureBuilder,
    build_scene,
    scene_ids,
)
from posa_vla.sim.slots import Slots
from posa_vla.sim.touch import Touch

SUBSTEPS = round(1 / FPS / TIMESTEP)
SETTLE_SUBSTEPS = 25
LIFT_HEIGHT = 0.10  # m above where it stood
LEFT_OPENING, LEFT_DISTANCE = 0.06, 0.07  # m: the hand is open this far, and this far away, once it left a thing
VIEW_SIZE = 320  # pixels of the pictures for people
BLOWN_UP = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


class Tabletop:
    """A Panda, a table, and the objects and fixtures of one episode after another. World frame, metres.

    Args:
        slots: how many objects there is room for.
        fixtures: functions that add what else may stand in the scene.
        image_size: side of a policy's square pictures, pixels.
        contacts: measure how hard the hand presses on things.
    """

    def __init__(self, slots: int, fixtures: tuple[FixtureBuilder, ...], image_size: int, contacts: bool):
        self.image_size = image_size
        self.model = build_scene(slots, fixtures)
        self.data = mujoco.MjData(self.model)
        self.slots, self.fixtures = Slots(self.model), Fixtures(self.model)
        self.robot = Robot(self.model, self.data)
        self.touch = Touch(self.model, measuring=contacts)
        self.renderer = SceneRenderer(self.model, image_size, largest=VIEW_SIZE)
        self._ids = scene_ids(self.model)
        self.episode: Episode | None = None

    # --- simulation ---

    def lay_out(self, episode: Episode, finger: float) -> None:
        """Put an episode on the table, with each finger `finger` metres open, and let things settle."""
        self.episode = episode
        self._apply_look()
        mujoco.mj_resetData(self.model, self.data)
        self.slots.fill(self.data, list(episode.objects))
        self.fixtures.place(self.data, dict(episode.layout.fixtures))
        self.robot.place(np.array(NEUTRAL) + episode.home_noise, finger)
        self.steps = 0
        self._simulate(SETTLE_SUBSTEPS)
        self._start_heights = self._heights()

    def advance(self) -> None:
        """One control step towards the robot's goals."""
        self.steps += 1
        self._simulate(SUBSTEPS)

    def diverged(self) -> bool:
        """Whether the physics blew up since reset; MuJoCo then starts over by itself, and all numbers are finite."""
        return any(self.data.warning[kind].number for kind in BLOWN_UP)

    def close(self) -> None:
        self.renderer.close()

    # --- where things are ---

    @property
    def target(self) -> str:
        """Name of the object that the sentence names, "{colour} {category}"."""
        assert self.episode is not None
        return self.episode.target

    def slot_of(self, name: str) -> int:
        """The slot of the object of that name."""
        assert self.episode is not None
        return next(i for i, o in enumerate(self.episode.objects) if f"{o.colour} {o.category}" == name)

    def ee_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """world_from_ee of the grip site: position (3,) m and quaternion (w, x, y, z) with w >= 0."""
        return self.robot.pose()

    def object_pose(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """world_from_object: position (3,) m and quaternion (w, x, y, z); slot 0 holds the target."""
        start = self.slots.qpos[slot]
        pose = self.data.qpos[start : start + 7].copy()
        return pose[:3], pose[3:]

    def fixture_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """world_from_fixture: position (3,) m and quaternion (w, x, y, z)."""
        return self.fixtures.pose(self.data, name)

    @staticmethod
    def over_table(position: np.ndarray) -> bool:
        """Whether a point (3,) m lies within the table's outline; objects may fall off its edge."""
        return bool((np.abs(np.subtract(position[:2], TABLE_CENTRE)) < TABLE_HALF).all())

    # --- what happened to them ---

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

    # --- what the cameras see ---

    def views(self) -> dict[str, np.ndarray]:
        """The cameras' pictures for people, uint8 (V, V, 3): sharper than a policy's, whatever its `image_size`."""
        return {camera: self.renderer.render(self.data, camera, size=VIEW_SIZE) for camera in CAMERAS}

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

    def object_geoms(self, slot: int) -> list[int]:
        """Ids of the geoms that are drawn of an object."""
        return [geom for geom in self.slots.geoms(slot) if self.model.geom_group[geom] == VISIBLE]

    def target_visibility(self) -> dict[str, float]:
        """`visibility` of the target."""
        return self.visibility(self.object_geoms(0))

    def visibility(self, geoms: list[int]) -> dict[str, float]:
        """Camera -> share of the geoms' silhouette in the picture that nothing covers; 0 where it is out of frame."""
        alone = 5  # a geom group that nothing else uses
        shares = {}
        for camera in CAMERAS:
            seen = np.isin(self.renderer.geom_ids(self.data, camera), geoms).sum()
            self.model.geom_group[geoms] = alone
            whole = np.isin(self.renderer.geom_ids(self.data, camera, (alone,)), geoms).sum()
            self.model.geom_group[geoms] = VISIBLE
            shares[camera] = float(min(seen / whole, 1.0)) if whole else 0.0
        return shares

    # --- inside ---

    def _simulate(self, substeps: int) -> None:
        """Physics, then the screen, in the condition that has one, where it is after `steps`."""
        assert self.episode is not None
        self.touch.step(self.data, substeps)
        if self.episode.screen is not None:
            self.fixtures.move(self.data, "screen", self.episode.screen.pose(self.steps))
        # mj_step leaves poses of the state before its last substep: bring them up to the present
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

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
