"""The posa-vla commands that a cell consists of."""

from dataclasses import dataclass
from pathlib import Path

from posa_vla.experiments.spec import Options
from posa_vla.experiments.store import CellFolder
from posa_vla.training.recipes import POSA_VLA

AS_THE_PAPER: Options = {"policy.integration_steps": "10"}
"""How our policies are trained unless an experiment's file says otherwise, whatever their preset or origin has."""


@dataclass(frozen=True)
class Stage:
    """One command.

    Args:
        name: of the command.
        words: its command line, the name first.
        output: the folder it makes.
    """

    name: str
    words: tuple[str, ...]
    output: Path


def recording_stage(folder: CellFolder, threads: int) -> Stage:
    """record; as of the other stages of data, its output appears in one rename: a folder that exists is complete."""
    recorded = folder.recording / "demonstrations"
    words = ("record", f"--output={recorded}", f"--workers={threads}", *flags(folder.cell.dataset.record))
    return Stage("record", words, recorded)


def dataset_stages(folder: CellFolder) -> list[Stage]:
    """label → cache."""
    recorded = folder.recording / "demonstrations"
    labelled, cache = folder.dataset / "labelled", folder.dataset / "cache"
    label = (f"--dataset.root={recorded}", f"--output={labelled}", *flags(folder.cell.dataset.label))
    return [
        Stage("label", ("label", *label), labelled),
        Stage("cache", ("cache", f"--dataset.root={labelled}", f"--output={cache}"), cache),
    ]


def cell_stages(folder: CellFolder, threads: int, resident: bool = False) -> list[Stage]:
    """train → eval, or eval alone for the policies of another experiment."""
    evaluate = Stage("eval", _eval_words(folder, threads), folder.path / "eval")
    if folder.cell.policy_of is not None:
        return [evaluate]
    return [Stage("train", _train_words(folder, threads, resident), folder.train), evaluate]


def _train_words(folder: CellFolder, threads: int, resident: bool) -> tuple[str, ...]:
    root, cell = folder.dataset, folder.cell
    data = (f"--dataset.root={root / 'labelled'}", f"--cache={root / 'cache'}")
    again = ("--resume=true",) if has_checkpoint(folder.train) else ()
    ours = cell.train.get("policy.type", POSA_VLA) == POSA_VLA
    options = (AS_THE_PAPER if ours else {}) | cell.train
    return (
        "train",
        *data,
        f"--output_dir={folder.train}",
        f"--seed={cell.seed}",
        f"--threads={threads}",
        *(("--resident=true",) if resident else ()),
        *flags(options),
        *again,
    )


def _eval_words(folder: CellFolder, threads: int) -> tuple[str, ...]:
    options: Options = {"workers": str(threads)} | folder.cell.eval
    paths = (f"--policy.path={folder.checkpoint}", f"--dataset.root={folder.dataset / 'labelled'}")
    return ("eval", *paths, f"--output={folder.path / 'eval'}", *flags(options))


def has_checkpoint(train: Path) -> bool:
    checkpoints = train / "checkpoints"
    return checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir())


def flags(options: Options) -> tuple[str, ...]:
    return tuple(f"--{name}={value}" for name, value in options.items())
