"""What belongs to a task family and is no named object: a box and its lid, a plate, a mark, columns, a screen.

Fixtures that never move while the hand works are mocap bodies: an episode puts them where it likes, and nothing
pushes them. The lid is free. Sizes are metres; a body's origin is at the bottom of what it holds, z up.
"""

import mujoco
import numpy as np

from posa_vla.sim.objects import COLLISION_ONLY, CONTACT, VISIBLE
from posa_vla.sim.screen import PARKED, FixturePose

BoxGeom, Cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER

BOX_INNER, BOX_WALL, BOX_HEIGHT, BOX_FLOOR = 0.062, 0.007, 0.046, 0.001  # half side, thickness, rim, floor
BOX_HALF = BOX_INNER + 2 * BOX_WALL  # half of the outer side
LID_HALF, LID_THICK = 0.074, 0.006
HANDLE = (0.030, 0.011, 0.032)  # half length along x, half width along y (the gripper's axis), height
LID_GRASP = LID_THICK + 0.020  # of the grip site above the lid's underside
PLATE_RADIUS, PLATE_HEIGHT = 0.062, 0.010
MARK_RADIUS = 0.045
MARK_INNER = 0.6 * MARK_RADIUS  # of its light middle
SMOOTH = 0.35  # friction of a table for pushing
SCREEN, POLE = (0.003, 0.030, 0.046), (0.004, 0.5)  # half sides of the board, radius and length
COLUMN_RADIUS, COLUMN_LENGTH, COLUMNS = 0.037, 0.16, 13
PAINT = {"contype": 0, "conaffinity": 0}

CARDBOARD, CARDBOARD_LID, DARK = (0.55, 0.42, 0.30, 1), (0.63, 0.50, 0.37, 1), (0.16, 0.16, 0.18, 1)
CHINA, STONE = (0.93, 0.93, 0.90, 1), (0.45, 0.46, 0.48, 1)


def _geom(body: mujoco.MjsBody, kind: mujoco.mjtGeom, size: tuple, pos: tuple, rgba: tuple, **fields) -> None:
    padded = tuple(size) + (0.0,) * (3 - len(size))
    body.add_geom(type=kind, size=padded, pos=pos, rgba=rgba, mass=0, **(CONTACT | {"group": VISIBLE} | fields))


def _fixed(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    return spec.worldbody.add_body(name=name, mocap=True, pos=PARKED[:3])


def add_box(spec: mujoco.MjSpec) -> None:
    """An open box, walls along its own x and y.

    Its floor is painted: things in it stand on the table. On a floor that is a thin box geom MuJoCo's box-box
    collision now and then finds a standing thing on the wrong face, 9 cm deep, and throws it across the room.
    """
    body = _fixed(spec, "box")
    _geom(body, BoxGeom, (BOX_HALF, BOX_HALF, BOX_FLOOR / 2), (0, 0, BOX_FLOOR / 2), CARDBOARD, **PAINT)
    middle = BOX_INNER + BOX_WALL
    for side in (-1, 1):
        _geom(body, BoxGeom, (BOX_HALF, BOX_WALL, BOX_HEIGHT / 2), (0, side * middle, BOX_HEIGHT / 2), CARDBOARD)
        _geom(body, BoxGeom, (BOX_WALL, BOX_INNER, BOX_HEIGHT / 2), (side * middle, 0, BOX_HEIGHT / 2), CARDBOARD)


def add_lid(spec: mujoco.MjSpec) -> None:
    """A plate with a handle that the gripper closes on; lies on the box or on the table."""
    body = spec.worldbody.add_body(name="lid", pos=PARKED[:3])
    body.add_freejoint(name="lid")
    body.explicitinertial = True
    body.mass, body.ipos, body.iquat = 0.09, (0, 0, LID_THICK / 2), (1, 0, 0, 0)
    flat = 0.09 * (2 * LID_HALF) ** 2 / 12
    body.inertia = (flat, flat, 2 * flat)
    _geom(body, BoxGeom, (LID_HALF, LID_HALF, LID_THICK / 2), (0, 0, LID_THICK / 2), CARDBOARD_LID)
    length, width, height = HANDLE
    _geom(body, BoxGeom, (length, width, height / 2), (0, 0, LID_THICK + height / 2), DARK)


def add_plate(spec: mujoco.MjSpec) -> None:
    body = _fixed(spec, "plate")
    _geom(body, Cylinder, (0.62 * PLATE_RADIUS, PLATE_HEIGHT / 4), (0, 0, PLATE_HEIGHT / 4), STONE)
    _geom(body, Cylinder, (PLATE_RADIUS, PLATE_HEIGHT / 4), (0, 0, 3 * PLATE_HEIGHT / 4), CHINA)


def add_mark(spec: mujoco.MjSpec) -> None:
    """A disc painted on the table: nothing touches it."""
    body = _fixed(spec, "mark")
    _geom(body, Cylinder, (MARK_RADIUS, 0.0004), (0, 0, 0.0004), DARK, **PAINT)
    _geom(body, Cylinder, (MARK_INNER, 0.0004), (0, 0, 0.0010), CHINA, **PAINT)


def add_columns(spec: mujoco.MjSpec) -> None:
    """Columns whose tops are raised to any height: the rest of them stands below the table top, unseen."""
    for index in range(COLUMNS):
        body = _fixed(spec, f"column_{index}")
        _geom(body, Cylinder, (COLUMN_RADIUS, COLUMN_LENGTH / 2), (0, 0, -COLUMN_LENGTH / 2), STONE, **PAINT)
        half = COLUMN_RADIUS / 2**0.5  # things stand on a box in the column: cylinders on cylinders jump off
        size = (half, half, COLUMN_LENGTH / 2)
        _geom(body, BoxGeom, size, (0, 0, -COLUMN_LENGTH / 2), STONE, group=COLLISION_ONLY)


def smooth_table(spec: mujoco.MjSpec) -> None:
    """A table top on which things slide when they are pushed.

    On the usual one, of the friction 1.2 that grasping wants, a pushed cube tips over its front edge, or locks: table
    and hand together hold it with more force than pushes it, however hard that is.
    """
    table = next(geom for geom in spec.geoms if geom.name == "table")
    table.priority = 1  # its own numbers count, not the larger of both
    table.condim, table.friction = CONTACT["condim"], (SMOOTH, *CONTACT["friction"][1:])


def add_screen(spec: mujoco.MjSpec) -> None:
    """A board on a pole, its origin at the board's centre; the pole goes on below the table top. Nothing touches it."""
    body = _fixed(spec, "screen")
    _geom(body, BoxGeom, SCREEN, (0, 0, 0), DARK, **PAINT)
    radius, length = POLE
    _geom(body, Cylinder, (radius, length / 2), (0, 0, -SCREEN[2] - length / 2), DARK, **PAINT)


class Fixtures:
    """The fixtures of one scene, by body name. A mocap body is moved at will, the lid only on reset."""

    def __init__(self, model: mujoco.MjModel):
        self.model = model
        names = [model.body(i).name for i in range(model.nbody)]
        self.ids = {n: i for i, n in enumerate(names) if model.body_mocapid[i] >= 0 or n == "lid"}

    def place(self, data: mujoco.MjData, poses: dict[str, FixturePose]) -> None:
        """Put each fixture at its pose, and those that have none out of sight."""
        for name in self.ids:
            self.move(data, name, poses.get(name, PARKED))

    def move(self, data: mujoco.MjData, name: str, pose: FixturePose) -> None:
        body = self.ids[name]
        quaternion = (np.cos(pose[3] / 2), 0, 0, np.sin(pose[3] / 2))
        mocap = self.model.body_mocapid[body]
        if mocap >= 0:
            data.mocap_pos[mocap], data.mocap_quat[mocap] = pose[:3], quaternion
        else:
            start = self.model.jnt_qposadr[self.model.body_jntadr[body]]
            data.qpos[start : start + 7] = (*pose[:3], *quaternion)

    def pose(self, data: mujoco.MjData, name: str) -> tuple[np.ndarray, np.ndarray]:
        """world_from_fixture: position (3,) m and quaternion (w, x, y, z)."""
        return data.xpos[self.ids[name]].copy(), data.xquat[self.ids[name]].copy()

    def geoms(self, name: str) -> list[int]:
        first = int(self.model.body_geomadr[self.ids[name]])
        return list(range(first, first + int(self.model.body_geomnum[self.ids[name]])))
