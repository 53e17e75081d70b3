"""Forward kinematics: joint values to end-effector poses, by MuJoCo, from an MJCF or URDF file without its meshes."""

from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.anchors.pose import EE, WORLD, Transform, homogeneous
from posa_vla.errors import PosaError, unknown_name
from posa_vla.rigs.sources import JointSource

BEYOND_LIMIT = 0.1
"""rad or m by which a recorded joint may pass the model's limit: servos overshoot, and limits are rounded."""
SHORTEST_RANGE = 0.2
"""rad or m. Models written for angles in radians but read in degrees (robosuite's arms, which get their unit from
another file) have limits a 57th of the real ones: a joint with a shorter range than this says nothing."""
MOST_TURNS = 2.0
"""No arm's joint winds up further: more are degrees."""


class ForwardKinematics:
    """world_from_ee of a robot model at given joint values."""

    def __init__(self, source: JointSource):
        mujoco = _mujoco()
        self.source = source
        self.path = Path(source.model) if source.kept_model else source.model_path()
        self._mujoco = mujoco
        self._model = model_without_shapes(source)[1]
        self._data = mujoco.MjData(self._model)
        joints = [self._find("joint", name) for name in source.names]
        self._addresses = np.array([self._model.jnt_qposadr[joint] for joint in joints])
        kinds = self._model.jnt_type[joints]
        if not np.isin(kinds, (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)).all():
            raise PosaError(
                f"{self.path}: expected hinge and slide joints, one of {source.names} is a ball or free one"
            )
        self._turns = kinds == mujoco.mjtJoint.mjJNT_HINGE
        limited = self._model.jnt_limited[joints].astype(bool)
        limits = self._model.jnt_range[joints]
        known = limited & (limits[:, 1] - limits[:, 0] >= SHORTEST_RANGE)
        self._limits = np.where(known[:, None], limits, [-np.inf, np.inf])  # (J, 2)
        frame = "site" if source.site is not None else "body"
        self._frame = self._find(frame, source.site or source.body or "")
        part = "site_x" if frame == "site" else "x"
        self._position, self._rotation = (getattr(self._data, part + kind)[self._frame] for kind in ("pos", "mat"))

    def joints(self, values: np.ndarray) -> np.ndarray:
        """Recorded values (N, J) -> the model's joint values, rad or m."""
        angles = values * np.asarray(self.source.scales) + np.asarray(self.source.offsets)
        return np.where(self._turns, np.deg2rad(angles), angles) if self.source.unit == "degrees" else angles

    def problem(self, values: np.ndarray) -> str | None:
        """Why recorded values (N, J) cannot be this robot's joints, or None."""
        joints, source = self.joints(values), self.source
        turning = joints[:, self._turns]
        if source.unit == "radians" and turning.size and np.abs(turning).max() > MOST_TURNS * 2 * np.pi:
            return f"a joint stands at {np.abs(turning).max():.1f} rad: the unit seems to be degrees (unit: degrees)"
        turns = (values * np.asarray(source.scales))[:, self._turns]
        if source.unit == "degrees" and turns.size and _could_be_radians(turns):
            return "no joint moves by 7 degrees in the whole dataset: the unit seems to be radians (unit: radians)"
        beyond = np.maximum(self._limits[:, 0] - joints, joints - self._limits[:, 1])  # (N, J)
        row, joint = np.unravel_index(np.argmax(beyond), beyond.shape)
        if beyond[row, joint] > BEYOND_LIMIT:
            low, high = self._limits[joint]
            return (
                f"{source.names[joint]} stands at {joints[row, joint]:.2f}, outside its limits {low:.2f} to {high:.2f} "
                f"in {self.path.name}: check the order of names and indices, the scales, the offsets and the unit"
            )
        return None

    def world_from_ee(self, values: np.ndarray) -> Transform:
        """Recorded values (N, J) -> (N, 4, 4), world = the model's world frame."""
        joints = self.joints(values)
        positions, rotations = np.empty((len(joints), 3)), np.empty((len(joints), 9))
        data, qpos, kinematics = self._data, self._data.qpos, self._mujoco.mj_kinematics
        for row, angles in enumerate(joints):
            qpos[self._addresses] = angles
            kinematics(self._model, data)
            positions[row], rotations[row] = self._position, self._rotation
        return Transform(WORLD, EE, homogeneous(rotations.reshape(-1, 3, 3), positions))

    def _find(self, kind: str, name: str) -> int:
        """Id of a named joint, site or body."""
        kinds, mujoco = {"joint": "mjOBJ_JOINT", "site": "mjOBJ_SITE", "body": "mjOBJ_BODY"}, self._mujoco
        found = mujoco.mj_name2id(self._model, getattr(mujoco.mjtObj, kinds[kind]), name)
        if found < 0:
            count = {"joint": self._model.njnt, "site": self._model.nsite, "body": self._model.nbody}[kind]
            names = [getattr(self._model, kind)(number).name for number in range(count)]
            raise unknown_name(f"{kind} of {self.path}:", name, [item for item in names if item] or ["(it has none)"])
        return int(found)


def model_without_shapes(source: JointSource) -> tuple[Any, Any]:
    """The bodies, joints and sites of the kept model, else of the model's file, as MuJoCo's specification and compiled;
    nothing that needs a mesh or texture file."""
    mujoco = _mujoco()
    path = None if source.kept_model else source.model_path()
    try:
        text = source.kept_model
        spec = mujoco.MjSpec.from_string(text) if text else mujoco.MjSpec.from_file(str(path))
        _strip(spec)
        return spec, spec.compile()
    except ValueError as error:
        what = path or f"{source.model} that is kept with the labels"
        raise PosaError(f"MuJoCo cannot read the robot model {what}: {str(error).splitlines()[0]}") from error


def model_text(source: JointSource) -> str:
    """The model's bodies, joints and sites as MJCF that needs no other file and names no folder.

    MuJoCo writes six digits: poses from it are off by micrometres.
    """
    return str(model_without_shapes(source)[0].to_xml())


def _strip(spec: Any) -> None:
    """Removes shapes and whatever refers to them or is no part of kinematics; keeps fixed links as bodies."""
    references = (spec.pairs, spec.excludes, spec.equalities, spec.tendons, spec.actuators, spec.sensors, spec.keys)
    shapes = (spec.skins, spec.geoms, spec.meshes, spec.hfields, spec.materials, spec.textures)
    for items in references + shapes:
        for item in list(items):
            spec.delete(item)
    spec.meshdir = spec.texturedir = ""
    spec.compiler.fusestatic = False  # a URDF's fixed links would lose their names
    spec.compiler.inertiafromgeom = 0  # there are no geoms left to take it from
    spec.compiler.boundmass, spec.compiler.boundinertia = 1e-3, 1e-6  # any: MuJoCo wants some of a moving body
    spec.compiler.balanceinertia = True


def _could_be_radians(degrees: np.ndarray) -> bool:
    return bool(np.abs(degrees).max() <= 2 * np.pi and np.ptp(degrees, axis=0).max() < 7)


def _mujoco() -> Any:
    try:
        import mujoco
    except ImportError:
        raise PosaError("poses from joints need MuJoCo: pip install 'lerobot_policy_posa_vla[sim]'") from None
    return mujoco
