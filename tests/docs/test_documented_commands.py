"""Every command line in the documentation is one that the programs take; nothing is run."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import draccus
import lerobot.cameras.opencv  # registers its cameras
import lerobot.robots.so_follower  # noqa: F401  # and robots
import pytest
from documented import PAGES, ROOT, command_lines, mentioned_commands, mentioned_options
from lerobot.configs import parser
from lerobot.configs.train import TrainPipelineConfig
from lerobot.rollout import RolloutConfig

import lerobot_policy_posa_vla  # noqa: F401
from posa_vla.benchmarks import BENCHMARKS
from posa_vla.calibration.command import WAYS
from posa_vla.cli import COMMANDS, main
from posa_vla.training import trainer

ROLLOUT = {
    "dataset.fps",
    "device",
    "duration",
    "fps",
    "inference.type",
    "robot.max_relative_target",
    "strategy.type",
    "task",
}
FOREIGN = ROLLOUT | {"env.type", "env.family"}
"""Options of LeRobot's commands that stand alone in the text."""


class Parsed(Exception):
    """The options were understood; the command ends here."""


@pytest.fixture
def parsing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """`posa_vla.cli.main` raises Parsed where a command has read its options."""
    real = draccus.parse

    def stop(*args: object, **kwargs: object) -> None:
        raise Parsed

    def parse_and_stop(*args: object, **kwargs: object) -> None:
        real(*args, **kwargs)
        raise Parsed

    def parse_train(argv: list[str]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(draccus, "parse", real)
            train_main(argv)

    train_main = trainer.main
    monkeypatch.setattr(trainer, "start", stop)
    monkeypatch.setattr(trainer, "main", parse_train)
    monkeypatch.setattr(draccus, "parse", parse_and_stop)


def accepted(words: list[str], capsys: pytest.CaptureFixture) -> str:
    """Empty, or what the program says against its options."""
    try:
        status = main(words)
    except Parsed:
        return ""
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    return "" if status == 0 else captured.err or captured.out or f"status {status}"


REQUIRED = {"record": ["--output=x"], "train": ["--dataset.root=x", "--output_dir=x"]}
"""What running text leaves out."""


def lines_of(program: str) -> Iterator[tuple[Path, list[str]]]:
    for page in PAGES:
        text = page.read_text()
        for words in command_lines(text, program):
            yield page, words
        for words in mentioned_commands(text, program):
            yield page, [*words, *REQUIRED.get(words[0], [])]


def test_posa_vla(parsing_only, capsys):
    lines = list(lines_of("posa-vla"))
    assert len(lines) > 60  # the pages' commands were found
    refused = {f"{page.name}: posa-vla {' '.join(words)}": accepted(words, capsys) for page, words in lines}
    assert "".join(f"{line}\n  {said}\n" for line, said in refused.items() if said) == ""


@pytest.mark.parametrize(
    "words",
    [
        ["record", "--output=x", "--episode=3"],
        ["train", "--dataset.root=x", "--output_dir=y", "--policy.gates=none"],
        ["train", "--dataset.root=x", "--output_dir=y", "--policy.gate=non"],
        ["calibrate", "demos", "--marks=x", "--no.such=1"],
        ["bench", "simulator", "--episodes=1"],
        ["experiment", "components", "--dry_runs=true"],
        ["eval", "--policy.path=reference", "--output=x", "--episodes=many"],
    ],
)
def test_a_wrong_option_would_be_noticed(words, parsing_only, capsys):
    assert accepted(words, capsys)


def test_experiments_have_files():
    named = {words[1] for _, words in lines_of("posa-vla") if words[0] == "experiment"}
    assert named and all((ROOT / "experiments" / f"{name}.yaml").exists() for name in named if name.islower())


def test_options_in_the_text_belong_to_some_command(capsys):
    commands = [[name] for name in COMMANDS if name not in ("calibrate", "bench", "train")]
    for words in (*commands, *(["calibrate", way] for way in WAYS), *(["bench", name] for name in BENCHMARKS)):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
    main(["train", "--help"])
    known = set(re.findall(r"--([\w.]+)", capsys.readouterr().out))
    known |= {f"policy.{name}" for name in known} | FOREIGN
    unknown = {page.name: mentioned_options(page.read_text()) - known for page in PAGES}
    assert not {name: options for name, options in unknown.items() if options}


@pytest.mark.parametrize("config_class", [TrainPipelineConfig, RolloutConfig])
def test_lerobot(config_class, monkeypatch):
    program = {TrainPipelineConfig: "lerobot-train", RolloutConfig: "lerobot-rollout"}[config_class]

    @parser.wrap()
    def read(cfg: config_class) -> object:
        return cfg

    lines = [words for page in PAGES for words in command_lines(page.read_text(), program)]
    assert lines
    for words in lines:
        monkeypatch.setattr(sys, "argv", [program, *words])
        assert read().policy.type == "posa_vla"
