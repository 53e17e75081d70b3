"""Inverse kinematics of the Panda with mink, and the rotations that actions are made of.

LIBERO drives its arm with operational-space control; here the same actions go through inverse kinematics and
joint position servos, so equal actions mean equal goals but not equal dynamics.
"""

import mink
import mujoco
import numpy as np
from numpy.typing import ArrayLike

from posa_vla.sim.scene import GRIP_SITE, NEUTRAL, arm_model

ITERATIONS, TOLERANCE = 6, 1e-4  # m and rad, as one norm
SOLVER = "daqp"


def quaternion_from_axis_angle(axis_angle: ArrayLike) -> np.ndarray:
    """(3,) rad to (w, x, y, z)."""
    axis_angle = np.asarray(axis_angle, float)
    angle = float(np.linalg.norm(axis_angle))
    quaternion = np.array([1.0, 0, 0, 0])
    if angle > 1e-12:
        mujoco.mju_axisAngle2Quat(quaternion, axis_angle / angle, angle)
    return quaternion


def axis_angle_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """(w, x, y, z) to the shortest rotation vector (3,), rad."""
    velocity = np.zeros(3)
    mujoco.mju_quat2Vel(velocity, np.asarray(quaternion, float), 1.0)
    return velocity


def multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Quaternion product: the rotation `second` followed by `first`."""
    product = np.zeros(4)
    mujoco.mju_mulQuat(product, np.asarray(first, float), np.asarray(second, float))
    return product


def rotation_between(from_quaternion: np.ndarray, to_quaternion: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) rad in the world frame which, left-multiplied, turns `from` into `to`."""
    inverse = np.zeros(4)
    mujoco.mju_negQuat(inverse, np.asarray(from_quaternion, float))
    return axis_angle_from_quaternion(multiply(to_quaternion, inverse))


def tilt(quaternion: np.ndarray) -> float:
    """Angle (rad) between a body's z axis and the vertical."""
    _, x, y, _ = quaternion
    return float(np.arccos(np.clip(1 - 2 * (x * x + y * y), -1, 1)))


def yaw_of(quaternion: np.ndarray) -> float:
    """Rotation (rad) about the vertical."""
    w, x, y, z = quaternion
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


class ArmKinematics:
    """Joint positions (7,) for a goal pose of the grip site, near given joint positions.

    The posture task keeps the elbow where it is at rest: seven joints, six constraints.
    """

    def __init__(self):
        self._configuration = mink.Configuration(arm_model())
        self._frame = mink.FrameTask(GRIP_SITE, "site", position_cost=1.0, orientation_cost=0.3)
        self._posture = mink.PostureTask(arm_model(), cost=2e-3)
        self._posture.set_target(np.array([*NEUTRAL, 0.04, -0.04]))
        self._limits = [mink.ConfigurationLimit(arm_model())]

    def solve(self, joints: np.ndarray, position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
        """Goal: position (3,) m and quaternion (w, x, y, z), both world_from_ee."""
        low, high = arm_model().jnt_range[:7].T
        start = np.array([*np.clip(joints, low, high), 0.04, -0.04])
        self._configuration.update(start)
        goal = mink.SE3.from_rotation_and_translation(mink.SO3(np.asarray(quaternion, float)), position)
        self._frame.set_target(goal)
        for _ in range(ITERATIONS):
            if np.linalg.norm(self._frame.compute_error(self._configuration)) < TOLERANCE:
                break
            velocity = mink.solve_ik(
                self._configuration, [self._frame, self._posture], 1.0, SOLVER, damping=1e-6, limits=self._limits
            )
            self._configuration.integrate_inplace(velocity, 1.0)
        return self._configuration.q[:7].copy()
