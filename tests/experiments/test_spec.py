"""Reading experiment files: what they may say, and what every mistake is told."""

from pathlib import Path

import pytest
import yaml
from experiment_content import CONTENT

from posa_vla.errors import PosaError
from posa_vla.experiments.cells import grid
from posa_vla.experiments.spec import find, load, parse


def test_common_options_are_merged_and_written_as_the_command_line_takes_them(tmp_path):
    spec = parse(CONTENT | {"eval": {"expert": False, "conditions": "basic:4"}}, tmp_path / "toy.yaml")
    assert spec.variants["blind"].train == {
        "steps": "6",
        "batch_size": "4",
        "policy.preset": "tiny",
        "policy.anchor_steps": "0",
        "policy.gate": "none",
    }
    assert spec.variants["full"].eval == {"expert": "false", "conditions": "basic:4"}
    assert spec.datasets["tabletop"].record == {"episodes": "10", "categories": "cube,can"}
    assert spec.name == "toy" and spec.seeds == (0, 1)


def test_datasets_add_to_the_common_recording(tmp_path):
    datasets = {"few": {"record": {"episodes": 2}}, "many": {}}
    spec = parse(CONTENT | {"datasets": datasets, "variants": {"full": {"datasets": ["many"]}}}, tmp_path / "toy.yaml")
    assert [spec.datasets[name].record["episodes"] for name in ("few", "many")] == ["2", "10"]
    assert spec.variants["full"].datasets == ("many",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"variant": {}}, "unknown key in toy.yaml: 'variant': choose one of datasets, eval, label"),
        ({"variants": {"full": {"trian": {}}}}, "unknown key in toy.yaml: variant full: 'trian'"),
        ({"variants": {"full": {"datasets": ["x"]}}}, "'x': choose one of tabletop"),
        ({"variants": {"a-b": {}}, "reference": "a-b"}, "letters, digits and underscores"),
        ({"reference": "best"}, "'best': choose one of blind, full"),
        ({"train": {"seed": 3}}, "--seed of posa-vla train is set by the runner"),
        ({"train": {"steps": [1, 2]}}, "write lists as the command line takes them"),
        ({"train": {"steps": None}}, "found None"),
        ({"seeds": [0, 0]}, "different integers"),
        ({"seeds": "0"}, "different integers"),
        ({"tables": ["sucess"]}, "choose one of anchors, attention, efficiency, look, space, success"),
        ({"question": 3}, "expected a text as question"),
        ({"variants": {"full": {"policy": "full"}}}, "add policies_from"),
        ({"variants": {}}, "at least one variant"),
        ({"variants": {"full": {"against": "best"}}}, "'best': choose one of full"),
        ({"train": {"resident": True}}, "--resident of posa-vla train is set by the runner"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_valid_names(change, expected):
    with pytest.raises(PosaError) as caught:
        parse(CONTENT | change, Path("toy.yaml"))
    assert expected in str(caught.value)


def test_a_missing_part_is_named(tmp_path):
    content = {key: value for key, value in CONTENT.items() if key not in ("seeds", "label")}
    with pytest.raises(PosaError, match="label, seeds missing"):
        parse(content, tmp_path / "toy.yaml")


def test_policies_of_another_experiment(tmp_path):
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(CONTENT))
    content = {
        "question": "How fast?",
        "policies_from": "toy",
        "reference": "often",
        "seeds": [1],
        "variants": {"often": {"policy": "full", "eval": {"n_action_steps": 1}}, "blind": {}},
    }
    spec = parse(content, tmp_path / "speed.yaml")
    assert spec.variants["often"].policy == "full" and spec.variants["blind"].policy == "blind"
    assert spec.variants["often"].train["steps"] == "8"
    for change, expected in (
        ({"seeds": [2]}, "among those of toy"),
        ({"train": {}}, "nothing is recorded or trained, found train"),
        ({"variants": {"often": {"policy": "fast"}}}, "choose one of blind, full"),
        ({"variants": {"often": {"policy": "full", "train": {}}}}, "remove `train`"),
    ):
        with pytest.raises(PosaError, match=expected):
            parse(content | change, tmp_path / "speed.yaml")


def test_names_are_looked_up_and_files_read(tmp_path):
    with pytest.raises(PosaError, match="found no experiment"):
        find("toy", tmp_path)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(CONTENT))
    assert find("toy", tmp_path) == tmp_path / "toy.yaml"
    with pytest.raises(PosaError, match="unknown experiment 'toi': choose one of toy"):
        find("toi", tmp_path)
    with pytest.raises(PosaError, match="cannot read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("question: [")
    with pytest.raises(PosaError, match="is not YAML"):
        load(tmp_path / "bad.yaml")


def test_the_shipped_experiments_share_their_trainings():
    folder = Path(__file__).parents[2] / "experiments"
    shipped = {path.stem: {c.name: c for c in grid(load(path))} for path in sorted(folder.glob("*.yaml"))}
    for variant in ("full", "no_anchor_loss"):
        name = f"{variant}-tabletop-0"
        assert shipped["components"][name].train_hash == shipped["conditions"][name].train_hash
    chosen, trial = "multi_task_dit_time-tabletop-0", "multi_task_dit_1e3-tabletop-0"
    assert shipped["conditions"][chosen].train_hash == shipped["tuning"][trial].train_hash
