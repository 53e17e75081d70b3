"""Object slots: free bodies of the one compiled model that take any category's shape on reset.

Compiling a scene costs far more than an episode may, so each category is compiled once in a small library
model, and putting it on the table copies its geoms into a slot of the scene's model.
"""

from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np

from posa_vla.errors import PosaError
from posa_vla.sim.objects import CATALOGUE, HIDDEN, RGB, VISIBLE, Category

GEOM_FIELDS = (
    "type", "size", "pos", "quat", "sameframe", "rbound", "aabb", "contype", "conaffinity", "condim",
    "friction", "solref", "solimp", "group",
)  # fmt: skip
BODY_FIELDS = ("mass", "inertia", "invweight0", "subtreemass")
SLOT_BOUND = 0.15  # m; slots are compiled larger than any object, so that static bounds hold for all of them


@dataclass(frozen=True)
class Placed:
    """What a slot holds and where: `position` (3,) m and `yaw` rad in the world frame (= robot base)."""

    category: str
    colour: str
    position: tuple[float, float, float]
    yaw: float


def _set_inertia(body: mujoco.MjsBody, mass: float, inertia: tuple[float, float, float]) -> None:
    """Mass (kg) and diagonal inertia (kg m²) about the body's origin; left unset, `ipos` becomes `pos`."""
    body.explicitinertial = True
    body.mass, body.inertia = mass, inertia
    body.ipos, body.iquat = (0, 0, 0), (1, 0, 0, 0)


def add_assets(spec: mujoco.MjSpec, free: bool) -> dict[str, mujoco.MjsBody]:
    """Add every category's meshes and materials to `spec`, as bodies of their own (free or static)."""
    bodies = {}
    for category in CATALOGUE.values():
        body = spec.worldbody.add_body(name=f"library_{category.name}")
        if free:
            body.add_freejoint()
        _set_inertia(body, category.mass, category.inertia)
        category.build(spec, body)
        bodies[category.name] = body
    return bodies


@lru_cache
def library() -> mujoco.MjModel:
    """The model that holds each category once, as a free body `library_<name>`."""
    spec = mujoco.MjSpec()
    add_assets(spec, free=True)
    return spec.compile()


@lru_cache
def geoms_per_slot() -> int:
    return int(library().body_geomnum.max())


def add_slots(spec: mujoco.MjSpec, count: int) -> None:
    """Add the assets and `count` empty slots, bodies `slot_<i>` with one free joint each."""
    for body in add_assets(spec, free=False).values():
        spec.delete(body)  # the meshes and materials stay
    for index in range(count):
        body = spec.worldbody.add_body(name=f"slot_{index}", pos=(3 + index, 0, 0), gravcomp=1)
        body.add_freejoint(name=f"slot_{index}")
        _set_inertia(body, 0.1, (1e-4, 1e-4, 1e-4))
        for _ in range(geoms_per_slot()):
            body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=(SLOT_BOUND, 0, 0), mass=0, group=HIDDEN)


class Slots:
    """The slots of one scene's model; they change `model` in place."""

    def __init__(self, model: mujoco.MjModel):
        self.model = model
        self.bodies = [
            i for i in range(model.nbody) if model.body(i).name.startswith("slot_")
        ]  # body ids, in slot order
        self.qpos = [int(model.jnt_qposadr[model.body_jntadr[body]]) for body in self.bodies]
        self.dofs = [int(model.body_dofadr[body]) for body in self.bodies]

    def fill(self, data: mujoco.MjData, objects: list[Placed]) -> None:
        """Dress slot i as object i and put it where it belongs; the remaining slots are parked unseen."""
        if len(objects) > len(self.bodies):
            raise PosaError(f"{len(objects)} objects do not fit into {len(self.bodies)} slots")
        for slot, body in enumerate(self.bodies):
            if slot < len(objects):
                placed = objects[slot]
                self._dress(slot, CATALOGUE[placed.category], RGB[placed.colour])
                self.model.body_gravcomp[body] = 0
                pose = (*placed.position, np.cos(placed.yaw / 2), 0, 0, np.sin(placed.yaw / 2))
            else:
                self._clear(body)
                pose = (3.0 + slot, 0, 0, 1, 0, 0, 0)
            data.qpos[self.qpos[slot] : self.qpos[slot] + 7] = pose

    def geoms(self, slot: int) -> range:
        """Geom ids of a slot."""
        first = int(self.model.body_geomadr[self.bodies[slot]])
        return range(first, first + geoms_per_slot())

    def _clear(self, body: int) -> None:
        first = self.model.body_geomadr[body]
        span = slice(first, first + geoms_per_slot())
        self.model.geom_contype[span] = self.model.geom_conaffinity[span] = 0
        self.model.geom_group[span] = HIDDEN
        self.model.body_gravcomp[body] = 1  # a parked slot floats: no contact, no cost

    def _dress(self, slot: int, category: Category, rgb: tuple[float, float, float]) -> None:
        model, source = self.model, library()
        body, like = self.bodies[slot], source.body(f"library_{category.name}").id
        self._clear(body)
        for field in BODY_FIELDS:
            getattr(model, f"body_{field}")[body] = getattr(source, f"body_{field}")[like]
        mine, theirs = self.dofs[slot], source.body_dofadr[like]
        for name in ("dof_invweight0", "dof_M0"):
            getattr(model, name)[mine : mine + 6] = getattr(source, name)[theirs : theirs + 6]
        first = source.body_geomadr[like]
        for geom, original in zip(self.geoms(slot), range(first, first + source.body_geomnum[like]), strict=False):
            for field in GEOM_FIELDS:
                getattr(model, f"geom_{field}")[geom] = getattr(source, f"geom_{field}")[original]
            self._skin(geom, original)
            if model.geom_group[geom] == VISIBLE:
                model.geom_rgba[geom] = (*rgb, 1)

    def _skin(self, geom: int, original: int) -> None:
        """Mesh and material ids differ between the two models; their names do not."""
        source = library()
        mesh, material = source.geom_dataid[original], source.geom_matid[original]
        self.model.geom_dataid[geom] = -1 if mesh < 0 else self.model.mesh(source.mesh(mesh).name).id
        self.model.geom_matid[geom] = -1 if material < 0 else self.model.material(source.mat(material).name).id
