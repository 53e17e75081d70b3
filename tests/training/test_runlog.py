"""What a resumed run leaves of the numbers that were logged before."""

import sys
from types import SimpleNamespace

from posa_vla.training.runlog import RunLog, read_log


def test_points_of_lost_steps_are_neither_in_the_log_nor_on_the_board(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, logged in ((0, {2: 0.25, 4: 0.5, 6: 0.75, 8: 1.0}), (4, {6: 7.0})):
        log = RunLog(tmp_path, start, tensorboard=True)
        for step, loss in logged.items():
            log.write(step, {"loss": loss})
        log.close()
    expected = [(2, 0.25), (4, 0.5), (6, 7.0)]
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path / "log.jsonl")] == expected
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == expected


def test_a_resumed_run_goes_on_with_its_own_run_at_weights_and_biases(tmp_path, monkeypatch):
    asked = []

    def init(**options):
        asked.append(options)
        return SimpleNamespace(finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for name, start in (("one", 0), ("one", 100), ("one", 0), ("other", 0), ("from a version without ids", 100)):
        RunLog(tmp_path / name, start, wandb="project").close()
    first, resumed, *new = (options["id"] for options in asked)
    assert first == resumed
    assert len({first, *new}) == 4 and all(len(name) == 8 for name in new)
    assert {options["resume"] for options in asked} == {"allow"}
