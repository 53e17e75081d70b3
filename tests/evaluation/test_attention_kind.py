"""One word per episode for what the attention did, on tracks whose course is written by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from analysis_fakes import NAMES, episode
from evaluation_fakes import FakeObject, look_down

from posa_vla.errors import PosaError
from posa_vla.evaluation import attention_kind as kinds
from posa_vla.evaluation.anchor_error import AnchorTrack
from posa_vla.evaluation.attention_kind import attention_kind, looked_at, relation, task_errors, until_grasp

CUBE, SAME_COLOUR, SAME_CATEGORY, LEMON = NAMES


@pytest.mark.parametrize(
    ("course", "kind", "of"),
    [
        ([CUBE] * 8, kinds.ON_TARGET, None),
        ([CUBE] * 8 + [None] * 4, kinds.ON_TARGET, None),
        ([CUBE] * 8 + [LEMON] * 2, kinds.ON_TARGET, None),
        ([LEMON] * 5, kinds.ON_OTHER, kinds.NEITHER),
        ([SAME_COLOUR] * 5, kinds.ON_OTHER, kinds.SAME_COLOUR),
        ([SAME_CATEGORY] * 4 + [None], kinds.ON_OTHER, kinds.SAME_CATEGORY),
        ([CUBE, LEMON] * 4, kinds.JUMPING, None),
        ([CUBE] * 3 + [LEMON] * 2, kinds.JUMPING, None),
        ([CUBE] * 2 + [None] * 3, kinds.NOWHERE, None),
        ([None] * 3, kinds.NOWHERE, None),
    ],
)
def test_a_course_has_its_kind(course, kind, of):
    found = attention_kind(episode(course))
    assert (found.kind, found.relation) == (kind, of)
    assert found.object == (course[0] if of else None)


def test_a_flat_map_looks_nowhere_wherever_its_point_lies():
    record = episode([CUBE] * 5, contrast=0.1)
    assert looked_at(record.anchors, 0, CUBE) == [None] * 5
    assert attention_kind(record).kind == kinds.NOWHERE


def test_the_lid_counts_as_the_target_while_it_comes_next():
    record = episode([None, None, CUBE, LEMON])
    lid, cube = [0.5, 0.05], [0.2, 0.5]
    record.anchors["true"] = [[[place, [0.5, 0.5]]] for place in (lid, cube, cube, cube)]
    assert looked_at(record.anchors, 0, CUBE) == [CUBE, None, CUBE, LEMON]


def test_only_what_comes_before_the_grasp_counts():
    record = episode([CUBE, CUBE, LEMON, LEMON, LEMON], grasped=2)
    assert until_grasp(record.anchors).tolist() == [True, True, False, False, False]
    assert attention_kind(record).kind == kinds.ON_TARGET
    assert task_errors(record.anchors, 0) == pytest.approx([0.02, 0.02])


def test_a_target_out_of_the_picture_is_not_grasped():
    """From a real track: the point lies in one view and outside the other, then it is over."""
    track = AnchorTrack(("head", "wrist"), {"head": (100, 100), "wrist": (100, 100)})
    cameras = {"head": look_down(1, 100), "wrist": look_down(0.1, 100)}  # the wrist sees 5 cm around the origin
    target = np.array([0.2, 0, 0])
    scene = SimpleNamespace(objects=[FakeObject(CUBE, target)], ee_pose=np.array([0, 0, 0, 1.0]), cameras=cameras)
    view = np.zeros((2, 2, 4, 4)), np.full((2, 2, 2), 0.5)
    for step, interaction in enumerate((target, target, None)):
        track.add(step, view, scene, interaction)
    assert until_grasp(track.to_json()).tolist() == [True, True, False]
    assert np.isnan(task_errors(track.to_json(), 1)).all()
    assert task_errors(track.to_json(), 0) == pytest.approx([0.2, 0.2])


def test_relations_of_names():
    assert relation("red can", "red bread") == kinds.SAME_COLOUR
    assert relation("blue can", "red can") == kinds.SAME_CATEGORY
    assert relation("blue can", "red bread") == kinds.NEITHER


def test_records_of_an_older_version_are_named():
    record = episode([CUBE])
    for name in ("objects", "object_uv", "contrast", "ahead"):
        del record.anchors[name]
    with pytest.raises(PosaError, match="older version wrote"):
        attention_kind(record)
