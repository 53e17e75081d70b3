"""The one HTML file of an inspection: verdicts, pictures, timelines, and a policy's errors where one was given."""

from collections.abc import Mapping, Sequence
from typing import Any

from posa_vla import __version__
from posa_vla.contract import ANCHOR_NAMES
from posa_vla.inspection.checks import Check
from posa_vla.inspection.events import explain_episode
from posa_vla.inspection.frames import FrameReader
from posa_vla.inspection.pictures import contact_sheets, filmstrip, spread
from posa_vla.inspection.predictions import NEAR, Predictions, error_chart, error_table, worst_frames
from posa_vla.inspection.subject import Subject
from posa_vla.inspection.timelines import episode_timeline
from posa_vla.inspection.whatif import Agreement
from posa_vla.pages import picture_uri, render

WORDS = {"good": "good", "look": "look at it", "wrong": "wrong", "unknown": "not judged"}
SEVERITY = ("wrong", "look", "unknown", "good")


def write_page(
    subject: Subject,
    reader: FrameReader,
    checks: Sequence[Check],
    agreements: Mapping[str, Sequence[Agreement]],
    episodes: int,
    found: Predictions | None = None,
    policy: str = "",
) -> str:
    """The page's text.

    Args:
        subject: the dataset and its rig.
        reader: of its frames.
        checks: every verdict.
        agreements: of each camera, what `whatif` tried.
        episodes: how many get a timeline.
        found: what a policy predicted, or None.
        policy: its path.
    """
    return render(
        "inspect.html",
        version=__version__,
        name=subject.root.resolve().name,
        rig=subject.rig.name,
        stored=subject.stored,
        fps=subject.fps,
        frames=len(subject.anchors),
        total=len(subject.episodes),
        interactions=sum(len(label.interactions.frames) for label in subject.labels),
        counts={verdict: sum(check.verdict == verdict for check in checks) for verdict in SEVERITY},
        checks=sorted(checks, key=lambda check: SEVERITY.index(check.verdict)),
        words=WORDS,
        sheets=[
            {"camera": s.camera, "moment": s.moment, "look_for": s.look_for, "image": picture_uri(s.image)}
            for s in contact_sheets(subject, reader)
        ],
        guesses={camera: [_guess(one) for one in tried] for camera, tried in agreements.items()},
        episodes=[_episode(subject, reader, number) for number in chosen_episodes(subject, episodes)],
        policy=None if found is None else _policy(found, subject, reader, policy),
    )


def chosen_episodes(subject: Subject, count: int) -> list[int]:
    """Positions of the episodes to show: up to half without an interaction, the others evenly spread."""
    without = [i for i, label in enumerate(subject.labels) if not len(label.interactions.frames)]
    odd = without[: count // 2]
    others = [i for i in range(len(subject.labels)) if i not in odd]
    return sorted(odd + [others[k] for k in spread(len(others), count - len(odd))])


def _guess(one: Agreement) -> dict[str, Any]:
    return {"name": one.guess.name, "value": one.value, "pairs": one.pairs, "stated": not one.guess.kind}


def _episode(subject: Subject, reader: FrameReader, number: int) -> dict[str, Any]:
    rows = subject.episodes[number].rows
    decisions = explain_episode(subject, number)
    return {
        "number": subject.episodes[number].number,
        "task": subject.tasks[number],
        "length": rows.stop - rows.start,
        "decisions": decisions,
        "timeline": episode_timeline(subject, number, decisions),
        "strips": [
            {"camera": camera, "image": picture_uri(filmstrip(subject, reader, number, camera))}
            for camera in subject.rig.camera_names
        ],
    }


def _policy(found: Predictions, subject: Subject, reader: FrameReader, path: str) -> dict[str, Any]:
    table = error_table(found)
    worst = []
    for row in (row for row in table if row.interaction is None):
        c, anchor = found.cameras.index(row.camera), ANCHOR_NAMES.index(row.anchor)
        image = None if row.constant else worst_frames(found, subject, reader, c, anchor)
        if image is not None:
            worst.append({"camera": row.camera, "anchor": row.anchor, "image": picture_uri(image)})
    return {
        "path": path,
        "frames": len(found.rows),
        "near": NEAR,
        "table": table,
        "charts": [(camera, error_chart(found, c)) for c, camera in enumerate(found.cameras)],
        "worst": worst,
        "sizes": {camera: found.sizes[c].astype(int).tolist() for c, camera in enumerate(found.cameras)},
        "scale": max([row.fractions[1] for row in table if row.fractions], default=1.0),
    }


def text_table(table: Sequence[Any]) -> str:
    """The policy's errors for the terminal."""
    lines = [f"{'camera, anchor':<24}{'frames':>8}{'median':>12}{'90 %':>12}{'max':>12}{'below 5 %':>12}"]
    for row in table:
        name = row.title + (" (constant)" if row.constant else "")
        if row.pixels is None:
            lines.append(f"{name:<24}{0:>8}")
            continue
        pixels = "".join(f"{row.pixels[k]:>9.1f} px" for k in (0, 1, 3))
        lines.append(f"{name:<24}{row.samples:>8}{pixels}{row.near:>12.0%}")
    return "\n".join(lines)
