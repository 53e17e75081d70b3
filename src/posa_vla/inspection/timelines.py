"""The timeline of one episode: gripper, speed of the hand, anchors in every camera, and the interactions."""

import numpy as np

from posa_vla.contract import END_ANCHOR, TASK_ANCHOR
from posa_vla.inspection.charts import Line, Mark, Panel, spans, timeline
from posa_vla.inspection.checks import inside
from posa_vla.inspection.events import Decision
from posa_vla.inspection.subject import Gripper, Subject


def episode_timeline(subject: Subject, episode: int, decisions: list[Decision]) -> str:
    """An SVG element; shaded: a known anchor lies outside the picture."""
    rows = subject.episodes[episode].rows
    length = rows.stop - rows.start
    panels = [] if subject.gripper is None else _gripper(subject.gripper.part(rows))
    panels.append(_speed(subject, rows))
    for c, camera in enumerate(subject.rig.camera_names):
        panels.append(_camera(camera, subject.anchors[rows, c]))
    marks = [Mark(one.frame, "taken" if one.taken else "left", f"{one.kind}: {one.why}") for one in decisions]
    what = ", ".join(f"{one.kind} at frame {one.frame}" for one in decisions if one.taken) or "no interaction"
    number = subject.episodes[episode].number
    return timeline(panels, marks, length, f"episode {number}, {length} frames: {what}")


def _gripper(gripper: Gripper) -> list[Panel]:
    config, signal = gripper.source.thresholds, gripper.signal
    low, high = min(0.0, float(signal.min())), max(1.0, float(signal.max()))
    lines = [Line(signal, "ink")]
    panels = [Panel("gripper", lines, low, high, rules=(config.open_below, config.close_above), note="1 is closed")]
    if gripper.width is not None:
        width = 1000 * gripper.width
        top = max(float(width.max()), 1.0)
        rule = (1000 * config.shut_width,)
        panels.append(Panel("fingers", [Line(width, "ink")], 0, round(top), rules=rule, note="mm apart"))
    return panels


def _speed(subject: Subject, rows: slice) -> Panel:
    position = subject.hand.matrix[rows, :3, 3]
    speed = np.linalg.norm(np.diff(position, axis=0), axis=1) * subject.fps
    top = float(f"{max(speed.max(initial=0), 1e-3):.2g}")
    return Panel("hand", [Line(np.append(np.nan, speed), "ink")], 0, top, note="m/s")


def _camera(name: str, anchors: np.ndarray) -> Panel:
    """Anchors (T, 2, 4) of one camera, across and down the picture."""
    known = (anchors[..., 3] >= 0) & (anchors[..., 2] > 0)
    values = np.where(known[..., None], anchors[..., :2], np.nan)
    lines = [
        Line(values[:, anchor, axis], f"{colour}{' dashed' if axis else ''}", text)
        for anchor, colour, name_of in ((TASK_ANCHOR, "task", "task"), (END_ANCHOR, "end", "hand"))
        for axis, text in ((0, f"{name_of} across"), (1, f"{name_of} down"))
    ]
    outside = ((anchors[..., 3] >= 0) & ~inside(anchors)).any(axis=1)
    return Panel(name, lines, 0, 1, bands=spans(outside), height=84)
