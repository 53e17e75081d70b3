"""Plots of an experiment from its committed results, as SVG that is the same for the same numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from posa_vla.errors import PosaError
from posa_vla.experiments.numbers import Group, Rate, conditions, demonstrations, groups

CURVES = {
    "action_loss": "action loss",
    "task_anchor_error": "task anchor error (training images)",
    "eval_success": "success on val scenes",
}
DASHES = ("-", "--", ":", "-.", (0, (6, 1)), (0, (1, 3)))


def draw(content: dict[str, Any], folder: Path) -> list[Path]:
    """Write FOLDER/NAME-….svg for everything there are numbers for; returns the files."""
    plt = _pyplot()
    found, name = groups(content), content["experiment"]
    figures = {
        "success": success_figure(plt, content, found) if "success" in content["tables"] else None,
        "look": look_figure(plt, found) if "look" in content["tables"] else None,
        "training": training_figure(plt, found),
        "data": data_figure(plt, content, found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, figure in figures.items():
        path = folder / f"{name}-{kind}.svg"
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)
        written.append(path)
    return written


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise PosaError("plots need matplotlib: pip install 'lerobot_policy_posa_vla[plot]'") from error
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "posa-vla", "axes.grid": True, "grid.alpha": 0.3, "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def success_figure(plt: Any, content: dict[str, Any], found: Sequence[Group]) -> Any:
    """Success with its interval per variant, a dot per seed; one panel per condition."""
    panels = [
        Panel(name, "success, %", partial(Group.success, condition=name), partial(Group.seed_rates, condition=name))
        for name in conditions(content)
    ]
    return _rates_figure(plt, found, panels)


def look_figure(plt: Any, found: Sequence[Group]) -> Any:
    """How often the policy looks at the target at the first frame, as success is drawn."""
    panel = Panel("first frame, head view", "looks at the target, %", Group.on_target, Group.seed_on_target)
    return _rates_figure(plt, found, [panel])


@dataclass(frozen=True)
class Panel:
    """One rate of every group, and that of each of its seeds."""

    title: str
    label: str
    rate: Callable[[Group], Rate]
    seeds: Callable[[Group], list[float]]


def _rates_figure(plt: Any, found: Sequence[Group], panels: Sequence[Panel]) -> Any:
    colours, labels = _colours(found), [group.title for group in found]
    figure, axes = plt.subplots(
        1, len(panels), sharey=True, squeeze=False, figsize=(2.5 + 2.4 * len(panels), 1.2 + 0.34 * len(found))
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        for row, group in enumerate(found):
            _interval(axis, panel.rate(group), row, colours[group.variant])
            rates = panel.seeds(group)
            axis.plot([100 * value for value in rates], [row + 0.22] * len(rates), ".", color="0.5", markersize=3)
        axis.set(title=panel.title, xlim=(-3, 103), xlabel=panel.label)
    axes[0][0].set_yticks(range(len(found)), labels)
    axes[0][0].set_ylim(len(found) - 0.4, -0.6)  # the first on top
    return figure


def _interval(axis: Any, rate: Rate, row: float, colour: str) -> None:
    if rate.value is None:
        return
    low, high = rate.interval
    errors = [[100 * (rate.value - low)], [100 * (high - rate.value)]]
    axis.errorbar([100 * rate.value], [row], xerr=errors, fmt="o", color=colour, capsize=3, markersize=5)


def training_figure(plt: Any, found: Sequence[Group]) -> Any:
    """Training curves, a colour per variant, a dash per dataset, a line per seed; None where nothing was trained."""
    points = [(key, _lines(found, key)) for key in CURVES]
    drawn = [(key, lines) for key, lines in points if lines]
    if not drawn:
        return None
    colours, dashes = _colours(found), _dashes(found)
    figure, axes = plt.subplots(1, len(drawn), squeeze=False, figsize=(4.2 * len(drawn), 3.2))
    for axis, (key, lines) in zip(axes[0], drawn, strict=True):
        for group, steps, values in lines:
            axis.plot(steps, values, color=colours[group.variant], linestyle=dashes[group.dataset], linewidth=1)
        axis.set(title=CURVES[key], xlabel="step", yscale="log" if key == "action_loss" else "linear")
        if key == "eval_success":
            axis.set_ylim(-0.03, 1.03)  # the same in every plot, so that one scene of 25 does not look like a rise
    shown = {group.variant for _, lines in drawn for group, _, _ in lines}
    handles = [plt.Line2D([], [], color=colour, label=name) for name, colour in colours.items() if name in shown]
    if len(dashes) > 1:
        handles += [plt.Line2D([], [], color="0.4", linestyle=dash, label=dataset) for dataset, dash in dashes.items()]
    axes[0][-1].legend(handles=handles, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _colours(found: Sequence[Group]) -> dict[str, str]:
    """A variant has the same colour in every plot."""
    return {variant: f"C{i % 10}" for i, variant in enumerate(dict.fromkeys(group.variant for group in found))}


def _dashes(found: Sequence[Group]) -> dict[str, Any]:
    """The line style of each dataset."""
    return dict(zip(dict.fromkeys(group.dataset for group in found), cycle(DASHES), strict=False))


def _lines(found: Sequence[Group], key: str) -> list[tuple[Group, list[int], list[float]]]:
    """(group, steps, values) of every cell that logged `key`."""
    part = "evaluations" if key.startswith("eval_") else "curve"
    lines = []
    for group in found:
        for cell in group.cells:
            logged = (cell["training"] or {}).get(part, [])
            # Policies of LeRobot's log one loss, that of their actions.
            name = "loss" if key == "action_loss" and not any(key in p for p in logged) else key
            points = [p for p in logged if name in p]
            if points:
                lines.append((group, [p["step"] for p in points], [p[name] for p in points]))
    return lines


def data_figure(plt: Any, content: dict[str, Any], found: Sequence[Group]) -> Any:
    """Success against the number of demonstrations, one line per variant; None where each knows one number."""
    counts = {name: demonstrations(record)[0] for name, record in content["datasets"].items()}
    known = {(group.variant, counts[group.dataset]) for group in found}
    if len(known) == len({variant for variant, _ in known}):
        return None
    figure, axis = plt.subplots(figsize=(5, 3.4))
    for variant in dict.fromkeys(group.variant for group in found):
        rows = sorted((counts[g.dataset], g.success()) for g in found if g.variant == variant and g.success().trials)
        middle = [100 * rate.count / rate.trials for _, rate in rows]
        bounds = [rate.interval for _, rate in rows]
        below = [value - 100 * low for value, (low, _) in zip(middle, bounds, strict=True)]
        above = [100 * high - value for value, (_, high) in zip(middle, bounds, strict=True)]
        axis.errorbar([c for c, _ in rows], middle, yerr=[below, above], marker="o", capsize=3, label=variant)
    ticks = sorted(set(counts.values()))
    axis.set(xscale="log", xlabel="demonstrations", ylabel="success, %", ylim=(-3, 103))
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=8)
    return figure
