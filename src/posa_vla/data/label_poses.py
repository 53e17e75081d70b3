"""The hand's pose in every row of the tables, from a recorded pose or from joints."""

from collections.abc import Mapping

import numpy as np

from posa_vla.anchors.pose import Transform, world_from_ee
from posa_vla.data.label_episodes import EpisodeRows, refuse_rows
from posa_vla.errors import PosaError
from posa_vla.rigs import JointSource, PoseSource

FARTHEST_POSITION = 10.0
"""Metres. No arm reaches so far from its world frame: larger positions are millimetres."""
UNIT_TOLERANCE = 1e-2


def hand_poses(
    columns: Mapping[str, np.ndarray], source: PoseSource | JointSource, episodes: list[EpisodeRows]
) -> Transform:
    """world_from_ee of every row, (N, 4, 4); world_from_ee_position where the dataset has no rotation."""
    if isinstance(source, JointSource):
        return _poses_from_joints(columns, source, episodes)
    values = columns[source.column].astype(np.float64)
    position, rotation = values[:, list(source.position)], values[:, list(source.rotation)]
    poses = np.concatenate([position, rotation], axis=1)
    refuse_rows(~np.isfinite(poses).all(axis=1), episodes, f"{source.column} holds NaN or infinity")
    refuse_rows(
        (np.abs(position) > FARTHEST_POSITION).any(axis=1),
        episodes,
        f"{source.column} has a position more than {FARTHEST_POSITION:.0f} m away, as if it were in millimetres "
        "(expected metres)",
    )
    norm = np.linalg.norm(rotation, axis=1)
    if rotation.shape[1] == 3:
        turn = norm if source.rotation_format == "axis_angle" else np.abs(rotation).max(axis=1)
        refuse_rows(turn > 2 * np.pi, episodes, f"{source.column} has a rotation of over one turn (expected radians)")
        _refuse_four(values, source)
    elif source.has_rotation:
        refuse_rows(np.abs(norm - 1) > UNIT_TOLERANCE, episodes, f"{source.column} has a quaternion that is not unit")
    return world_from_ee(poses, source.rotation_format)


def _refuse_four(values: np.ndarray, source: PoseSource) -> None:
    """Three numbers that are a unit quaternion in every frame with the one beside them are no angles."""
    first, last = min(source.rotation), max(source.rotation)
    for start, other in ((first, last + 1), (first - 1, first - 1)):
        four = values[:, start : start + 4]
        beside = 0 <= other < values.shape[1] and other not in source.position
        if beside and four.shape[1] == 4 and (np.abs(np.linalg.norm(four, axis=1) - 1) < UNIT_TOLERANCE).all():
            raise PosaError(
                f"{source.column}[{start}] to [{start + 3}] are a unit quaternion in every frame, but the rig says "
                f"rotation_format: {source.rotation_format}: give quaternion_xyzw or quaternion_wxyz and all four "
                "indices"
            )


def _poses_from_joints(
    columns: Mapping[str, np.ndarray], source: JointSource, episodes: list[EpisodeRows]
) -> Transform:
    from posa_vla.rigs.kinematics import ForwardKinematics

    values = columns[source.column][:, list(source.indices)].astype(np.float64)
    refuse_rows(~np.isfinite(values).all(axis=1), episodes, f"{source.column} holds NaN or infinity")
    kinematics = ForwardKinematics(source)
    problem = kinematics.problem(values)
    if problem:
        raise PosaError(f"the joints in {source.column} do not fit the robot model: {problem}")
    return kinematics.world_from_ee(values)
