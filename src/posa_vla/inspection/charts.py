"""Small charts as inline SVG, coloured by the page's style so that they follow its light and dark scheme."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

WIDTH, LEFT, RIGHT = 720, 96, 18
"""Of a chart in its own units: all of it, and the margins for the labels on either side."""

TOP, GAP, AXIS = 16, 14, 22


@dataclass(frozen=True)
class Line:
    """One curve: values (T,) with NaN for gaps; ``style`` is a class of inspect.css."""

    values: np.ndarray
    style: str
    label: str = ""


@dataclass(frozen=True)
class Panel:
    """One strip of a timeline.

    Args:
        title: stands at its left.
        lines: curves over the frames.
        low: value at the bottom.
        high: value at the top.
        rules: values with a horizontal line, e.g. thresholds.
        bands: first and last-but-one frames of shaded spans.
        height: of the strip.
        note: below the title.
    """

    title: str
    lines: Sequence[Line]
    low: float
    high: float
    rules: Sequence[float] = ()
    bands: Sequence[tuple[int, int]] = field(default=())
    height: int = 56
    note: str = ""


@dataclass(frozen=True)
class Mark:
    """A vertical line through all strips at a frame; ``text`` shows when pointed at."""

    frame: int
    style: str
    text: str


def timeline(panels: Sequence[Panel], marks: Sequence[Mark], length: int, description: str) -> str:
    """Strips over the frames 0 … length - 1, one below the other, as an SVG element."""
    height = TOP + sum(panel.height + GAP for panel in panels) + AXIS
    parts = [_open(height, description)]
    top = TOP
    for panel in panels:
        parts.append(_panel(panel, top, length))
        top += panel.height + GAP
    bottom = top - GAP
    for mark in marks:
        x = _x(mark.frame, length)
        parts.append(
            f'<line class="mark {mark.style}" x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{bottom}">'
            f"<title>{html.escape(mark.text)}</title></line>"
        )
    parts += [_tick(frame, length, bottom) for frame in ticks(length)]
    return "".join([*parts, "</svg>"])


def _panel(panel: Panel, top: float, length: int) -> str:
    def y(value: float) -> float:
        share = (value - panel.low) / (panel.high - panel.low)
        return round(top + panel.height * (1 - min(max(share, -0.04), 1.04)), 1)

    parts = [f'<rect class="strip" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{panel.height}"/>']
    for start, stop in panel.bands:
        x = _x(start, length)
        width = max(_x(stop - 1, length) - x, 1.5)
        parts.append(f'<rect class="band" x="{x}" y="{top}" width="{width:.1f}" height="{panel.height}"/>')
    parts += [f'<path class="rule" d="M{LEFT} {y(value)}H{WIDTH - RIGHT}"/>' for value in panel.rules]
    parts.append(f'<text class="title" x="0" y="{top + 12}">{html.escape(panel.title)}</text>')
    notes = [(line.label, line.style) for line in panel.lines if line.label] + [(panel.note, "note")] * bool(panel.note)
    for number, (text, style) in enumerate(notes):
        parts.append(f'<text class="{style}" x="0" y="{top + 27 + 14 * number}">{html.escape(text)}</text>')
    for value in (panel.low, panel.high):
        parts.append(f'<text class="limit" x="{LEFT - 6}" y="{y(value) + 4}">{value:g}</text>')
    for line in panel.lines:
        points = [(_x(frame, length), y(float(value))) for frame, value in enumerate(line.values) if value == value]
        known = [frame for frame, value in enumerate(line.values) if value == value]
        parts.append(f'<path class="curve {line.style}" d="{_path(points, known)}"/>')
    return "".join(parts)


def _path(points: list[tuple[float, float]], frames: list[int]) -> str:
    """A polyline that lifts the pen where frames are missing."""
    pieces = []
    for number, (x, y) in enumerate(points):
        joined = number > 0 and frames[number] == frames[number - 1] + 1
        pieces.append(f"{'L' if joined else 'M'}{x} {y}" + ("" if joined else "h0.01"))
    return "".join(pieces)


def histogram(
    curves: Sequence[Line], edges: np.ndarray, axis: str, description: str, rules: Sequence[tuple[float, str]] = ()
) -> str:
    """Lines over the bins' middles, sharing one vertical scale from 0; ``values`` has one number per bin.

    Args:
        curves: values (bins,).
        edges: (bins + 1,), equally spaced.
        axis: text below the horizontal axis.
        description: for those who cannot see it.
        rules: values on the horizontal axis with a vertical line, and their text.
    """
    height, base = 200, 160
    top = max([float(np.nanmax(curve.values, initial=0)) for curve in curves] + [1e-9])
    span = edges[-1] - edges[0]

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - edges[0]) / span, 1)

    parts = [_open(height, description)]
    parts.append(f'<path class="rule" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>')
    for value in np.linspace(edges[0], edges[-1], 6):
        parts.append(f'<text class="tick" x="{x(value)}" y="{base + 15}">{value:g}</text>')
    for value, text in rules:
        parts.append(f'<path class="rule" d="M{x(value)} {TOP}V{base}"/>')
        parts.append(f'<text class="tick" x="{x(value)}" y="{TOP - 4}">{html.escape(text)}</text>')
    middles = (edges[1:] + edges[:-1]) / 2
    for number, curve in enumerate(curves):
        known = [i for i, value in enumerate(curve.values) if value == value]
        points = [(x(middles[i]), round(base - (base - TOP) * float(curve.values[i]) / top, 1)) for i in known]
        parts.append(f'<path class="curve {curve.style}" d="{_path(points, known)}"/>')
        parts.append(
            f'<text class="{curve.style}" x="0" y="{TOP + 14 + 14 * number}">{html.escape(curve.label)}</text>'
        )
    parts.append(f'<text class="limit" x="{LEFT - 6}" y="{TOP + 4}">{top:.2g}</text>')
    parts.append(f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 8}">{html.escape(axis)}</text>')
    return "".join([*parts, "</svg>"])


def ticks(length: int, most: int = 12) -> list[int]:
    """Round frame numbers, at most so many, from 0 on."""
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000):
        if (length - 1) // step < most:
            return list(range(0, length, step))
    return [0, length - 1]


def spans(flags: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True as [start, stop)."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _open(height: float, description: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(description)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )


def _tick(frame: int, length: int, bottom: float) -> str:
    return f'<text class="tick" x="{_x(frame, length)}" y="{bottom + 15}">{frame}</text>'


def _x(frame: float, length: int) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * frame / max(length - 1, 1), 1)
