"""An experiment in a folder of its own, run by the fake command."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from experiment_content import CONTENT
from experiment_records import results

from posa_vla.experiments import processes, running
from posa_vla.experiments.cells import grid
from posa_vla.experiments.command import ExperimentConfig, run
from posa_vla.experiments.spec import load
from posa_vla.experiments.store import CellFolder

PROGRAM = (sys.executable, "-I", "-S", str(Path(__file__).parent / "fake_posa_vla.py"))


class Project:
    """A project root with experiments/, docs/ and outputs/."""

    def __init__(self, root: Path) -> None:
        self.root, self.output, self.calls_file = root, root / "outputs", root / "calls.txt"
        (root / "experiments").mkdir()
        (root / "docs").mkdir()
        self.name = "toy"

    def write(self, name: str = "toy", **changes) -> None:
        content = {key: value for key, value in (CONTENT | changes).items() if value is not None}
        (self.root / "experiments" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def load(self, name: str | None = None):
        return load(self.root / "experiments" / f"{name or self.name}.yaml")

    def run(self, name: str | None = None, **options) -> int:
        config = ExperimentConfig(output=self.output, **options)
        return run(self.load(name), config, program=PROGRAM)

    def calls(self) -> list[str]:
        """Commands run so far, by name."""
        return (
            [line.split()[0] for line in self.calls_file.read_text().splitlines()] if self.calls_file.exists() else []
        )

    def folder(self, cell: str, name: str | None = None) -> CellFolder:
        return next(CellFolder(c, self.output) for c in grid(self.load(name)) if c.name == cell)


@pytest.fixture(scope="session")
def fake_results(tmp_path_factory):
    """Evaluations that solve the first 1 or 3 of four scenes."""
    folder = tmp_path_factory.mktemp("results")
    for solved in (1, 3):
        (folder / f"{solved}.json").write_text(json.dumps(results(solved)))
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, fake_results):
    made = Project(tmp_path)
    monkeypatch.setenv("FAKE_CALLS", str(made.calls_file))
    monkeypatch.setenv("FAKE_RESULTS", str(fake_results))
    monkeypatch.setattr(running, "git_revision", lambda: "abc123")
    monkeypatch.setattr(processes, "POLL", 0.05)
    monkeypatch.chdir(tmp_path)
    made.write()
    return made
