"""``posa-vla bench rigs``: the shipped rigs against their simulators, forward kinematics against MuJoCo's sites."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import draccus
import numpy as np

from posa_vla.anchors.marker import marker_errors
from posa_vla.errors import unknown_name
from posa_vla.rigs import JointSource, load_rig
from posa_vla.rigs.kinematics import ForwardKinematics
from posa_vla.rigs.pictures import write_picture
from posa_vla.rigs.simulators import LIBERO_ARENAS, LiberoScene, MetaworldScene, ShippedScene

RIGS = ("joints", "libero", "metaworld")
ARMS = ("panda", "ur5e", "kinova3")
"""robosuite's, each with the Panda's gripper, whose grip_site is the end effector (the arms have no site)."""
METAWORLD_TASKS = ("pick-place-v3", "door-open-v3", "shelf-place-v3")


@dataclass
class RigBenchmarkConfig:
    """posa-vla bench rigs: do the rigs that ship with the package hold?

    Args:
        rig: joints (forward kinematics), libero or metaworld; the latter two need the extra of that name.
        states: random states for each scene and camera, or for each arm.
        pictures: folder for one picture of each scene with its anchors; None writes none.
    """

    rig: str = "joints"
    states: int | None = None
    pictures: Path | None = None


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=RigBenchmarkConfig, args=argv)
    if config.rig not in RIGS:
        raise unknown_name("rig to measure", config.rig, RIGS)
    if config.rig == "joints":
        return _joints(config.states or 1000)
    _simulators(config)
    return 0


def _simulators(config: RigBenchmarkConfig) -> None:
    print(
        f"{'scene':<32}{'camera':<12}{'states':>7}{'covered':>8}{'median px':>11}{'max px':>8}{'hand mm':>9}{'bar':>8}"
    )
    for number, scene in enumerate(libero_scenes() if config.rig == "libero" else metaworld_scenes()):
        try:
            errors = marker_errors(scene, scene.rig, config.states or 20, seed=100 * number)
            off = np.linalg.norm(scene.hand().apply(np.array(scene.rig.pose.tool)) - scene.true_hand())
            for camera, pixels in errors.pixels.items():
                print(
                    f"{scene.name:<32}{camera:<12}{len(pixels):>7}{errors.covered[camera]:>8}"
                    f"{np.median(pixels):>11.2f}{pixels.max():>8.2f}{1000 * off:>9.1f}{'2 px':>8}",
                    flush=True,
                )
            if config.pictures is not None:
                write_picture(config.pictures, scene)
        finally:
            scene.close()  # one at a time: closing one MuJoCo environment turns another's pictures black


def libero_scenes() -> Iterator[ShippedScene]:
    rig = load_rig("libero")
    for suite, tasks in LIBERO_ARENAS.items():
        for task in tasks:
            yield LiberoScene(rig, suite, task)


def metaworld_scenes() -> Iterator[ShippedScene]:
    """Every task through the moved `corner2`, and through the camera on the gripper."""
    rig, gripper = load_rig("metaworld"), load_rig("metaworld_gripper")
    gripper = replace(gripper, cameras=(gripper.camera("gripperPOV"),))
    for task in METAWORLD_TASKS:
        yield MetaworldScene(rig, task, "image")
        yield MetaworldScene(gripper, task, "gripperPOV")


def _joints(states: int) -> int:
    print(f"{'arm':<12}{'joints':>7}{'states':>8}{'max position':>15}{'max rotation':>15}{'speed':>20}{'bar':>18}")
    for arm in ARMS:
        with tempfile.TemporaryDirectory() as folder:
            source, model = robosuite_arm(arm, Path(folder))
            position, rotation, rate = kinematics_errors(source, model, states)
        print(
            f"{arm:<12}{len(source.names):>7}{states:>8}{position:>13.1e} m{rotation:>11.1e} rad"
            f"{rate:>11,.0f} frames/s{'20,000 frames/s':>18}",
            flush=True,
        )
    return 0


def robosuite_arm(arm: str, folder: Path) -> tuple[JointSource, Any]:
    """A rig's joints for one of robosuite's arms with its gripper, and MuJoCo's own model of the two with all meshes.

    Writes the rig's model into ``folder``; the reference is compiled from the same parts, visuals included.
    """
    import mujoco

    from posa_vla.sim.objects import asset_root

    spec = mujoco.MjSpec.from_file(str(asset_root() / f"robots/{arm}/robot.xml"))
    gripper = mujoco.MjSpec.from_file(str(asset_root() / "grippers/panda_gripper.xml"))
    for part in (spec, gripper):
        part.compiler.degree = False
    spec.attach(gripper, prefix="gripper_", frame=spec.body("right_hand").add_frame())
    reference = spec.compile()
    path = folder / f"{arm}.xml"
    path.write_text(spec.to_xml())
    joints = [reference.joint(number).name for number in range(reference.njnt)]
    names = tuple(name for name in joints if not name.startswith("gripper_"))
    return JointSource("joints", path.name, names, site="gripper_grip_site", folder=folder), reference


def kinematics_errors(source: JointSource, reference: Any, states: int, seed: int = 0) -> tuple[float, float, float]:
    """Largest distance (m) and angle (rad) to MuJoCo's own site over random states, and poses per second."""
    import mujoco

    rng = np.random.default_rng(seed)
    values = rng.uniform(-np.pi, np.pi, (states, len(source.names)))
    kinematics = ForwardKinematics(source)
    found = kinematics.world_from_ee(values).matrix
    start = time.perf_counter()
    repeats = max(1, 20_000 // states)
    for _ in range(repeats):
        kinematics.world_from_ee(values)
    rate = repeats * states / (time.perf_counter() - start)
    data, site = mujoco.MjData(reference), reference.site(source.site).id
    addresses = [reference.joint(name).qposadr[0] for name in source.names]
    position = rotation = 0.0
    for row, angles in enumerate(values):
        data.qpos[addresses] = angles
        mujoco.mj_forward(reference, data)
        position = max(position, float(np.abs(found[row, :3, 3] - data.site_xpos[site]).max()))
        turn = found[row, :3, :3].T @ data.site_xmat[site].reshape(3, 3)
        # sin of the angle: the cosine cannot tell angles under 1e-8 from 0
        axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
        rotation = max(rotation, float(np.arctan2(np.linalg.norm(axis), (np.trace(turn) - 1) / 2)))
    return position, rotation, rate
