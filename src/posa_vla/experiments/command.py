"""``posa-vla experiment NAME``: run the cells of experiments/NAME.yaml that are not finished, or report them."""

import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import draccus

from posa_vla.errors import PosaError
from posa_vla.experiments import local, ray_tasks
from posa_vla.experiments.cells import Cell, grid, select
from posa_vla.experiments.estimate import duration
from posa_vla.experiments.overview import overview
from posa_vla.experiments.reporting import report
from posa_vla.experiments.running import PROGRAM, STOPPED, Outcome, Work
from posa_vla.experiments.spec import Experiment, find, load
from posa_vla.experiments.store import BLOCKED, DONE, FAILED, STALE, CellFolder
from posa_vla.training.interrupt import StopSignal, exit_status


@dataclass
class ExperimentConfig:
    """Run every cell of experiments/NAME.yaml that is not finished, or say what there is and how long it will take.

    Args:
        output: root of the cells' folders, OUTPUT/NAME/CELL, and of the datasets they share.
        dry_run: list the cells, their states and an estimate of their time; run nothing.
        only: comma list of variants; all if not given.
        datasets: comma list of datasets; all if not given.
        seeds: comma list of seeds; all if not given.
        workers: cells side by side on this machine.
        threads: threads of training, and processes of recording and evaluation, in each cell; 0 = all cores for
            one worker, 1 for several.
        resident: training keeps all frames in the device's memory: for a GPU with room for as many copies of the
            dataset's frames as there are workers.
        ray: address of a Ray cluster whose machines share `output` (auto: the running one); cells become its tasks.
        gpus: with ray: share of a GPU for each cell (0.25: four on one); 0 hides the GPUs from it.
        report: write experiments/results/NAME.json, its tables and plots; run nothing.
        retry_failed: run failed cells again.
        rerun_stale: run cells again whose options in the file have changed since; what only concerns the
            evaluation keeps the training.
    """

    output: Path = Path("outputs/experiments")
    dry_run: bool = False
    only: str | None = None
    datasets: str | None = None
    seeds: str | None = None
    workers: int = 1
    threads: int = 0
    resident: bool = False
    ray: str | None = None
    gpus: float = 0.0
    report: bool = False
    retry_failed: bool = True
    rerun_stale: bool = False


def main(argv: list[str]) -> int:
    """0; 1 where a cell failed or cannot run yet; 128 + the signal that stopped the run."""
    name, words = _split(argv)
    config = draccus.parse(config_class=ExperimentConfig, args=words)
    return run(load(find(name)), config)


def _split(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The experiment's name, and the options, in which ``--dry-run`` stands for ``--dry_run=true``."""
    switches = {f.name for f in fields(ExperimentConfig) if f.type is bool}
    words, names = [], []
    for word in argv:
        plain = word.removeprefix("--").replace("-", "_")
        if word.startswith("--") and plain in switches:
            words.append(f"--{plain}=true")
        elif word.startswith("-"):
            words.append(word)
        else:
            names.append(word)
    if "--help" in words or "-h" in words:
        print("usage: posa-vla experiment NAME [--option=value ...]   (NAME: a file experiments/NAME.yaml)\n")
        return "", words
    if len(names) != 1:
        known = ", ".join(sorted(path.stem for path in Path("experiments").glob("*.yaml"))) or "none here"
        raise PosaError(f"expected one experiment and options as --name=value, found {names}: choose one of {known}")
    return names[0], words


def run(experiment: Experiment, config: ExperimentConfig, program: tuple[str, ...] = PROGRAM) -> int:
    """The whole command; `program` replaces posa-vla (for tests)."""
    if config.workers < 1 or config.threads < 0:
        raise PosaError(f"expected --workers >= 1 and --threads >= 0, found {config.workers} and {config.threads}")
    if config.gpus < 0 or (config.gpus and config.ray is None):
        raise PosaError(
            f"expected --gpus, the share of a GPU that Ray gives each cell, at least 0 and with --ray, found "
            f"{config.gpus}: without Ray all cells share what CUDA_VISIBLE_DEVICES names"
        )
    if config.report:
        print(report(experiment, config.output))
        return 0
    cells = select(grid(experiment), config.only, config.datasets, config.seeds)
    threads = _threads(config)
    if config.dry_run:
        print(overview(experiment, cells, config.output, threads, config.workers))
        return 0
    todo, blocked = _todo(cells, config)
    session = f"{time.time():.6f}-{os.getpid()}"
    output = config.output.absolute() if config.ray else config.output
    works = [Work(cell, output, threads, session, program, config.resident, config.gpus) for cell in todo]
    print(f"{experiment.name}: {experiment.question}\n{len(works)} of {len(cells)} cells to run", flush=True)
    with StopSignal() as stop:
        outcomes = _run(works, config, stop)
        received = stop.received
    return _summary(outcomes, blocked, received)


def _threads(config: ExperimentConfig) -> int:
    alone = config.workers == 1 and config.ray is None
    return config.threads or (len(os.sched_getaffinity(0)) if alone else 1)


def _todo(cells: Sequence[Cell], config: ExperimentConfig) -> tuple[list[Cell], list[Cell]]:
    """Cells to run, and those whose policy is not trained yet."""
    states = {cell.name: CellFolder(cell, config.output).state() for cell in cells}
    stale = [name for name, state in states.items() if state == STALE]
    if stale and not config.rerun_stale:
        raise PosaError(
            f"the options of {', '.join(stale)} have changed since they were run: run them again with "
            "--rerun_stale=true, choose another --output, or undo the change"
        )
    skipped = {DONE, BLOCKED} | (set() if config.retry_failed else {FAILED})
    todo = [cell for cell in cells if states[cell.name] not in skipped]
    return todo, [cell for cell in cells if states[cell.name] == BLOCKED]


def _run(works: Sequence[Work], config: ExperimentConfig, stop: StopSignal) -> list[Outcome]:
    began, count = time.monotonic(), len(works)
    done = Counter[str]()

    def finished(outcome: Outcome) -> None:
        done["all"] += 1
        passed = duration(time.monotonic() - began)
        _say(f"[{done['all']}/{count}] {outcome.cell}: {outcome.status} after {passed}. {outcome.message}".rstrip())

    if config.ray is not None:
        return ray_tasks.run_all(works, config.ray, lambda: bool(stop.received), finished)
    return local.run_all(works, config.workers, lambda: bool(stop.received), _say, finished)


def _say(text: str) -> None:
    print(text, flush=True)


def _summary(outcomes: Sequence[Outcome], blocked: Sequence[Cell], received: int) -> int:
    counts = Counter(outcome.status for outcome in outcomes)
    print(", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing to run")
    for outcome in outcomes:
        if outcome.status == FAILED:
            print(f"{outcome.cell} failed: {outcome.message}", file=sys.stderr)
    for cell in blocked:
        source = cell.policy_of
        if source is not None:
            again = shlex.join(["posa-vla", "experiment", source.experiment])
            print(f"{cell.name} cannot run before {source.name} is trained: {again}", file=sys.stderr)
    if received:
        print("stopped: the same command continues")
        return exit_status(received)
    return 1 if counts[FAILED] or counts[STOPPED] or blocked else 0
