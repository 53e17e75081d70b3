"""Run one cell from wherever it stands to its result."""

import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posa_vla.data.files import write_json
from posa_vla.data.manifest import read_manifest
from posa_vla.errors import PosaError
from posa_vla.evaluation.provenance import git_revision
from posa_vla.experiments.cells import Cell
from posa_vla.experiments.commands import Stage, cell_stages, dataset_stages, recording_stage
from posa_vla.experiments.processes import POLL, Stopped, run_logged, tail, thread_environment
from posa_vla.experiments.results import make_result
from posa_vla.experiments.store import (
    DATASET_FILE,
    DONE,
    FAILED,
    FAILED_FILE,
    RESULT,
    STAGES,
    CellFolder,
    read_json,
    try_lock,
)

PROGRAM = (sys.executable, "-m", "posa_vla.cli")
STOPPED, BUSY = "stopped", "busy"


@dataclass(frozen=True)
class Work:
    """All that another thread or machine needs to run a cell.

    Args:
        cell: what to run.
        output: root of all experiments' folders.
        threads: of training; also the worker processes of recording and evaluation.
        session: the same for all cells of one start of the runner: a dataset that failed is not tried again in it.
        program: how to call posa-vla.
        resident: keep the frames in the training device's memory.
        gpus: share of a GPU that Ray sets aside for it.
    """

    cell: Cell
    output: Path
    threads: int
    session: str
    program: tuple[str, ...] = PROGRAM
    resident: bool = False
    gpus: float = 0.0

    @property
    def folder(self) -> CellFolder:
        return CellFolder(self.cell, self.output)


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: `DONE`, `FAILED`, `STOPPED`, or `BUSY` where another process runs it."""

    cell: str
    status: str
    message: str = ""


class StageFailed(Exception):
    """A command ended with a status other than 0."""

    def __init__(self, stage: str, command: str, status: int, lines: list[str]) -> None:
        super().__init__(f"{stage} ended with status {status}: {lines[-1] if lines else 'it said nothing'}")
        self.facts = {"stage": stage, "status": status, "command": command, "log": lines}


def run_cell(work: Work, stopped: Callable[[], bool], say: Callable[[str], None] = print) -> Outcome:
    """Prepare the dataset, train, evaluate, write the result; what is finished already is not repeated."""
    folder, name = work.folder, work.cell.name
    with try_lock(folder.path) as lock:
        if lock is None:
            return Outcome(name, BUSY)
        if folder.state() == DONE:
            return Outcome(name, DONE, "finished by another process")
        folder.begin()
        try:
            prepare_dataset(work, stopped, say)
            if source := folder.adopt_training():
                say(f"{name}: trained already, as {source}")
            for stage in cell_stages(folder, work.threads, work.resident):
                _run_stage(work, stage, folder.path, lock, stopped, say)
            result = make_result(folder, work.threads)
        except Stopped:
            return Outcome(name, STOPPED)
        except StageFailed as failure:
            return _failed(folder, failure.facts, str(failure))
        except (PosaError, OSError) as error:
            return _failed(folder, {"stage": "result", "status": None, "command": "", "log": [str(error)]}, str(error))
        write_json(folder.path / RESULT, result)
    return Outcome(name, DONE, _headline(result))


def _failed(folder: CellFolder, facts: dict[str, Any], message: str) -> Outcome:
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    write_json(folder.path / FAILED_FILE, {**facts, "when": now, "git": git_revision()})
    return Outcome(folder.cell.name, FAILED, message)


def _headline(result: dict[str, Any]) -> str:
    rates = [(row["condition"], row["success"]["rate"]) for row in result["conditions"]]
    return ", ".join(f"{name} {'-' if rate is None else f'{100 * rate:.1f} %'}" for name, rate in rates)


def prepare_dataset(work: Work, stopped: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Record, label and cache, unless a cell before has."""
    folder = work.folder
    _prepare(work, folder.recording, [recording_stage(folder, work.threads)], stopped, say)
    _prepare(work, folder.dataset, dataset_stages(folder), stopped, say)
    if not (folder.dataset / DATASET_FILE).exists():
        data = work.cell.dataset
        fingerprint = read_manifest(folder.dataset / "cache")["fingerprint"]
        facts = {"record": data.record, "label": data.label, "fingerprint": fingerprint}
        write_json(folder.dataset / DATASET_FILE, facts)


def _prepare(
    work: Work, root: Path, stages: list[Stage], stopped: Callable[[], bool], say: Callable[[str], None]
) -> None:
    """Run what the folder lacks; waits while another process does it."""
    while not stopped():
        with try_lock(root) as lock:
            if lock is not None:
                _prepare_alone(work, root, stages, lock, stopped, say)
                return
        time.sleep(POLL)
    raise Stopped


def _prepare_alone(
    work: Work, root: Path, stages: list[Stage], lock: int, stopped: Callable[[], bool], say: Callable[[str], None]
) -> None:
    failure = read_json(root / FAILED_FILE) or {}
    if failure.get("session") == work.session:
        raise StageFailed(*(failure[key] for key in ("stage", "command", "status", "log")))
    (root / FAILED_FILE).unlink(missing_ok=True)
    for leftover in root.glob(".*.partial"):  # of a labelling that was killed
        shutil.rmtree(leftover)
    try:
        for stage in stages:
            if not stage.output.exists():
                _run_stage(work, stage, root, lock, stopped, say)
    except StageFailed as error:
        write_json(root / FAILED_FILE, {**error.facts, "session": work.session})
        raise


def _run_stage(
    work: Work, stage: Stage, home: Path, lock: int, stopped: Callable[[], bool], say: Callable[[str], None]
) -> None:
    """Run a command that is not done yet; its time and revision go to HOME/stages.json, however it ends."""
    stages = read_json(home / STAGES) or {}
    entry = stages.setdefault(stage.name, {"seconds": 0.0, "attempts": 0, "git": [], "done": False})
    if entry["done"] and stage.output.exists():
        return
    say(f"{work.cell.name}: {stage.name}")
    entry["attempts"] += 1
    entry["git"] = list(dict.fromkeys([*entry["git"], git_revision()]))
    entry["command"] = shlex.join(("posa-vla", *stage.words))
    log, began = home / f"{stage.name}.log", time.monotonic()
    try:
        status = run_logged(
            [*work.program, *stage.words], log, thread_environment(work.threads), stopped, keep_open=[lock]
        )
        entry["done"] = status == 0
    finally:
        entry["seconds"] = round(entry["seconds"] + time.monotonic() - began, 1)
        write_json(home / STAGES, stages)
    if status:
        raise StageFailed(stage.name, entry["command"], status, tail(log))
