"""Cells as Ray tasks, with a stand-in for Ray that runs them one after the other in this process."""

import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest

from posa_vla.errors import PosaError
from posa_vla.experiments import ray_tasks
from posa_vla.experiments.cells import grid
from posa_vla.experiments.running import Work
from posa_vla.experiments.store import DONE


@dataclass(eq=False)
class Task:
    function: Any
    arguments: tuple
    name: str


class FakeRay(types.ModuleType):
    """The few calls that are used; a task runs when it is waited for, unless it was cancelled."""

    def __init__(self, lose: str = "") -> None:
        super().__init__("ray")
        self.lose, self.calls, self.cancelled, self.options_seen = lose, [], set(), []
        self.exceptions = types.SimpleNamespace(RayError=type("RayError", (Exception,), {}))

    def init(self, address, log_to_driver):
        if address != "auto":
            raise ConnectionError("refused")
        self.calls.append("init")

    def shutdown(self):
        self.calls.append("shutdown")

    def remote(self, function):
        def options(**given):
            self.options_seen.append(given)
            return types.SimpleNamespace(remote=lambda *args: Task(function, args, given["name"]))

        return types.SimpleNamespace(options=options)

    def wait(self, tasks, num_returns, timeout):
        return tasks[:1], tasks[1:]

    def get(self, task):
        if task.name in self.cancelled or task.name == self.lose:
            raise self.exceptions.RayError("the node died")
        return task.function(*task.arguments)

    def cancel(self, task):
        self.cancelled.add(task.name)


def test_every_cell_is_a_task_with_its_threads(project, monkeypatch):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert project.run(ray="auto", threads=2, gpus=0.25) == 0
    assert all(project.folder(name).state() == DONE for name in ("full-tabletop-0", "blind-tabletop-1"))
    assert len(ray.options_seen) == 4 and all(given["num_cpus"] == 2 for given in ray.options_seen)
    assert all(given["num_gpus"] == 0.25 for given in ray.options_seen)
    assert ray.calls == ["init", "shutdown"]


def test_a_lost_machine_fails_its_cell_only(project, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(lose="full-tabletop-1"))
    assert project.run(ray="auto") == 1
    assert "full-tabletop-1 failed: the Ray task was lost: the node died" in capsys.readouterr().err
    assert project.folder("blind-tabletop-1").state() == DONE


def test_a_stop_cancels_what_is_left(project, monkeypatch):
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    works = [Work(cell, project.output, 1, "s", (sys.executable, "-c", "")) for cell in grid(project.load())]
    outcomes = ray_tasks.run_all(works, "auto", stopped=lambda: True)
    assert [outcome.status for outcome in outcomes].count("stopped") == 3
    assert len(ray.cancelled) == 3


def test_ray_is_an_extra_and_its_cluster_must_be_there(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PosaError, match=r"\[ray\]"):
        project.run(ray="auto")
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    with pytest.raises(PosaError, match="no Ray cluster at nowhere"):
        project.run(ray="nowhere")
