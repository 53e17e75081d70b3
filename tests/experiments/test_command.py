"""The command line of ``posa-vla experiment``."""

import pytest

from posa_vla.cli import main
from posa_vla.errors import PosaError
from posa_vla.experiments.command import main as experiment


def test_a_bare_switch_and_a_name(project, capsys):
    assert main(["experiment", "toy", "--dry-run", "--only=blind", "--seeds=1"]) == 0
    printed = capsys.readouterr().out
    assert "blind-tabletop-1" in printed and "full-tabletop-0" not in printed and "1 cells, 1 to run" in printed


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "choose one of toy"),
        (["toy", "other"], "expected one experiment"),
        (["toi"], "unknown experiment 'toi'"),
        (["toy", "--only=full,none"], "unknown variant 'none'"),
        (["toy", "--workers=0"], "--workers >= 1"),
        (["toy", "--gpus=0.5"], "with --ray, found 0.5"),
    ],
)
def test_mistakes_are_one_sentence(project, argv, expected):
    with pytest.raises(PosaError, match=expected):
        experiment(argv)
    assert project.calls() == [] and not project.output.exists()


def test_help_lists_the_options(capsys):
    with pytest.raises(SystemExit):
        experiment(["--help"])
    printed = capsys.readouterr().out
    assert "NAME" in printed and "--rerun_stale" in printed
