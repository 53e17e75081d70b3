"""Markdown tables of an experiment, made from its committed results alone."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from posa_vla.evaluation.intervals import difference_interval, welch
from posa_vla.experiments.anchor_tables import anchor_tables, attention_table, space_table
from posa_vla.experiments.estimate import duration
from posa_vla.experiments.markdown import DASH, number, percent, points, rate, table, within
from posa_vla.experiments.numbers import ON_TARGET, Group, Rate, conditions, demonstrations, groups, middle

TRAININGS = 3
"""From which on an interval over trainings says something."""

Column = tuple[str, Callable[[Group], str]]


def render(content: dict[str, Any]) -> str:
    """The whole section: question, tables, and what they rest on."""
    found = groups(content)
    parts = [f"*{content['question']}*", _command(content)]
    makers: dict[str, Callable[[dict[str, Any], list[Group]], list[str]]] = {
        "success": success_tables,
        "efficiency": efficiency_table,
        "anchors": lambda _, groups_: anchor_tables(groups_),
        "attention": lambda _, groups_: attention_table(groups_),
        "space": lambda _, groups_: space_table(groups_),
        "look": look_table,
    }
    for name in content["tables"]:
        parts += makers[name](content, found)
    return "\n\n".join([*parts, *basis(content, found)])


def _command(content: dict[str, Any]) -> str:
    name = content["experiment"]
    return f"`posa-vla experiment {name}`, then `posa-vla experiment {name} --report=true`."


def success_tables(content: dict[str, Any], found: list[Group]) -> list[str]:
    """One row per variant over all conditions; where there are several, one column per condition as well."""
    several = len(content["datasets"]) > 1
    columns: list[Column] = [
        ("variant", lambda g: g.variant),
        *([("dataset", lambda g: g.dataset), _demonstrations(content)] if several else []),
        ("episodes", lambda g: f"{g.success().trials}" + (f" (+{g.errors()} errors)" if g.errors() else "")),
        ("success [95 %]", lambda g: rate(g.success())),
        ("each seed", lambda g: ", ".join(percent(value) for value in g.seed_rates())),
        (_against(content), lambda g: difference(g, reference(content, found, g), named=_mixed(content))),
        *_between_trainings(content, found),
        ("wrong object", lambda g: percent(g.wrong_object(), 1)),
        ("steps (expert)", lambda g: f"{number(g.median_of_successes('steps'), 0)} {_expert(g)}"),
        ("path / expert's", lambda g: number(g.path_ratio(), 2)),
        ("anchor error", lambda g: number(g.anchor_error(), 3)),
        ("training steps", lambda g: number(g.training_steps(), 0)),
        ("training time", lambda g: DASH if g.training_seconds() is None else duration(g.training_seconds() or 0.0)),
        ("parameters (M)", lambda g: number(g.millions(), 2)),
    ]
    parts = [_grouped(columns, found)]
    first = columns[: 1 + 2 * several]
    stages = list(dict.fromkeys(stage for group in found for stage in group.stages()))
    if len(stages) > 1:
        parts.append("Stages of the task reached, all conditions and seeds pooled:")
        parts.append(_grouped([*first, *(_stage_column(stage) for stage in stages)], found))
    names = conditions(content)
    if len(names) > 1:
        parts.append("Success per condition, seeds pooled:")
        parts.append(_grouped([*first, *(_condition_column(name) for name in names)], found))
    return parts


def _demonstrations(content: dict[str, Any]) -> Column:
    def show(group: Group) -> str:
        total, each = demonstrations(content["datasets"][group.dataset])
        return str(total) if each is None else f"{total} ({each})"

    return "demonstrations (per category)", show


def _condition_column(name: str) -> Column:
    return name, lambda group: rate(group.success(name))


def _stage_column(name: str) -> Column:
    return name, lambda group: within(*group.stages()[name]) if name in group.stages() else DASH


def _expert(group: Group) -> str:
    return f"({number(group.median_of_successes('expert_steps'), 0)})"


def efficiency_table(content: dict[str, Any], found: list[Group]) -> list[str]:
    columns: list[Column] = [
        ("variant", lambda g: g.title),
        ("executed per chunk", lambda g: number(g.n_action_steps(), 0)),
        ("ms per action", lambda g: number(g.ms_per_action(), 1)),
        ("ms per chunk", lambda g: number(g.ms_per_chunk(), 1)),
        ("environment ms per step", lambda g: number(g.ms_per_action("env_seconds"), 1)),
        ("action steps", lambda g: number(g.median_of_successes("steps"), 0)),
        ("policy seconds", lambda g: number(g.median_of_successes("policy_seconds"), 2)),
        ("path, m", lambda g: number(g.median_of_successes("path"), 3)),
        ("smoothness", lambda g: number(g.median_of_successes("smoothness"), 2)),
        ("success [95 %]", lambda g: rate(g.success())),
    ]
    legend = (
        "Steps, policy seconds, path and smoothness (log dimensionless jerk, nearer 0 is smoother): medians over "
        "solved episodes. ms per action: wall-clock per executed action, processors included; ms per chunk: the same "
        "time per chunk predicted."
    )
    return [_grouped(columns, found), legend]


def look_table(content: dict[str, Any], found: list[Group]) -> list[str]:
    """Where the policy looks before anything has moved; for experiments that train the anchors alone."""
    columns: list[Column] = [
        ("variant", lambda g: g.title),
        ("frames", lambda g: f"{g.on_target().trials}"),
        ("looks at the target [95 %]", lambda g: rate(g.on_target())),
        ("each seed", lambda g: ", ".join(percent(value) for value in g.seed_on_target())),
        (
            _against(content),
            lambda g: difference(g, reference(content, found, g), named=_mixed(content), of=Group.on_target),
        ),
        ("median error", lambda g: number(middle(g.first_errors()), 3)),
        ("mean error", lambda g: number(g.anchor_error(), 3)),
        ("training steps", lambda g: number(g.training_steps(), 0)),
        ("training time", lambda g: DASH if g.training_seconds() is None else duration(g.training_seconds() or 0.0)),
    ]
    legend = (
        "Of the task anchor in the head view at the first frame. Error: its distance from the target in fractions of "
        f"the image's side; the policy looks at the target where that is at most {ON_TARGET}."
    )
    return [_grouped(columns, found), legend]


def _against(content: dict[str, Any]) -> str:
    return "against, points" if _mixed(content) else f"against {content['reference']}, points"


def _mixed(content: dict[str, Any]) -> bool:
    """Whether some variant is compared with another one than the experiment's reference."""
    return any(other not in (name, content["reference"]) for name, other in content["against"].items())


def reference(content: dict[str, Any], found: Sequence[Group], group: Group) -> Group | None:
    """The variant that `group` is compared with, on the same dataset."""
    wanted = (content["against"][group.variant], group.dataset)
    same = [other for other in found if (other.variant, other.dataset) == wanted]
    return same[0] if same else None


def difference(
    group: Group, other: Group | None, named: bool = False, of: Callable[[Group], Rate] = Group.success
) -> str:
    """Difference of the rates `of` both in points, with its 95 % interval over scenes, and what it is `named` after."""
    if other is None or other.variant == group.variant:
        return DASH
    mine, theirs = of(group), of(other)
    if mine.value is None or theirs.value is None:
        return DASH
    text = points(mine.value - theirs.value, difference_interval(mine.scenes, theirs.scenes))
    return text + (f" {other.variant}" if named else "")


def _between_trainings(content: dict[str, Any], found: Sequence[Group]) -> list[Column]:
    """The interval of the same difference over trainings, where a variant and its reference have `TRAININGS`."""

    def show(group: Group) -> str:
        other = reference(content, found, group)
        if other is None or other.variant == group.variant:
            return DASH
        mine, theirs = group.seed_rates(), other.seed_rates()
        interval = welch(mine, theirs) if min(len(mine), len(theirs)) >= TRAININGS else None
        return DASH if interval is None else f"[{100 * interval[0]:+.0f}, {100 * interval[1]:+.0f}]"

    return [("over trainings", show)] if any(show(group) != DASH for group in found) else []


def _machine(cell: dict[str, Any]) -> str:
    """Processor, threads and, where it was noted, the arithmetic of the training."""
    machine, precision = cell["machine"], (cell["training"] or {}).get("precision")
    words = [machine.get("gpu") or machine["cpu"], f"{cell['threads']} thread(s)", precision]
    return ", ".join(word for word in words if word)


def basis(content: dict[str, Any], found: Sequence[Group]) -> list[str]:
    """What a reader must know to judge the tables; said by the results themselves."""
    cells = content["cells"]
    revisions = sorted({str(revision) for cell in cells for stage in cell["git"].values() for revision in stage})
    machines = sorted({_machine(cell) for cell in cells})
    sentences = [
        "Intervals are over scenes ([how](experiments.md#reporting)).",
        f"Code: {', '.join(revisions)}. Machine: {'; '.join(machines)}.",
    ]
    data: dict[str, set[str]] = {}
    for cell in cells:
        data.setdefault(cell["config"]["dataset"], set()).add(cell["dataset"])
    mixed = sorted(name for name, fingerprints in data.items() if len(fingerprints) > 1)
    if mixed:
        sentences.append(f"**Cells were trained on different recordings of {', '.join(mixed)}.**")
    if again := content.get("trained_again"):
        source = cells[0]["config"]["policy_of"].partition("/")[0]
        sentences.append(f"**Trained again, not the policies of the table of {source}: {_named(content, again)}.**")
    if content["missing"]:
        sentences.append(f"**Not finished: {_named(content, content['missing'])}.**")
    return [" ".join(sentences), *([content["notes"]] if content["notes"] else [])]


def _named(content: dict[str, Any], cells: Sequence[str]) -> str:
    """``seeds 1, 2 of full, no_gate; seed 2 of no_anchor_tokens``, in the order of the table."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        variant, dataset, seed = cell.split("-")
        lacking.setdefault((variant, dataset), []).append(seed)
    alike: dict[tuple[str, ...], list[str]] = {}
    for variant, dataset in product(content["variants"], content["datasets"]):
        if seeds := lacking.get((variant, dataset)):
            title = f"{variant} {dataset}" if len(content["datasets"]) > 1 else variant
            alike.setdefault(tuple(sorted(seeds, key=int)), []).append(title)
    return "; ".join(
        f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} of {', '.join(titles)}" for seeds, titles in alike.items()
    )


def _grouped(columns: Sequence[Column], found: Sequence[Group]) -> str:
    """A row per group; columns without a single value are left out."""
    shown = [(name, [show(group) for group in found]) for name, show in columns]
    filled = [(name, values) for name, values in shown if any(value.strip(f"{DASH}() ") for value in values)]
    return table([name for name, _ in filled], list(zip(*(values for _, values in filled), strict=True)))
