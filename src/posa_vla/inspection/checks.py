"""Automatic checks of a rig against a dataset: verdict, what was found, and the likely cause."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from posa_vla.anchors.events import GRIPPER
from posa_vla.contract import ANCHOR_NAMES, END_ANCHOR, TASK_ANCHOR
from posa_vla.data.label_checks import in_view
from posa_vla.data.label_poses import FARTHEST_POSITION, UNIT_TOLERANCE
from posa_vla.inspection.subject import Gripper, Subject
from posa_vla.rigs import PoseSource

Verdict = Literal["good", "look", "wrong", "unknown"]

FASTEST = 5.0
"""Metres per second. Faster than any table-top arm: between two frames the pose has jumped."""

FASTEST_TURN = 4 * np.pi
"""Radians per second: two turns."""

NEVER_MOVES = 0.005
"""Metres between the outermost positions of a hand that stands still."""

SAME_ANCHOR = 1e-3
"""Of the image's side, between stored anchors and those of the rig they name: float32 and rounded matrices."""

ENOUGH_IN_VIEW = {END_ANCHOR: (0.8, 0.3), TASK_ANCHOR: (0.5, 0.1)}
"""Shares of the known anchors inside the picture below which to look, and below which something is wrong."""


@dataclass(frozen=True)
class Check:
    """One check's answer.

    Args:
        name: what was checked.
        verdict: good, look (may be right, a human should look), wrong, or unknown (could not be judged).
        found: the measured facts.
        cause: the likely cause and what to do; empty where all is good.
    """

    name: str
    verdict: Verdict
    found: str
    cause: str = ""


def check_labels(subject: Subject) -> list[Check]:
    """Every check that needs no image."""
    checks = [*_pose(subject), _jumps(subject), *_gripper(subject), _events(subject), *_in_view(subject)]
    return [*checks, _agreement(subject)] if subject.stored else checks


def inside(anchors: np.ndarray) -> np.ndarray:
    """(..., 4) anchors -> (...) bool: known, in front of the camera and in the picture."""
    return (anchors[..., 3] >= 0) & in_view(anchors)


def _pose(subject: Subject) -> Iterator[Check]:
    position = subject.hand.matrix[:, :3, 3]
    low, high = np.percentile(position, [0.5, 99.5], axis=0)
    found = "x, y, z from " + " to ".join("(" + ", ".join(f"{x:.3g}" for x in end) + ")" for end in (low, high)) + " m"
    farthest = float(np.abs(position).max())
    if farthest > 10 * FARTHEST_POSITION:
        yield Check("Pose: unit", "wrong", found, "positions in millimetres: divide the column by 1000")
    elif farthest > FARTHEST_POSITION:
        yield Check("Pose: unit", "wrong", found, "positions in centimetres, or another column: the rig wants metres")
    elif np.ptp(position, axis=0).max() < NEVER_MOVES:
        yield Check("Pose: unit", "wrong", found, "the hand never moves: another column holds the pose")
    elif farthest > 3.0:
        yield Check("Pose: unit", "look", found, "far from the world's origin for an arm: check unit and frame")
    else:
        yield Check("Pose: unit", "good", found)
    source = subject.rig.pose
    if isinstance(source, PoseSource) and source.rotation_format.startswith("quaternion"):
        quaternion = subject.columns[source.column][:, list(source.rotation)].astype(np.float64)
        off = float(np.abs(np.linalg.norm(quaternion, axis=1) - 1).max())
        good = off <= UNIT_TOLERANCE
        cause = "" if good else "these four numbers are no unit quaternion: check pose.rotation in the rig"
        yield Check("Pose: quaternion", "good" if good else "wrong", f"norm off 1 by at most {off:.2g}", cause)
    if isinstance(source, PoseSource) and source.rotation_format == "axis_angle":
        vector = subject.columns[source.column][:, list(source.rotation)].astype(np.float64)
        largest = float(np.linalg.norm(vector, axis=1).max())
        good = largest <= 2 * np.pi
        cause = "" if good else "over one turn: in degrees, where radians are expected, or other numbers than these"
        yield Check("Pose: axis and angle", "good" if good else "wrong", f"angles of at most {largest:.3g} rad", cause)


def _jumps(subject: Subject) -> Check:
    """Steps of the recorded pose that no arm can make."""
    matrix = subject.hand.matrix
    inner = np.ones(len(matrix) - 1, bool)
    inner[[episode.rows.start - 1 for episode in subject.episodes[1:]]] = False
    step = np.linalg.norm(np.diff(matrix[:, :3, 3], axis=0), axis=1) * inner
    cosine = (np.einsum("nij,nij->n", matrix[1:, :3, :3], matrix[:-1, :3, :3]) - 1) / 2
    turn = np.arccos(np.clip(cosine, -1, 1)) * inner * subject.fps
    impossible = (step * subject.fps > FASTEST) | (turn > FASTEST_TURN)
    fastest = step.max(initial=0) * subject.fps
    found = f"at most {fastest:.2g} m/s and {np.rad2deg(turn.max(initial=0)):.0f}°/s"
    if impossible.any():
        cause = "two recordings in one episode, a pose in another unit, or dropped frames; leave these episodes out"
        return Check("Jumps", "wrong", f"{found}; {_where(subject, impossible)}", cause)
    return Check("Jumps", "good", found)


def _where(subject: Subject, bad: np.ndarray) -> str:
    """Number of bad steps (N - 1,) bool, and the episode and frame that the first one leads to."""
    row = int(np.argmax(bad)) + 1
    episode = next(item for item in subject.episodes if row < item.rows.stop)
    return f"{int(bad.sum())} jumps, the first at episode {episode.number}, frame {row - episode.rows.start}"


def _gripper(subject: Subject) -> list[Check]:
    return [] if subject.gripper is None else [_gripper_moves(subject, subject.gripper)]


def _gripper_moves(subject: Subject, gripper: Gripper) -> Check:
    config, signal = gripper.source.thresholds, gripper.signal
    low, high = float(signal.min()), float(signal.max())
    found = f"scaled signal from {low:.2f} (0 is open) to {high:.2f} (1 is closed)"
    if subject.detectors.names != (GRIPPER,):
        return Check("Gripper", "good", f"{found}; detectors: {', '.join(subject.detectors.names)}")
    if high - low < 1e-3:
        return Check("Gripper", "wrong", found, "the gripper never moves: another column holds the command")
    if high < config.close_above or low > config.open_below:
        cause = "it never crosses both thresholds: correct open and closed in the rig's gripper"
        return Check("Gripper", "wrong", found, cause)
    if low < -0.25 or high > 1.25:
        cause = "beyond the rig's open and closed values: correct them, or another column is meant"
        return Check("Gripper", "look", found, cause)
    still = [str(episode.number) for episode in subject.episodes if np.ptp(signal[episode.rows]) < config.close_above]
    if still:
        cause = "it does not move in some episodes: a failed demonstration, or a task without a grasp"
        return Check("Gripper", "look", f"{found}; still in {len(still)} episodes ({_some(still)})", cause)
    return Check("Gripper", "good", found)


def _events(subject: Subject) -> Check:
    """How many episodes have an interaction at all."""
    counts = np.array([len(label.interactions.frames) for label in subject.labels])
    dropped = sum(label.interactions.dropped for label in subject.labels)
    found = f"{counts.sum()} in {len(counts)} episodes"
    without = [str(subject.episodes[i].number) for i in np.flatnonzero(counts == 0)]
    cause = f"no {' or '.join(subject.detectors.names)} in any episode: use other thresholds or detectors"
    if subject.detectors.uses(GRIPPER):
        found += f", {dropped} closes dropped for ending fully shut"
        cause = "no close holds anything: check the gripper's column, open, closed, shut_width, or use other detectors"
    if len(without) == len(counts):
        return Check("Interactions", "wrong", found, cause)
    if dropped > counts.sum():
        cause = (
            "more closes end fully shut than hold something: shut_width may be too wide, or width mean another column"
        )
        return Check("Interactions", "look", found, cause)
    if without:
        cause = "without an interaction there is no task anchor: a failed demonstration, or a task without a grasp"
        return Check("Interactions", "look", f"{found}; none in {len(without)} episodes ({_some(without)})", cause)
    return Check("Interactions", "good", found)


def _in_view(subject: Subject) -> Iterator[Check]:
    """Share of the known anchors inside the picture."""
    within = inside(subject.anchors)
    known = subject.anchors[..., 3] >= 0
    for c, camera in enumerate(subject.rig.cameras):
        for anchor, name in enumerate(ANCHOR_NAMES):
            title = f"In view: {camera.name}, {name} anchor"
            if not known[:, c, anchor].any():
                yield Check(title, "unknown", "no known anchor")
                continue
            share = within[:, c, anchor].sum() / known[:, c, anchor].sum()
            found = f"{share:.1%} of {known[:, c, anchor].sum()} known"
            if camera.mount != "world" and anchor == END_ANCHOR:
                yield Check(title, "good", f"{found}; one place by construction")
                continue
            enough, some = ENOUGH_IN_VIEW[anchor]
            verdict: Verdict = "good" if share >= enough else "look" if share >= some else "wrong"
            values = subject.anchors[known[:, c, anchor], c, anchor]
            yield Check(title, verdict, found, "" if verdict == "good" else _why_out(values, camera.mount))


def _why_out(anchors: np.ndarray, mount: str) -> str:
    """Known anchors (n, 4) of which too many lie outside -> the likely cause."""
    if (anchors[:, 2] <= 0).mean() > 0.5:
        return "most lie behind the camera: cam_from_mount is inverted (mount_from_cam), or its axes are not OpenCV's"
    centre = np.median(anchors[anchors[:, 2] > 0, :2], axis=0)
    side = ", ".join(
        f"{abs(value - 0.5) - 0.5:.1f} picture sides off the {name} edge"
        for value, name in zip(centre, _edges(centre), strict=True)
        if not 0 <= value <= 1
    )
    cause = "the pose is in another frame or unit than the calibration, or the extrinsics are wrong"
    if mount != "world":
        cause = "the object leaves this view, or the hand-eye calibration is wrong"
    return f"{cause} (the median lies {side or 'inside'})"


def _edges(point: np.ndarray) -> tuple[str, str]:
    """Which edge of the picture a point outside lies beyond, across and down."""
    return "left" if point[0] < 0 else "right", "top" if point[1] < 0 else "bottom"


def _agreement(subject: Subject) -> Check:
    """The stored anchors against those that the rig in their provenance makes."""
    fresh = np.concatenate([label.anchors for label in subject.labels])
    both = (subject.anchors[..., 3] >= 0) & (fresh[..., 3] >= 0)
    differ = (subject.anchors[..., 3] >= 0) != (fresh[..., 3] >= 0)
    apart = np.abs(subject.anchors[..., :2] - fresh[..., :2]).max(axis=-1)
    # Far outside the picture float32 rounds to more than the tolerance.
    apart = apart / np.maximum(1, np.abs(fresh[..., :2]).max(axis=-1))
    share = float((differ | (both & (apart > SAME_ANCHOR))).any(axis=(1, 2)).mean())
    found = f"{share:.1%} of the frames differ from what the recorded rig gives"
    if share == 0:
        return Check("Stored labels", "good", found)
    cause = "the tables were edited after labelling, or labelled by another version: label again"
    return Check("Stored labels", "wrong" if share > 0.01 else "look", found, cause)


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
