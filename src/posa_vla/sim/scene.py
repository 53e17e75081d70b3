"""The one compiled model: a Franka Panda on a table, two cameras, lights, and empty object slots.

World frame: the robot's base, x forward over the table, y to the robot's left, z up; the table top is z = 0.
The robot comes from robosuite's files, parsed without importing robosuite. Three things differ from those
files: visual meshes are left out (the hulls that collide are drawn: 3-7 ms a view instead of 15-40), torque
motors become position servos, and the options that `base.xml` sets for every robosuite scene are set here.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from posa_vla.sim.objects import CONTACT, asset_root
from posa_vla.sim.slots import add_slots
from posa_vla.sim.textures import TEXTURE_SIZE

TIMESTEP = 0.002  # s
TABLE_CENTRE, TABLE_HALF = (0.42, 0.0), (0.62, 0.75)  # m
ARM_JOINTS = tuple(f"robot_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("robot_gripper_finger_joint1", "robot_gripper_finger_joint2")
GRIP_SITE = "robot_gripper_grip_site"
NEUTRAL = (0.0, -0.411, 0.0, -2.704, 0.0, 2.294, 0.785)  # rad; fingers down, behind the objects: the head sees them all
SERVO_INERTIA = (
    2.6,
    2.7,
    1.9,
    1.63,
    0.50,
    0.39,
    0.20,
)  # kg m², about what each joint moves with the hand over the table
SERVO_RATE = 60.0  # rad/s; one rate for all joints, critically damped, so that the hand moves in straight lines
SERVO_LIMIT = 300.0  # N m, stiffer than a real arm: a full-size step strays 3 mm sideways, a small one 1 mm

HEAD_POSITION, HEAD_LOOK_AT, HEAD_FOVY = (1.08, 0.0, 0.62), (0.475, 0.0, 0.065), 36.0  # m, m, degrees
WRIST_POSITION, WRIST_TILT, WRIST_FOVY = (0.075, 0.0, 0.045), 0.42, 80.0  # m in the hand's frame, rad, degrees

LINK_RGBA, HAND_RGBA, FINGER_RGBA = (0.92, 0.92, 0.93, 1), (0.80, 0.81, 0.83, 1), (0.20, 0.21, 0.23, 1)
NO_PARTNER = 4  # a collision bit that nothing answers: the geom is drawn as its hull and touches nothing


@dataclass(frozen=True)
class SceneIds:
    """What the environment repaints and relights on reset: ids in the model."""

    table_texture: int
    wall_texture: int
    lamp: int


def _robot_spec() -> mujoco.MjSpec:
    """The Panda with its gripper attached, collision geoms only, no actuators on the arm."""
    arm = mujoco.MjSpec.from_file(str(asset_root() / "robots/panda/robot.xml"))
    gripper = mujoco.MjSpec.from_file(str(asset_root() / "grippers/panda_gripper.xml"))
    for spec in (arm, gripper):
        spec.compiler.degree = False  # robosuite sets it in base.xml; otherwise joints get ±0.05 rad
        for geom in [g for g in spec.geoms if g.group == 1]:
            spec.delete(geom)
        used = {geom.meshname for geom in spec.geoms}
        for asset in [m for m in spec.meshes if m.name not in used] + list(spec.materials):
            spec.delete(asset)
        for extra in list(spec.cameras) + list(spec.lights) + list(spec.sensors):
            spec.delete(extra)
        for site in [s for s in spec.sites if s.name != "grip_site"]:
            spec.delete(site)
    for actuator in list(arm.actuators):
        arm.delete(actuator)
    frame = arm.body("right_hand").add_frame()
    arm.attach(gripper, prefix="gripper_", frame=frame)
    for mesh in arm.meshes:
        mesh.maxhullvert = 48
    return arm


def _options(spec: mujoco.MjSpec) -> None:
    spec.compiler.degree = False
    spec.compiler.inertiagrouprange = (0, 0)
    option = spec.option
    option.timestep = TIMESTEP
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 20
    option.iterations, option.ls_iterations = 20, 20
    # Slots change shape after compilation, so the compiled bounding-volume trees do not describe them.
    option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
    visual = spec.visual
    visual.map.znear, visual.map.zfar = 0.01, 20
    visual.quality.offsamples = 0
    visual.global_.offwidth = visual.global_.offheight = 1024
    spec.stat.extent, spec.stat.center = 1.0, (0.45, 0, 0.2)  # znear and zfar are multiples of the extent


def _add_robot(spec: mujoco.MjSpec) -> None:
    robot = _robot_spec()
    for body in robot.bodies:
        body.gravcomp = 1
    for geom in robot.geoms:
        finger = "finger" in geom.name
        geom.rgba = FINGER_RGBA if finger else HAND_RGBA if "hand" in geom.name else LINK_RGBA
        if geom.name.startswith("link"):
            geom.contype, geom.conaffinity = 0, NO_PARTNER
        elif geom.name == "gripper_hand_collision":
            geom.contype, geom.conaffinity = 0, 1
    for joint, inertia in zip(ARM_JOINTS, SERVO_INERTIA, strict=True):
        name = joint.removeprefix("robot_")
        actuator = robot.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            forcelimited=True,
            forcerange=(-SERVO_LIMIT, SERVO_LIMIT),
        )
        actuator.set_to_position(kp=inertia * SERVO_RATE**2, kv=2 * inertia * SERVO_RATE)
    spec.attach(robot, prefix="robot_", frame=spec.worldbody.add_frame())


def look_at(position: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Quaternion (w, x, y, z) of a MuJoCo camera (x right, y up, looking along -z) at `position`, in the world."""
    forward = np.subtract(target, position) / np.linalg.norm(np.subtract(target, position))
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(right, forward), -forward], axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, rotation.ravel())
    return quaternion


def _add_cameras(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_camera(name="head", pos=HEAD_POSITION, quat=look_at(HEAD_POSITION, HEAD_LOOK_AT), fovy=HEAD_FOVY)
    # The hand's frame: z to the fingertips, x away from the robot's base at rest. The camera looks along z,
    # tilted back to the fingers; half a turn about x makes a MuJoCo camera look along +z.
    tilt, turn, roll = np.zeros(4), np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(tilt, (0.0, 1.0, 0.0), -WRIST_TILT)
    mujoco.mju_axisAngle2Quat(turn, (1.0, 0.0, 0.0), np.pi)
    mujoco.mju_axisAngle2Quat(roll, (0.0, 0.0, 1.0), np.pi / 2)
    quaternion = np.zeros(4)
    mujoco.mju_mulQuat(quaternion, tilt, turn)
    mujoco.mju_mulQuat(quaternion, quaternion.copy(), roll)
    hand = spec.body("robot_right_hand")
    hand.add_camera(name="wrist", pos=WRIST_POSITION, quat=quaternion, fovy=WRIST_FOVY)


def _add_surface(spec: mujoco.MjSpec, name: str, repeat: float) -> None:
    """A material with a texture that episodes repaint."""
    spec.add_texture(
        name=name,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        width=TEXTURE_SIZE,
        height=TEXTURE_SIZE,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
    )
    material = spec.add_material(name=name, specular=0.05, shininess=0.05, texrepeat=(repeat, repeat))
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_room(spec: mujoco.MjSpec) -> None:
    _add_surface(spec, "table", 1.0)
    _add_surface(spec, "wall", 1.0)
    world = spec.worldbody
    box, plane = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_PLANE
    world.add_geom(
        name="table",
        type=box,
        pos=(*TABLE_CENTRE, -0.1),
        size=(*TABLE_HALF, 0.1),
        material="table",
        **{k: v for k, v in CONTACT.items() if k != "condim"},
    )
    facing_x = (0.5, 0.5, 0.5, 0.5)  # the plane's normal turned to +x
    world.add_geom(
        name="wall",
        type=plane,
        pos=(-0.45, 0, 0),
        quat=facing_x,
        size=(2, 2, 1),
        material="wall",
        contype=0,
        conaffinity=0,
    )
    world.add_light(
        name="lamp",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=(0.8, -0.6, 1.6),
        dir=(-0.25, 0.45, -1.0),
        castshadow=False,
    )


def _bleach(model: mujoco.MjModel) -> None:
    """Turn the objects' textures to light grey, so that the tint of a geom decides its colour."""
    for texture in range(model.ntex):
        if model.texture(texture).name in ("table", "wall"):
            continue
        start, channels = model.tex_adr[texture], model.tex_nchannel[texture]
        stop = start + model.tex_width[texture] * model.tex_height[texture] * channels
        pixels = model.tex_data[start:stop].reshape(-1, channels).astype(np.float32)
        grey = pixels[:, :3].mean(1)
        low, high = np.percentile(grey, (2, 98))
        light = 205 + 50 * np.clip((grey - low) / max(high - low, 1), 0, 1)
        model.tex_data[start:stop] = light.astype(np.uint8).repeat(channels)


FixtureBuilder = Callable[[mujoco.MjSpec], None]


@lru_cache
def _compiled(slots: int, fixtures: tuple[FixtureBuilder, ...]) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    spec.modelname = "posa_tabletop"
    _options(spec)
    _add_robot(spec)
    _add_room(spec)
    _add_cameras(spec)
    add_slots(spec, slots)
    for add_fixture in fixtures:
        add_fixture(spec)
    model = spec.compile()
    _bleach(model)
    return model


def build_scene(slots: int, fixtures: tuple[FixtureBuilder, ...] = ()) -> mujoco.MjModel:
    """A model of its own (episodes change it) with `slots` empty object slots; compiled once per process.

    `fixtures` add what a task family needs besides.
    """
    return copy.copy(_compiled(slots, fixtures))


@lru_cache
def arm_model() -> mujoco.MjModel:
    """The robot alone, for inverse kinematics: 9 degrees of freedom whatever stands on the table."""
    spec = mujoco.MjSpec()
    _options(spec)
    _add_robot(spec)
    return spec.compile()


def scene_ids(model: mujoco.MjModel) -> SceneIds:
    return SceneIds(model.texture("table").id, model.texture("wall").id, model.light("lamp").id)
