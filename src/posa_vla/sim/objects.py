"""What stands on the table: categories, colours, and how each category is built and grasped.

Body frames: origin at the centre of the bounding box, z up, the narrow side along y, which is the axis the
gripper opens along when its yaw equals the object's. Six categories dress robosuite's meshes over simple
collision shapes; the others are made of primitives or of the meshes in `shapes`. Sizes are metres.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from posa_vla.errors import PosaError
from posa_vla.sim import shapes

RGB = {
    "red": (0.86, 0.08, 0.08),
    "green": (0.08, 0.62, 0.14),
    "blue": (0.08, 0.20, 0.88),
    "yellow": (0.98, 0.84, 0.05),
    "purple": (0.52, 0.10, 0.66),
    "cyan": (0.10, 0.80, 0.86),
}
COLOURS = tuple(RGB)

VISIBLE, HIDDEN, COLLISION_ONLY = 0, 4, 3  # geom groups; only VISIBLE is drawn
CONTACT: dict[str, Any] = {
    "condim": 4,
    "friction": (1.2, 0.02, 0.001),
    "solref": (0.004, 1.0),
    "solimp": (0.95, 0.99, 0.001, 0.5, 2.0),
}
Box, Cylinder = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
Capsule, Sphere = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_SPHERE
ALONG_X = (0.70710678, 0.0, 0.70710678, 0.0)


@dataclass(frozen=True)
class Category:
    """One kind of object.

    Args:
        size: full extents of the bounding box (m).
        grasp_height: height of the grip site above the table when grasping (m).
        yaw_period: turning the object by this angle (rad) gives the same grasp; 0 for any angle.
        build: adds the geoms to a body of a spec.
        mass: kg.
    """

    name: str
    size: tuple[float, float, float]
    grasp_height: float
    yaw_period: float
    build: Callable[[mujoco.MjSpec, mujoco.MjsBody], None]
    mass: float = 0.08

    @property
    def radius(self) -> float:
        """Radius of the footprint (m), its corners included."""
        x, y, _ = self.size
        return max(x, y) / 2 if self.yaw_period == 0 else float(np.hypot(x, y)) / 2

    @property
    def inertia(self) -> tuple[float, float, float]:
        """Diagonal inertia of a box of this size (kg m²)."""
        x, y, z = (s * s * self.mass / 12 for s in self.size)
        return (y + z, x + z, x + y)


@lru_cache
def asset_root() -> Path:
    """robosuite's asset folder, found without importing robosuite."""
    spec = importlib.util.find_spec("robosuite")
    if spec is None or not spec.submodule_search_locations:
        raise PosaError(
            "the tabletop suite needs the mesh files of robosuite 1.4.0, which is not installed: "
            'pip install "lerobot_policy_posa_vla[sim]"'
        )
    return Path(spec.submodule_search_locations[0]) / "models" / "assets"


@lru_cache
def mesh_bounds(file: str) -> tuple[np.ndarray, np.ndarray]:
    """(low, high), each (3,) in the file's own frame and unit, of a robosuite object mesh."""
    spec = mujoco.MjSpec()
    spec.add_mesh(name="mesh", file=str(asset_root() / "objects/meshes" / file))
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
    model = spec.compile()
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.mesh_quat[0])
    vertices = model.mesh_vert @ rotation.reshape(3, 3).T + model.mesh_pos[0]
    return vertices.min(0), vertices.max(0)


def _solid(body: mujoco.MjsBody, kind: mujoco.mjtGeom, size: tuple, drawn: bool, **fields) -> None:
    """A collision primitive; `size` holds MuJoCo's half extents."""
    padded = tuple(size) + (0.0,) * (3 - len(size))
    body.add_geom(type=kind, size=padded, mass=0, group=VISIBLE if drawn else COLLISION_ONLY, **(CONTACT | fields))


def _skin(body: mujoco.MjsBody, mesh: str, **fields) -> None:
    """A mesh that is drawn and never touched."""
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=mesh,
        mass=0,
        contype=0,
        conaffinity=0,
        group=VISIBLE,
        **fields,
    )


def _procedural(spec: mujoco.MjSpec, name: str, mesh: shapes.Mesh) -> str:
    vertices, faces = mesh
    spec.add_mesh(
        name=name, uservert=vertices.ravel(), userface=faces.ravel(), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    )
    return name


def _dress(spec, body, name: str, file: str, size: tuple, texture: str | None, repeat: float = 1.0) -> None:
    """Scale a robosuite mesh to `size` and centre it on the body."""
    low, high = mesh_bounds(file)
    scale = np.array(size) / (high - low)
    spec.add_mesh(name=name, file=str(asset_root() / "objects/meshes" / file), scale=scale)
    fields = {}
    if texture:
        spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, file=str(asset_root() / "textures" / texture))
        material = spec.add_material(name=name, texrepeat=(repeat, repeat), specular=0.1, shininess=0.1)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
        fields["material"] = name
    _skin(body, name, pos=-(low + high) / 2 * scale, **fields)


def _mesh_object(spec, body, *, mesh, file, size, texture=None, repeat=1.0, shape=Box) -> None:
    _dress(spec, body, mesh, file, size, texture, repeat)
    x, y, z = (s / 2 for s in size)
    if shape == Capsule:  # rolling friction: a lemon that rolls away is no pick task
        rolling = {"condim": 6, "friction": (1.2, 0.02, 0.004)}
        _solid(body, Capsule, (y, x - y), False, quat=ALONG_X, **rolling)
    else:
        _solid(body, shape, (x, z) if shape == Cylinder else (x, y, z), False)


def _bottle(spec, body, *, size) -> None:
    _dress(spec, body, "bottle", "bottle.stl", size, None)
    x, _, z = (s / 2 for s in size)
    _solid(body, Cylinder, (x, 0.72 * z), False, pos=(0, 0, -0.28 * z))
    _solid(body, Cylinder, (0.45 * x, 0.28 * z), False, pos=(0, 0, 0.72 * z))


def _cube(spec, body, *, size) -> None:
    _solid(body, Box, tuple(s / 2 for s in size), True)


def _bowl(spec, body, *, size) -> None:
    r, h = size[0] / 2, size[2] / 2
    rim = [(0, -h), (0.55 * r, -h), (0.85 * r, -0.3 * h), (r, h), (0.88 * r, h)]
    inside = [(0.7 * r, -0.1 * h), (0.4 * r, -0.62 * h), (0, -0.66 * h)]
    _skin(body, _procedural(spec, "bowl", shapes.lathe(rim + inside)))
    _solid(body, Cylinder, (0.92 * r, 0.5 * h), False, pos=(0, 0, 0.5 * h))
    _solid(body, Cylinder, (0.62 * r, 0.5 * h), False, pos=(0, 0, -0.5 * h))


def _mug(spec, body, *, size) -> None:
    r, h, handle = size[1] / 2, size[2] / 2, size[0] - size[1]
    centre = -handle / 2
    profile = [(0, -h), (r, -h), (r, h), (0.82 * r, h), (0.82 * r, -0.75 * h), (0, -0.75 * h)]
    _skin(body, _procedural(spec, "mug", shapes.lathe(profile)), pos=(centre, 0, 0))
    _solid(body, Cylinder, (r, h), False, pos=(centre, 0, 0))
    x = centre + r + handle / 2
    for z in (-0.45 * h, 0.45 * h):
        _solid(body, Box, (handle / 2, 0.005, 0.005), True, pos=(x, 0, z))
    _solid(body, Box, (0.005, 0.005, 0.45 * h), True, pos=(centre + r + handle - 0.005, 0, 0))


def _ring(spec, body, *, size) -> None:
    tube = size[2] / 2
    _skin(body, _procedural(spec, "ring", shapes.torus(size[0] / 2 - tube, tube)))
    _solid(body, Cylinder, (size[0] / 2 - 0.001, 0.8 * tube), False)
    _solid(body, Cylinder, (size[0] / 2 - tube, tube), False)


def _cone(spec, body, *, size) -> None:
    r, h = size[0] / 2, size[2] / 2
    _skin(body, _procedural(spec, "cone", shapes.lathe([(0, -h), (r, -h), (0, h)])))
    _solid(body, Cylinder, (r, 0.3 * h), False, pos=(0, 0, -0.7 * h))
    _solid(body, Cylinder, (0.45 * r, 0.7 * h), False, pos=(0, 0, 0.3 * h))


def _mushroom(spec, body, *, size) -> None:
    r, h = size[0] / 2, size[2] / 2
    cap = [(0.45 * r, 0.0), (r, 0.0), (0.9 * r, 0.45 * h), (0.55 * r, 0.85 * h), (0, h)]
    _skin(body, _procedural(spec, "mushroom", shapes.lathe([(0, -h), (0.45 * r, -h), *cap])))
    _solid(body, Cylinder, (0.5 * r, h), False)
    _solid(body, Cylinder, (0.95 * r, 0.3 * h), False, pos=(0, 0, 0.3 * h))


def _cross(spec, body, *, size) -> None:
    x, y, z = (s / 2 for s in size)
    _solid(body, Box, (x, 0.3 * y, z), True)
    _solid(body, Box, (0.3 * x, y, z), True)


def _arch(spec, body, *, size) -> None:
    x, y, z = (s / 2 for s in size)
    for side in (-1, 1):
        _solid(body, Box, (x, 0.25 * y, 0.6 * z), True, pos=(0, side * 0.75 * y, -0.4 * z))
    _solid(body, Box, (x, y, 0.4 * z), True, pos=(0, 0, 0.6 * z))


def _star(spec, body, *, size) -> None:
    _skin(body, _procedural(spec, "star", shapes.star(size[0] / 2, 0.22 * size[0], size[2])))
    _solid(body, Cylinder, (0.4 * size[0], size[2] / 2), False)


def _category(name, size, grasp_height, yaw_period, build, mass=0.08, **fields) -> Category:
    return Category(name, size, grasp_height, yaw_period, partial(build, size=size, **fields), mass)


def _robosuite(name, size, grasp_height, yaw_period, file, **fields) -> Category:
    return _category(name, size, grasp_height, yaw_period, _mesh_object, mesh=name, file=file, **fields)


_TARGETS = (
    _category("cube", (0.044, 0.044, 0.044), 0.022, np.pi / 2, _cube),
    _robosuite("can", (0.050, 0.050, 0.076), 0.050, 0.0, "can.msh", texture="soda.png", repeat=5, shape=Cylinder),
    _category("bowl", (0.062, 0.062, 0.036), 0.022, 0.0, _bowl),
    _category("bottle", (0.042, 0.042, 0.088), 0.058, 0.0, _bottle),
    _robosuite(
        "lemon", (0.068, 0.040, 0.040), 0.019, np.pi, "lemon.msh", texture="lemon.png", repeat=60, shape=Capsule
    ),
    _robosuite("milk", (0.038, 0.038, 0.086), 0.058, np.pi / 2, "milk.msh", texture="ceramic.png"),
    _robosuite("cereal", (0.066, 0.028, 0.084), 0.058, np.pi, "cereal.msh", texture="cereal.png"),
    _robosuite("bread", (0.074, 0.038, 0.042), 0.022, np.pi, "bread.stl", texture="bread.png", repeat=15),
    _category("mug", (0.068, 0.048, 0.058), 0.034, 2 * np.pi, _mug),
    _category("ring", (0.064, 0.064, 0.022), 0.013, 0.0, _ring),
)
_DISTRACTORS = (
    _category("cone", (0.056, 0.056, 0.080), 0.02, 0.0, _cone),
    _category("mushroom", (0.056, 0.056, 0.056), 0.02, 0.0, _mushroom),
    _category("cross", (0.060, 0.060, 0.030), 0.015, np.pi / 2, _cross),
    _category("arch", (0.032, 0.070, 0.056), 0.02, np.pi, _arch),
    _category("star", (0.062, 0.062, 0.030), 0.015, 0.0, _star),
)
CATALOGUE = {category.name: category for category in _TARGETS + _DISTRACTORS}
CATEGORIES = tuple(category.name for category in _TARGETS)
UNSEEN_CATEGORIES = tuple(category.name for category in _DISTRACTORS)
"""Categories that are never a target and appear only in the `distractors` condition."""
