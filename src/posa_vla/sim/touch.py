"""What the hand touches, by MuJoCo's contacts: which free things, and how hard."""

from collections.abc import Iterator

import mujoco
import numpy as np

from posa_vla.errors import PosaError

HAND = "robot_gripper_"


class Touch:
    """Contacts between the gripper and what moves freely: objects, a lid. Table, marks and boxes do not count.

    Args:
        model: of the scene.
        measuring: read the contacts, which makes a control step a third longer; if false, `step` only simulates.
    """

    def __init__(self, model: mujoco.MjModel, measuring: bool):
        self.model, self.measuring = model, measuring
        self._forces: dict[int, float] = {}
        names = [model.body(body).name for body in model.geom_bodyid]
        self._hand = np.array([name.startswith(HAND) for name in names])
        joints = np.array([model.body_jntadr[body] for body in model.geom_bodyid])
        self._free = (joints >= 0) & (model.jnt_type[np.maximum(joints, 0)] == mujoco.mjtJoint.mjJNT_FREE)

    def step(self, data: mujoco.MjData, substeps: int) -> None:
        """Simulate, and remember the mean force over that time: a push is a row of taps, and a moment may miss them."""
        if not self.measuring:
            mujoco.mj_step(self.model, data, substeps)
            return
        total: dict[int, float] = {}
        for _ in range(substeps):
            mujoco.mj_step(self.model, data)
            for body, force in self._now(data):
                total[body] = total.get(body, 0.0) + force / substeps
        self._forces = {body: force for body, force in total.items() if force > 0}

    @property
    def forces(self) -> dict[int, float]:
        """Body id -> sum (N) of the normal forces between it and the hand, the mean over the last `step`."""
        if not self.measuring:
            raise PosaError("contacts are not measured in this environment: pass contacts=True to it")
        return self._forces

    def _now(self, data: mujoco.MjData) -> Iterator[tuple[int, float]]:
        """Body id and normal force (N) of every contact of the hand with something free."""
        first, second = data.contact.geom.T
        found = np.flatnonzero((self._hand[first] & self._free[second]) | (self._free[first] & self._hand[second]))
        force = np.zeros(6)
        for index in found:
            pair = data.contact.geom[index]
            mujoco.mj_contactForce(self.model, data, int(index), force)
            yield int(self.model.geom_bodyid[pair[self._free[pair]][0]]), float(force[0])
