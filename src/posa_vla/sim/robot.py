"""The arm as a policy drives it: delta poses in, a pose out. Constants are LIBERO's; control is our own."""

import mujoco
import numpy as np

from posa_vla.anchors.interaction import InteractionConfig
from posa_vla.sim.kinematics import ArmKinematics, multiply, quaternion_from_axis_angle
from posa_vla.sim.scene import ARM_JOINTS, FINGER_JOINTS, GRIP_SITE

POSITION_SCALE, ROTATION_SCALE = 0.05, 0.5  # m and rad at action ±1 (LIBERO)
FINGER_OPEN = 0.04  # m, each finger
REACH_LOW, REACH_HIGH = np.array([0.20, -0.40, 0.008]), np.array([0.80, 0.40, 0.60])  # m, goals are kept inside


class Robot:
    """The Panda of one scene. World frame; the end effector (EE) is the grip site."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
        self.data = data
        self._kinematics = ArmKinematics()
        self._site = model.site(GRIP_SITE).id
        self._arm = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self._fingers = np.array([model.joint(name).qposadr[0] for name in FINGER_JOINTS])
        actuators = {int(model.actuator(i).trnid[0]): i for i in range(model.nu)}
        self._arm_ctrl = [actuators[model.joint(name).id] for name in ARM_JOINTS]
        self._finger_ctrl = [actuators[model.joint(name).id] for name in FINGER_JOINTS]

    def place(self, joints: np.ndarray, finger: float = FINGER_OPEN) -> None:
        """Put the arm at `joints` (7,) rad with each finger `finger` metres open, and hold it there."""
        self.data.qpos[self._arm] = self.data.ctrl[self._arm_ctrl] = joints
        self.data.qpos[self._fingers] = self.data.ctrl[self._finger_ctrl] = (finger, -finger)

    def command(self, action: np.ndarray) -> None:
        """Set the servos' goals: the measured pose plus the action's deltas (7,) in [-1, 1], kept within reach."""
        position, quaternion = self.pose()
        goal = np.clip(position + POSITION_SCALE * action[:3], REACH_LOW, REACH_HIGH)
        turned = multiply(quaternion_from_axis_angle(ROTATION_SCALE * action[3:6]), quaternion)
        joints = self._kinematics.solve(self.data.qpos[self._arm], goal, turned)
        self.data.ctrl[self._arm_ctrl] = joints
        opening = FINGER_OPEN * (1 - action[6]) / 2
        self.data.ctrl[self._finger_ctrl] = (opening, -opening)

    @property
    def told_to_close(self) -> bool:
        """Whether the last command closes the gripper, by the threshold of `anchors.interaction`."""
        return bool(self.data.ctrl[self._finger_ctrl[0]] < (1 - InteractionConfig.close_above) * FINGER_OPEN)

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """world_from_ee: position (3,) m and quaternion (w, x, y, z) with w >= 0."""
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._site])
        return self.data.site_xpos[self._site].copy(), quaternion if quaternion[0] >= 0 else -quaternion

    @property
    def fingers(self) -> np.ndarray:
        """Positions (2,) m of the finger joints, as in the state."""
        return self.data.qpos[self._fingers]

    @property
    def opening(self) -> float:
        """Metres between the fingers."""
        left, right = self.fingers
        return float(left - right)
