"""Whether marks of the hand fit far better at another place of the hand: a flange pose taken for the fingertips'."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from posa_vla.calibration.adjustment import Estimate
from posa_vla.calibration.pinhole import POSE_SIZE

GAIN = 0.6
"""A tool is suggested where it brings the median error below this share."""
VISIBLE = 1.0
"""Pixels: a smaller median error leaves nothing to explain."""
LEAST, SURE = 0.02, 0.02
"""Metres: shorter differences from the rig's tool are not worth a remark; nor are those less sure than this."""
SINGULAR = 1e-9
"""Share of the largest eigenvalue of the information below which a direction is not determined at all."""


@dataclass(frozen=True)
class ToolHint:
    """Args:
    tool: (3,) m in the recorded frame, where the marks lie.
    sigma: m, one standard deviation of the least certain direction.
    before: px, median error with the rig's tool.
    after: px, with this one.
    """

    tool: np.ndarray
    sigma: float
    before: float
    after: float


def find_tool(
    world_from_ee: np.ndarray, pixels: np.ndarray, estimate: Estimate, tool: np.ndarray, known_focal: bool
) -> ToolHint | None:
    """A fixed camera and the tool adjusted together, from marks of the hand.

    None where that fits little better, or where the hand turns too little for the marks to say.

    Args:
        world_from_ee: (N, 4, 4), of the marked frames.
        pixels: (N, 2), OpenCV's, of the unflipped image.
        estimate: the camera found with the rig's tool.
        tool: (3,) m, the rig's.
        known_focal: the focal length is given.
    """
    free = POSE_SIZE + (not known_focal)

    def errors(step: np.ndarray) -> np.ndarray:
        points = world_from_ee[:, :3, :3] @ (tool + step[free:]) + world_from_ee[:, :3, 3]
        return estimate.camera.moved(step[:free]).project(points) - pixels

    before = float(np.median(estimate.lengths))
    if before < VISIBLE:
        return None
    found = least_squares(lambda step: errors(step).ravel(), np.zeros(free + 3), loss="soft_l1", x_scale="jac")
    after = float(np.median(np.linalg.norm(errors(found.x), axis=1)))
    if after > GAIN * before or np.linalg.norm(found.x[free:]) < LEAST:
        return None
    information = found.jac.T @ found.jac / max(after, 0.5) ** 2
    values = np.linalg.eigvalsh(information)
    if values[0] <= SINGULAR * values[-1]:
        return None
    sigma = float(np.sqrt(np.linalg.eigvalsh(np.linalg.inv(information)[free:, free:])[-1]))
    return ToolHint(tool + found.x[free:], sigma, before, after) if sigma < SURE else None
