"""Mistakes that only the labels show: another order of the quaternion, a camera's matrix the wrong way round."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.interaction import InteractionConfig, closed_states
from posa_vla.anchors.pose import EE, Transform, rotation_matrix
from posa_vla.contract import END_ANCHOR
from posa_vla.errors import PosaError

OTHER_ORDER = {"quaternion_wxyz": "quaternion_xyzw", "quaternion_xyzw": "quaternion_wxyz"}
SELDOM, OFTEN = 0.4, 0.6
"""Shares of frames in view. On the way to an interaction the camera on the hand mostly sees its place: in 86 % of the
frames of 200 tabletop demonstrations, in 19 to 23 % where the quaternion's numbers are taken in another order."""
NEVER, TIMES = 0.05, 4
"""The share below which a camera does not see it at all, but for stray frames; and how many times as often another
order must see it, so that a camera that looks past the fingertips (54 % and 3 %, examples/foreign_arm.py) is told
too."""
MOSTLY = 0.9
"""Share of the episodes."""
APPROACH = 0.03
"""Metres between the hand and its next interaction from which on the view of it says something."""
SAME_PLACE, SAME_TURN = 0.05, 15.0
"""Metres and degrees by which the pose in the state may differ: a frame's delay moves a fast hand by less."""
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Suspect:
    """One episode, as the checks need it.

    Args:
        hand: world_from_ee (T, 4, 4).
        cameras: of its scene.
        anchors: (T, C, 2, 4).
        steps: (T,), to the next interaction, -1 for none.
        tool: (3,), the hand's position in the EE frame.
    """

    hand: Transform
    cameras: Sequence[Camera]
    anchors: np.ndarray
    steps: np.ndarray
    tool: Sequence[float]

    @property
    def position(self) -> np.ndarray:
        """The hand's positions (T, 3), world."""
        return self.hand.apply(np.asarray(self.tool, dtype=np.float64))


def in_view(uvd: np.ndarray) -> np.ndarray:
    """(..., 3 or more) u, v, depth, … -> bool (...)."""
    u, v, depth = np.moveaxis(uvd, -1, 0)[:3]
    return (depth > 0) & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)


def check_views(episodes: Sequence[Suspect]) -> None:
    """An error where a camera never sees the hand but would with its matrix inverted, a warning where it never does.

    A camera on the hand may look past the fingertips for good, and its inverse may see them: it is refused only where
    it does not see what the hand reaches for either, and the other reading of its matrix mostly does. A camera in the
    world that sees the hand seldom (`SELDOM`) may look at a part of the workspace, which another reading happens to
    see as a whole: that is a warning.
    """
    for c, camera in enumerate(episodes[0].cameras):
        share = float(np.concatenate([in_view(episode.anchors[:, c, END_ANCHOR]) for episode in episodes]).mean())
        on_hand = camera.mount != "world"
        if share >= (NEVER if on_hand else SELDOM):
            continue
        goals = _goals_seen(episodes, c, "") if on_hand else 0.0
        best, seen = _best_reading(episodes, c)
        often = f"the hand is {'' if share else 'never '}in the view of camera {camera.name!r}"
        often += f" in {share:.1%} of the frames" if share else ""
        otherwise = f", but in {seen:.0%} of the frames if cam_from_mount is {_READINGS[best]}"
        doubted = not on_hand or (goals < NEVER and _goals_seen(episodes, c, best) > OFTEN)
        if share < NEVER and seen > OFTEN and doubted:
            raise PosaError(often + otherwise)
        if share < NEVER:
            reaches = f", what it reaches for in {goals:.0%} of the frames" if on_hand else ""
            unless = ", unless it looks past the fingertips" if on_hand else ""
            print(f"warning: {often}{reaches}: check its calibration{unless}", file=sys.stderr)
        elif seen > OFTEN:
            print(f"warning: {often}{otherwise}, unless it is to see a part of the workspace only", file=sys.stderr)


def _best_reading(episodes: Sequence[Suspect], c: int) -> tuple[str, float]:
    """The reading of the camera's matrix that sees the hand most often, and its share of the frames."""
    shares = {
        change: float(np.concatenate([in_view(_seen_through(episode, c, change)) for episode in episodes]).mean())
        for change in _READINGS
    }
    best = max(shares, key=lambda change: shares[change])
    return best, shares[best]


_READINGS = {
    "inverse": "inverted: it seems to hold mount_from_cam, so invert it",
    "opengl": "in OpenGL's axes (y up, z back): negate its second and third row",
    "both": "an inverted matrix in OpenGL's axes: invert it, then negate its second and third row",
}


def _seen_through(episode: Suspect, c: int, change: str) -> np.ndarray:
    """u, v, depth (T, 3) of the hand where the camera's matrix is read in another way."""
    return _read_as(episode.cameras[c], change).project(episode.position, episode.hand)


def _goals_seen(episodes: Sequence[Suspect], c: int, change: str) -> float:
    """Share of the frames on the way to an interaction that have its place in view; 0 where there are none."""
    seen = [_goals_in_view(episode, _read_as(episode.cameras[c], change)) for episode in episodes]
    everything = np.concatenate(seen)
    return float(everything.mean()) if len(everything) else 0.0


def _goals_in_view(episode: Suspect, camera: Camera) -> np.ndarray:
    """Bool (R,): whether the place of the next interaction is in view, for the frames on the way to it."""
    rows, goals = _approaches(episode)
    hand = Transform(episode.hand.dst, episode.hand.src, episode.hand.matrix[rows])
    return in_view(camera.project(goals, hand))


def _read_as(camera: Camera, change: str) -> Camera:
    """The camera with its matrix read in one of the ways of `_READINGS`; "" leaves it."""
    matrix = camera.cam_from_mount
    if change in ("inverse", "both"):
        matrix = np.linalg.inv(matrix)
        matrix[3] = [0, 0, 0, 1]
    if change in ("opengl", "both"):
        matrix = OPENGL_FROM_OPENCV @ matrix
    return replace(camera, cam_from_mount=matrix)


def check_quaternion_order(episodes: Sequence[Suspect], quaternions: Sequence[np.ndarray], form: str) -> None:
    """An error where a camera on the hand sees what the hand reaches for only with another order of the numbers.

    Nothing else in a dataset tells the orders apart: either is a smooth path of unit quaternions. Cameras in the
    world do not care, as long as the rig has no tool.

    Args:
        episodes: as labelled.
        quaternions: (T, 4) of each, in the dataset's order.
        form: the order that the rig declares.
    """
    if form not in OTHER_ORDER:
        return
    other = OTHER_ORDER[form]
    for c, camera in enumerate(episodes[0].cameras):
        if camera.mount != "end_effector":
            continue
        declared, swapped = [], []
        for episode, numbers in zip(episodes, quaternions, strict=True):
            declared.append(_goals_in_view(episode, episode.cameras[c]))
            matrix = episode.hand.matrix.copy()
            matrix[:, :3, :3] = rotation_matrix(numbers, other)  # type: ignore[arg-type]
            turned = replace(episode, hand=Transform(episode.hand.dst, episode.hand.src, matrix))
            swapped.append(_goals_in_view(turned, turned.cameras[c]))
        is_seen, would_be = np.concatenate(declared), np.concatenate(swapped)
        if not len(is_seen):
            continue
        seen, other_seen = is_seen.mean(), would_be.mean() if len(would_be) else 0.0
        if seen < SELDOM and other_seen > min(OFTEN, max(SELDOM, TIMES * seen)):
            raise PosaError(
                f"camera {camera.name!r} on the hand sees the place of the next interaction in {seen:.0%} of "
                f"the frames before it, but in {other_seen:.0%} if the quaternions were {other}: the rig says "
                f"rotation_format: {form}; correct it"
            )


def _approaches(episode: Suspect) -> tuple[np.ndarray, np.ndarray]:
    """Rows on the way to an interaction at least `APPROACH` away, and its place (R, 3), world."""
    rows = np.flatnonzero(episode.steps > 0)
    goals = episode.position[(rows + episode.steps[rows]).astype(int)]
    far = np.linalg.norm(goals - episode.position[rows], axis=1) > APPROACH
    return rows[far], goals[far]


def check_state_pose(hand: Transform, in_state: Transform) -> None:
    """An error where the rig's ``state_pose`` is another pose than its ``pose``.

    Labels do not show it: only a policy that places points in space takes the camera on the hand from the state.

    Args:
        hand: world_from_ee (N, 4, 4), from ``pose``.
        in_state: the same from ``state_pose``; world_from_ee_position where that has no rotation.
    """
    distance = float(np.median(np.linalg.norm(hand.matrix[:, :3, 3] - in_state.matrix[:, :3, 3], axis=1)))
    angle = 0.0
    if in_state.src == hand.src == EE:
        cosines = (np.einsum("nij,nij->n", hand.matrix[:, :3, :3], in_state.matrix[:, :3, :3]) - 1) / 2
        angle = float(np.degrees(np.median(np.arccos(np.clip(cosines, -1, 1)))))
    if distance > SAME_PLACE or angle > SAME_TURN:
        raise PosaError(
            f"the rig's state_pose is {100 * distance:.1f} cm and {angle:.0f} degrees away from its pose (medians): "
            "both must be the same frame of the hand, so correct state_pose (indices, rotation_format), or leave it out"
        )


def check_gripper_side(signals: Sequence[np.ndarray], config: InteractionConfig) -> None:
    """A warning where nearly every episode begins and ends closed: open and closed are swapped, or the arm rests so.

    Args:
        signals: (T,) of each episode, 0 open … 1 closed.
        config: the thresholds.
    """
    states = [closed_states(signal, config) for signal in signals]
    closed = sum(bool(state[0] and state[-1] and not state.all()) for state in states)
    if closed > MOSTLY * len(states):
        print(
            f"warning: the gripper begins and ends closed in {closed} of {len(states)} episodes: either the arm rests "
            "with closed fingers, and all is well, or open and closed are exchanged in the rig's gripper. Look at the "
            "timelines of posa-vla inspect: while the hand carries something the gripper must read 1, closed; exchange "
            "the two only if it reads 0 there",
            file=sys.stderr,
        )
