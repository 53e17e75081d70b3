"""The anchor analysis as one picture: success over error, and what the attention did in the failures."""

import io
from typing import Any

from posa_vla.errors import PosaError

COLOURS = ("#2d5fd0", "#c2442d", "#17824a", "#8a5cd1")


def figure(analysis: dict[str, Any]) -> str:
    """SVG; equal analyses give equal files."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PosaError(
            "expected matplotlib to draw the analysis, found none: pip install 'lerobot_policy_posa_vla[plot]'"
        ) from error
    with matplotlib.rc_context({"svg.hashsalt": "posa-vla", "font.size": 9, "svg.fonttype": "none"}):
        canvas = Figure(figsize=(10, 3.6), layout="constrained")
        left, right = canvas.subplots(1, 2)
        _success_over_error(left, analysis["relations"])
        _failures(right, analysis["failures"])
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _success_over_error(axes: Any, relations: list[dict[str, Any]]) -> None:
    """Over the group's number, not its error: the groups' errors differ by orders of magnitude between views."""
    for index, row in enumerate(relations):
        groups = [group for group in row["groups"] if group["success"]["rate"] is not None]
        rates = [100 * group["success"]["rate"] for group in groups]
        bars = [
            [y - 100 * group["success"]["low"] for y, group in zip(rates, groups, strict=True)],
            [100 * group["success"]["high"] - y for y, group in zip(rates, groups, strict=True)],
        ]
        axes.errorbar(
            [number + 0.08 * (index - (len(relations) - 1) / 2) for number in range(1, len(groups) + 1)],
            rates,
            yerr=bars,
            label=f"{row['view']}, {row['frames']}",
            color=COLOURS[index // 2 % len(COLOURS)],
            linestyle=("--", "-")[index % 2],
            marker="o",
            markersize=4,
            capsize=2,
        )
    axes.set(xlabel="group of episodes by task-anchor error, least first", ylabel="success (%)", ylim=(-3, 103))
    axes.set_xticks(range(1, max(len(row["groups"]) for row in relations) + 1))
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def _failures(axes: Any, failures: list[dict[str, Any]]) -> None:
    names = [row["what"] for row in failures][::-1]
    counts = [row["share"]["count"] for row in failures][::-1]
    bars = axes.barh(range(len(names)), counts, color="#a3a7ad")
    axes.bar_label(bars, padding=2)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="failed episodes", title="attention until the grasp")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True)
