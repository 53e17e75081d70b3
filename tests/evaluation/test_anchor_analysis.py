"""Error against success, and the analysis command from results to files."""

import json
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from analysis_fakes import NAMES, episode

from posa_vla.cli import main
from posa_vla.errors import PosaError
from posa_vla.evaluation import anchor_analysis, command
from posa_vla.evaluation.anchor_analysis import AT_TARGET, ELSEWHERE, LIFTED_OTHER, analyse, odds_ratio, relate
from posa_vla.evaluation.intervals import wilson
from posa_vla.evaluation.records import ERROR, FAILURE, EpisodeRecord, to_json

CUBE, SAME_COLOUR, _, LEMON = NAMES


def records() -> list[EpisodeRecord]:
    """Eight successes with small errors; failures of every kind, one of them an error."""
    good = [episode([CUBE] * 6, seed, error=0.01 + 0.001 * seed, grasped=4) for seed in range(8)]
    bad = [
        episode([CUBE] * 6, 8, FAILURE, target_distance=0.02, target_rise=0.0),
        episode([CUBE] * 6, 9, FAILURE, target_distance=0.3),
        episode([SAME_COLOUR] * 6, 10, FAILURE, wrong_object=SAME_COLOUR),
        episode([SAME_COLOUR] * 6, 11, FAILURE, target_distance=0.3),
        episode([CUBE, LEMON] * 3, 12, FAILURE, target_distance=0.02),
        episode([None] * 6, 13, FAILURE, target_distance=0.3),
        EpisodeRecord("basic", 14, ERROR, message="x"),
    ]
    return good + bad


def test_groups_are_of_equal_size_in_order_of_error():
    errors = np.array([0.4, 0.1, np.nan, 0.2, 0.3])
    found = relate(errors, np.array([False, True, True, True, False]), bins=2)
    assert found["episodes"] == 4
    assert [group["median"] for group in found["groups"]] == pytest.approx([0.15, 0.35])
    low, high = wilson(2, 2)
    assert found["groups"][0]["success"] == {"count": 2, "rate": 1.0, "low": low, "high": high}
    assert found["groups"][1]["success"]["count"] == 0


def test_a_dependence_is_found_and_independence_is_not():
    rng = np.random.default_rng(0)
    errors = rng.uniform(0, 0.2, 300)
    dependent = relate(errors, rng.random(300) < 1 - errors / 0.2)
    assert dependent["rank_correlation"]["high"] < -0.3
    assert dependent["odds_ratio"]["high"] < 1
    free = relate(errors, rng.random(300) < 0.5)
    assert free["rank_correlation"]["low"] < 0 < free["rank_correlation"]["high"]
    assert free["odds_ratio"]["low"] < 1 < free["odds_ratio"]["high"]


def test_the_odds_ratio_recovers_the_slope_that_made_the_data():
    rng = np.random.default_rng(1)
    errors = rng.uniform(0, 0.2, 20_000)
    success = rng.random(20_000) < 1 / (1 + np.exp(-(2 - 30 * errors)))
    found = odds_ratio(errors, success.astype(float))
    assert found["value"] == pytest.approx(np.exp(-0.3), rel=0.02)
    assert found["low"] < np.exp(-0.3) < found["high"]


def test_the_odds_ratio_stays_finite_under_perfect_separation_and_needs_both_outcomes():
    errors = np.linspace(0, 0.2, 20)
    found = odds_ratio(errors, (errors < 0.1).astype(float))
    assert 0 < found["value"] < 1
    assert np.isfinite(list(found.values())).all()
    assert odds_ratio(errors, np.ones(20)) is None
    assert odds_ratio(np.full(20, 0.1), (errors < 0.1).astype(float)) is None


def test_every_failure_stands_under_what_its_attention_did():
    found = analyse(records())
    rows = {row["attention"]: row for row in found["attention"]}
    assert sum(row["episodes"] for row in rows.values()) == 14
    assert rows["on the target"]["success"]["count"] == 8
    assert rows["on the target"]["failures"] == {AT_TARGET: 1, LIFTED_OTHER: 0, ELSEWHERE: 1}
    assert rows["on another object, same colour"]["failures"] == {AT_TARGET: 0, LIFTED_OTHER: 1, ELSEWHERE: 1}
    assert rows["jumping between objects"]["failures"][AT_TARGET] == 1
    assert {row["what"]: row["share"]["count"] for row in found["failures"] if row["share"]["count"]} == {
        "on another object, same colour": 2,
        "on the target until the grasp, which failed": 1,
        "on the target all along, the hand was not": 1,
        "jumping between objects": 1,
        "nowhere": 1,
    }
    head = {row["frames"]: row for row in found["relations"]}
    assert head["until the grasp"]["groups"][0]["success"]["rate"] == 1.0
    assert head["until the grasp"]["rank_correlation"]["value"] < -0.5
    assert found["episodes"][10]["object"] == SAME_COLOUR


def test_what_was_lifted_instead_is_told_by_what_it_shares_with_the_target():
    more = [episode([LEMON] * 6, seed, FAILURE, wrong_object=LEMON) for seed in (15, 16)]
    found = {row["what"]: row["share"] for row in analyse(records() + more)["lifted_instead"]}
    assert {what: share["count"] for what, share in found.items()} == {
        "same category": 0,
        "same colour": 1,
        "neither": 2,
    }
    assert found["neither"]["rate"] == pytest.approx(2 / 3)
    nothing = analyse(records()[:10])["lifted_instead"]
    assert [row["share"]["rate"] for row in nothing] == [None] * 3


def test_what_cannot_be_analysed_is_said():
    with pytest.raises(PosaError, match="--attention_every"):
        analyse([EpisodeRecord("basic", 0, FAILURE), EpisodeRecord("basic", 1, ERROR, message="x")])


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    results = {"policy_name": "run/004000", "split": "val", "records": [to_json(r) for r in records()]}
    (folder / command.RESULTS).write_text(json.dumps(results))
    return folder


def test_the_command_writes_a_table_and_a_picture(report, tmp_path, capsys):
    arguments = ["analyse", f"--report={report}", f"--output={tmp_path / 'out'}"]
    assert main(arguments) == 0
    text = (tmp_path / "out" / "analysis.md").read_text()
    assert text in capsys.readouterr().out
    assert "run/004000 on basic, split val: 8 successes" in text
    assert "| on another object, same colour | 2 |" in text
    assert "| same colour | 1 | 100 %" in text
    analysis = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert analysis["success"]["count"] == 8
    picture = (tmp_path / "out" / "anchors.svg").read_bytes()
    words = {node.text for node in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")}
    assert {"failed episodes", "nowhere", "head, until the grasp"} <= words
    assert main(arguments) == 0
    assert (tmp_path / "out" / "anchors.svg").read_bytes() == picture


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--report=nowhere"], "found no results.json"),
        (["--condition=lights"], "unknown condition of this evaluation 'lights'"),
        (["--bins=1"], "--bins of at least 2"),
    ],
)
def test_bad_input_writes_nothing(report, tmp_path, capsys, flags, sentence):
    given = [f"--report={report}", f"--output={tmp_path / 'out'}"]
    given = [flag for flag in given if flag.split("=")[0] != flags[0].split("=")[0]]
    assert main(["analyse", *given, *flags]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_the_extra_is_named_and_nothing_written(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PosaError, match=r"lerobot_policy_posa_vla\[plot\]"):
        anchor_analysis.main([f"--report={report}", f"--output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_an_evaluation_of_the_command_can_be_analysed(evaluation):
    found = analyse(list(map(anchor_analysis.from_json, evaluation.results["records"])))
    assert found["view"] == "head"
    assert {row["view"] for row in found["relations"]} == {"head", "wrist"}
    assert sum(row["episodes"] for row in found["attention"]) == 11
