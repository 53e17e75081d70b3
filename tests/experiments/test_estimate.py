"""The dry run: states, key numbers, and where an estimate comes from."""

import json

from posa_vla.experiments import estimate, overview
from posa_vla.experiments.cells import grid
from posa_vla.experiments.estimate import duration, measured_rates


def dry_run(project, capsys, **options):
    capsys.readouterr()
    assert project.run(dry_run=True, **options) == 0
    return capsys.readouterr().out


def line(printed, cell):
    return next(row for row in printed.splitlines() if row.startswith(cell)).split()


def test_lists_every_cell_and_runs_nothing(project, capsys):
    printed = dry_run(project, capsys)
    assert project.calls() == []
    assert line(printed, "full-tabletop-0")[1:6] == ["missing", "10", "8", "6", "4"]
    assert line(printed, "blind-tabletop-1")[1:5] == ["missing", "10", "6", "6"]
    assert "Does it matter?" in printed and "A laptop." in printed and "4 cells, 4 to run" in printed
    assert line(printed, "full-tabletop-0")[-1] == "assumed"


def test_only_the_first_cell_pays_for_the_shared_recording(project, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS_PER_DEMONSTRATION", 500.0)
    printed = dry_run(project, capsys, threads=1)
    assert "1 h 24 min" in printed.split("full-tabletop-0")[1].splitlines()[0]
    assert "h" not in line(printed, "full-tabletop-1")[7:]


def test_measured_rates_replace_assumed_ones_where_the_machine_is_the_same(project, capsys):
    assert project.run(only="full", seeds="0", threads=1) == 0
    path = project.output / "toy" / "full-tabletop-0" / "result.json"
    result = json.loads(path.read_text())
    result["seconds"] |= {"train": 800.0, "eval": 400.0}
    path.write_text(json.dumps(result))
    printed = dry_run(project, capsys, threads=1)
    assert line(printed, "full-tabletop-0")[1] == "done"
    assert "20 min    measured in full-tabletop-0" in printed.split("full-tabletop-1")[1]
    assert "17 min    measured in full-tabletop-0" in printed.split("blind-tabletop-1")[1]  # 600 + 400 s
    rates = measured_rates(project.output, grid(project.load()), threads=1)
    assert rates.per_step[0][2] == 100.0 and rates.per_episode[0][2] == 50.0
    assert measured_rates(project.output, grid(project.load()), threads=2).per_step == ()
    path.write_text(json.dumps(result | {"machine": result["machine"] | {"cpu": "another"}}))
    assert "assumed" in dry_run(project, capsys, threads=1)


def test_a_time_limit_bounds_the_estimate(project):
    project.write(train={"max_minutes": 2, "policy.preset": "paper", "steps": 1000})
    cell = grid(project.load())[0]
    assert estimate.estimate(cell, estimate.Rates(), 1, recorded=True).train == 120


def test_a_gpu_has_its_own_guess(project, monkeypatch, capsys):
    cell = grid(project.load())[0]
    seconds = {gpu: estimate.estimate(cell, estimate.Rates(), 1, True, gpu).train for gpu in (False, True)}
    assert seconds == {False: 8 * 4 * 0.006, True: 8 * 0.06}
    monkeypatch.setattr(overview, "has_gpu", lambda: True)
    monkeypatch.setitem(estimate.SECONDS_PER_GPU_STEP, "tiny", 900.0)
    assert "2 h 00 min" in dry_run(project, capsys)


def test_durations_read_well():
    assert [duration(s) for s in (40, 600, 7500)] == ["40 s", "10 min", "2 h 05 min"]
