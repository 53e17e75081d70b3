"""Visibilities from a column of the dataset: which camera's, which anchors', and what is refused."""

import numpy as np
import pytest
from label_toy import rig

from posa_vla.data.label_visibility import check_visibility, with_visibility
from posa_vla.errors import PosaError

SEEN = (0.5, 0.5, 1.0, 1.0)


def anchors(*task: tuple[float, ...]) -> np.ndarray:
    """(N, 2, 2, 4): these task anchors in both cameras, end anchors in view."""
    made = np.tile(np.array(SEEN, dtype=np.float32), (len(task), 2, 2, 1))
    made[:, :, 0] = np.array(task)[:, None]
    return made


def test_the_share_goes_to_the_task_anchor_of_its_camera_alone():
    before = anchors(SEEN)
    after = with_visibility(before, np.array([[0.25, 0.75]]), "visibility")
    assert after[0, :, 0, 3].tolist() == [0.25, 0.75]
    assert after[0, :, 1, 3].tolist() == [1, 1] and np.array_equal(after[..., :3], before[..., :3])
    assert before[0, 0, 0, 3] == 1


def test_unknown_anchors_unknown_shares_and_anchors_out_of_the_picture_stay():
    unknown, outside, behind = (0, 0, 0, -1), (1.5, 0.5, 1, 1), (-1, -1, -0.2, 1)
    after = with_visibility(anchors(unknown, outside, behind, SEEN), np.array([[0.0, 0]] * 3 + [[-1, -1]]), "v")
    assert after[:, 0, 0, 3].tolist() == [-1, 1, 1, 1]


@pytest.mark.parametrize("share", [1.5, -0.5, np.nan])
def test_numbers_that_are_no_shares_are_refused(share):
    with pytest.raises(PosaError, match=r"v should hold shares in \[0, 1\], or -1"):
        with_visibility(anchors(SEEN), np.array([[share, 1]]), "v")


def test_the_columns_order_follows_its_names():
    features = {"v": {"dtype": "float32", "shape": (3,), "names": ["wrist", "front", "head"]}}
    assert check_visibility(features, "v", rig()) == [2, 0]
    features["v"]["names"] = {"cameras": features["v"]["names"]}
    assert check_visibility(features, "v", rig()) == [2, 0]
    with pytest.raises(PosaError, match="no column 'seen' of visibilities, its columns are v"):
        check_visibility(features, "seen", rig())
    with pytest.raises(PosaError, match="expected the names of 'v' to be cameras, head, wrist among them, found none"):
        check_visibility({"v": {"dtype": "float32", "names": None}}, "v", rig())
