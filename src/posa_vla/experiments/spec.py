"""``experiments/NAME.yaml``: one question and the grid of runs that answers it; schema: docs/experiments.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from posa_vla.errors import PosaError, unknown_name

Options = dict[str, str]
"""Option name, without dashes, to its text on the command line."""

TABLES = ("success", "efficiency", "anchors", "attention", "space", "look")
"""Tables the report can make, in its order."""

OWNED = {
    "record": ("output", "workers"),
    "label": ("dataset.root", "dataset.repo_id", "output"),
    "train": ("dataset.root", "cache", "output_dir", "resume", "seed", "policy.seed", "threads", "resident"),
    "eval": ("policy.path", "output", "dataset.root"),
}
"""Options of each command that the runner sets itself."""

KEYS = {
    "experiment": (
        *("question", "notes", "reference", "seeds", "tables", "policies_from"),
        *("record", "label", "datasets", "train", "eval", "variants"),
    ),
    "dataset": ("record", "label"),
    "variant": ("train", "eval", "datasets", "policy", "against"),
}
TRAINING_KEYS = ("record", "label", "datasets", "train")


@dataclass(frozen=True)
class Dataset:
    """Demonstrations to learn from.

    Args:
        name: as cells and tables call it.
        record: options of ``posa-vla record``.
        label: options of ``posa-vla label``, the rig among them.
    """

    name: str
    record: Options
    label: Options


@dataclass(frozen=True)
class Variant:
    """One row of the experiment's table.

    Args:
        name: as cells and tables call it.
        train: options of ``posa-vla train``, the common ones included.
        eval: options of ``posa-vla eval``, the common ones included.
        datasets: names of the datasets it is run on.
        against: the variant it is compared with; itself: with none.
        policy: variant of the experiment `policies_from` whose checkpoints are evaluated; None: it trains its own.
    """

    name: str
    train: Options
    eval: Options
    datasets: tuple[str, ...]
    against: str
    policy: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A question and its grid: variants × datasets × seeds.

    Args:
        name: of the file, without its ending.
        path: the file.
        question: one sentence.
        notes: what machine it is meant for, what is fair about it, what it cannot tell.
        reference: the variant that others are compared with unless they say against which.
        seeds: of training.
        datasets: by name.
        variants: by name, in the order of the table.
        tables: which of `TABLES` the report makes.
        source: the experiment whose checkpoints are evaluated, or None.
    """

    name: str
    path: Path
    question: str
    reference: str
    seeds: tuple[int, ...]
    datasets: dict[str, Dataset]
    variants: dict[str, Variant]
    notes: str = ""
    tables: tuple[str, ...] = ("success",)
    source: "Experiment | None" = field(default=None)


def find(name: str, folder: Path = Path("experiments")) -> Path:
    """The file of an experiment: a path as it is, a name in `folder`."""
    if name.endswith(".yaml"):
        return Path(name)
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not known:
        raise PosaError(
            f"found no experiment in {folder.absolute()}: run the command in the project's root, or pass the path of "
            "a .yaml file"
        )
    if name not in known:
        raise unknown_name("experiment", name, known)
    return known[name]


def load(path: Path) -> Experiment:
    """Parse a file; an unknown key, option or name is an error that lists the valid ones."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise PosaError(
            f"cannot read the experiment {path} ({error.strerror}): pass the path of a .yaml file"
        ) from error
    except yaml.YAMLError as error:
        raise PosaError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return parse(content, path)


def parse(content: Any, path: Path) -> Experiment:
    where = str(path)
    content = _mapping(content, "experiment", where)
    _require(content, ("question", "variants", "reference"), where)
    source = _source(content, path)
    if source is None:
        _require(content, ("record", "label", "train", "seeds"), where)
        datasets = _datasets(content, where)
    else:
        datasets = source.datasets
    reference = str(content["reference"])
    variants = _variants(content, datasets, source, reference, where)
    for name in (reference, *(variant.against for variant in variants.values())):
        if name not in variants:
            raise unknown_name(f"reference variant in {where}:", name, variants)
    return Experiment(
        name=path.stem,
        path=path,
        question=_text(content["question"], "question", where),
        notes=_text(content.get("notes", ""), "notes", where),
        reference=reference,
        seeds=_seeds(content, source, where),
        datasets=datasets,
        variants=variants,
        tables=_chosen(content.get("tables", ["success"]), TABLES, "table", where),
        source=source,
    )


def _source(content: Mapping[str, Any], path: Path) -> Experiment | None:
    """The experiment named by `policies_from`, which says all there is to say about training."""
    if "policies_from" not in content:
        return None
    given = [key for key in TRAINING_KEYS if key in content]
    if given:
        raise PosaError(
            f"{path}: with policies_from nothing is recorded or trained, found {', '.join(given)}: remove them"
        )
    source = load(find(str(content["policies_from"]), path.parent))
    if source.source is not None:
        raise PosaError(f"{path}: policies_from expects an experiment that trains, {source.name} only evaluates")
    return source


def _datasets(content: Mapping[str, Any], where: str) -> dict[str, Dataset]:
    record, label = _options(content, "record", where), _options(content, "label", where)
    entries = _mapping(content.get("datasets", {"tabletop": {}}), None, f"{where}: datasets")
    datasets = {}
    for name, entry in entries.items():
        place = f"{where}: dataset {name}"
        entry = _mapping(entry, "dataset", place)
        datasets[_name(name, place)] = Dataset(
            str(name), record | _options(entry, "record", place), label | _options(entry, "label", place)
        )
    if not datasets:
        raise PosaError(f"{where}: expected at least one dataset, or no `datasets` at all")
    return datasets


def _variants(
    content: Mapping[str, Any], datasets: Mapping[str, Dataset], source: Experiment | None, reference: str, where: str
) -> dict[str, Variant]:
    train, evaluate = _options(content, "train", where), _options(content, "eval", where)
    variants = {}
    for name, entry in _mapping(content["variants"], None, f"{where}: variants").items():
        place = f"{where}: variant {name}"
        entry = _mapping(entry or {}, "variant", place)
        policy = _policy(entry, str(name), source, place)
        allowed = source.variants[policy].datasets if source and policy else tuple(datasets)
        variants[_name(name, place)] = Variant(
            name=str(name),
            train=source.variants[policy].train if source and policy else train | _options(entry, "train", place),
            eval=evaluate | _options(entry, "eval", place),
            datasets=_chosen(entry.get("datasets", list(allowed)), allowed, "dataset", place),
            against=str(entry.get("against", reference)),
            policy=policy,
        )
    if not variants:
        raise PosaError(f"{where}: expected at least one variant, found none")
    return variants


def _policy(entry: Mapping[str, Any], name: str, source: Experiment | None, place: str) -> str | None:
    if source is None:
        if "policy" in entry:
            raise PosaError(f"{place}: `policy` names a variant of another experiment: add policies_from, or remove it")
        return None
    if "train" in entry:
        raise PosaError(f"{place}: with policies_from nothing is trained: remove `train`")
    policy = str(entry.get("policy", name))
    if policy not in source.variants:
        raise unknown_name(f"variant of {source.name} in {place}:", policy, source.variants)
    return policy


def _seeds(content: Mapping[str, Any], source: Experiment | None, where: str) -> tuple[int, ...]:
    seeds = content.get("seeds", list(source.seeds) if source else None)
    right = isinstance(seeds, list) and seeds and all(isinstance(s, int) and s >= 0 for s in seeds)
    if not right or len(set(seeds)) < len(seeds):
        raise PosaError(f"{where}: expected seeds as a list of different integers >= 0, found {seeds!r}")
    if source and not set(seeds) <= set(source.seeds):
        raise PosaError(f"{where}: expected seeds among those of {source.name}, {list(source.seeds)}, found {seeds}")
    return tuple(seeds)


def _mapping(value: Any, kind: str | None, where: str) -> dict[str, Any]:
    """`value` as a mapping whose keys are those of `KEYS`[kind]; any key where kind is None."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise PosaError(f"{where}: expected names with values, found {value!r}")
    for key in value:
        if kind is not None and key not in KEYS[kind]:
            raise unknown_name(f"key in {where}:", str(key), KEYS[kind])
    return value


def _options(content: Mapping[str, Any], command: str, where: str) -> Options:
    options: Options = {}
    for name, value in _mapping(content.get(command), None, f"{where}: {command}").items():
        if name in OWNED[command]:
            raise PosaError(f"{where}: --{name} of posa-vla {command} is set by the runner: remove it")
        if not isinstance(value, str | int | float):
            raise PosaError(
                f"{where}: expected a text, a number or true/false for {command} option {name}, found {value!r}: "
                "write lists as the command line takes them, in quotes"
            )
        options[str(name)] = str(value).lower() if isinstance(value, bool) else str(value)
    return options


def _chosen(value: Any, valid: tuple[str, ...], kind: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise PosaError(f"{where}: expected a list of {kind}s, found {value!r}: choose from {', '.join(valid)}")
    for name in value:
        if name not in valid:
            raise unknown_name(f"{kind} in {where}:", str(name), valid)
    return tuple(name for name in valid if name in value)


def _name(name: Any, where: str) -> str:
    """Names become folders, and ``-`` separates them there."""
    if not str(name).replace("_", "").isalnum():
        raise PosaError(f"{where}: expected a name of letters, digits and underscores, found {name!r}")
    return str(name)


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise PosaError(f"{where}: expected a text as {key}, found {value!r}")
    return " ".join(value.split())


def _require(content: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    missing = [key for key in keys if key not in content]
    if missing:
        raise PosaError(f"{where}: {', '.join(missing)} missing: see docs/experiments.md")
