"""The grid, and hashes that change exactly with what decides a result."""

import dataclasses
from pathlib import Path

import pytest
from experiment_content import CONTENT

from posa_vla.errors import PosaError
from posa_vla.experiments.cells import grid, select
from posa_vla.experiments.spec import parse


def cells(**changes):
    return grid(parse(CONTENT | changes, Path("toy.yaml")))


def test_the_grid_is_variants_times_datasets_times_seeds_with_seeds_outermost():
    datasets = {"few": {"record": {"episodes": 2}}, "many": {}}
    names = [cell.name for cell in cells(datasets=datasets)]
    first = ["full-few-0", "full-many-0", "blind-few-0", "blind-many-0"]
    assert names == [*first, *(name[:-1] + "1" for name in first)]


def test_the_hash_changes_with_every_option_and_with_nothing_else():
    before = cells()[0]
    same = cells(question="Another one?", notes="", seeds=[0, 7], tables=["anchors"])[0]
    assert (same.hash, same.train_hash, same.dataset_key) == (before.hash, before.train_hash, before.dataset_key)
    evaluated = cells(eval=CONTENT["eval"] | {"split": "val"})[0]
    assert evaluated.train_hash == before.train_hash and evaluated.hash != before.hash
    trained = cells(train=CONTENT["train"] | {"steps": 9})[0]
    assert trained.dataset_key == before.dataset_key and trained.train_hash != before.train_hash
    recorded = cells(record={"episodes": 11, "categories": "cube,can"})[0]
    assert len({recorded.dataset_key, before.dataset_key}) == 2 and recorded.train_hash != before.train_hash
    assert dataclasses.replace(before, seed=1).train_hash != before.train_hash


def test_the_evaluation_shows_the_recorded_objects_unless_it_says_otherwise():
    assert cells()[0].eval["categories"] == "cube,can"
    assert cells(eval={"categories": "milk", "conditions": "basic:4"})[0].eval["categories"] == "milk"
    assert "family" not in cells()[0].eval
    assert cells(record=CONTENT["record"] | {"family": "box"})[0].eval["family"] == "box"


def test_numbers_for_tables():
    full, blind = cells()[:2]
    assert (full.steps, full.action_steps, full.episodes, full.demonstrations) == (8, 6, 8, 10)
    assert blind.action_steps == 6
    peer = dataclasses.replace(full, train={"policy.type": "act", "steps": "5"}, eval={"episodes": "3"})
    assert (peer.kind, peer.action_steps, peer.episodes) == (("act", "-", "-"), 5, None)


def test_select_by_variant_and_seed_and_refuse_unknown_names():
    chosen = select(cells(), "blind", None, "[1]")
    assert [cell.name for cell in chosen] == ["blind-tabletop-1"]
    with pytest.raises(PosaError, match="unknown seed '5': choose one of 0, 1"):
        select(cells(), None, None, "5")
    with pytest.raises(PosaError, match="unknown dataset 'x'"):
        select(cells(), None, "x", None)
