"""Anchor errors in space: by each view, by all together, and what has none."""

from types import SimpleNamespace

import numpy as np
import pytest
from evaluation_fakes import FakeObject, look_down

from posa_vla.evaluation.anchor_error import AnchorTrack, summarise_anchors
from posa_vla.evaluation.privileged import true_anchors
from posa_vla.evaluation.space_error import ALL, Space, summarise_space

CAMERAS = ("head", "wrist")
SIZES = {"head": (100, 100), "wrist": (100, 100)}
FLAT = np.full((2, 2, 4, 4), 0.25)


def truth(target, hand):
    cameras = {"head": look_down(1, 100), "wrist": look_down(0.6, 100)}
    return SimpleNamespace(
        objects=[FakeObject("target", np.array(target))],
        target="target",
        ee_pose=np.array([*hand, 0, 1, 0, 0, 0]),
        cameras=cameras,
    )


def told(scene, interaction, depth_factor=1.0, points=None):
    """A view and a space with the true pixels, depths off by a factor."""
    anchors = true_anchors(scene, interaction, CAMERAS, SIZES)
    return (FLAT, anchors[..., :2]), Space(anchors[..., 2] * depth_factor, points)


def test_true_pixels_and_depths_have_no_error_and_a_tenth_of_the_depth_is_a_tenth_of_the_distance():
    target, hand = np.array([0.1, 0.05, 0.0]), np.array([0.0, -0.1, 0.2])
    scene = truth(target, hand)
    track = AnchorTrack(CAMERAS, SIZES)
    view, space = told(scene, target)
    track.add(0, view, scene, target, space)
    view, space = told(scene, target, depth_factor=1.1, points=np.array([target + np.array([0, 0, 0.03]), hand]))
    track.add(10, view, scene, target, space)
    errors = np.array(track.to_json()["space"], float)  # (samples, C + 1, 2)
    assert errors[0, :2] == pytest.approx(0, abs=1e-3) and np.isnan(errors[0, 2]).all()
    for index, height in enumerate((1.0, 0.6)):
        centre = np.array([0, 0, height])
        expected = [0.1 * np.linalg.norm(point - centre) for point in (target, hand)]
        assert errors[1, index] == pytest.approx(expected, abs=1e-3)
    assert errors[1, 2] == pytest.approx([0.03, 0], abs=1e-4)


def test_what_a_view_cannot_see_has_no_error_there():
    target, hand = np.array([0.4, 0.0, 0.0]), np.array([0.0, 0.0, 0.2])  # the wrist's picture reaches to 0.3 m
    scene = truth(target, hand)
    track = AnchorTrack(CAMERAS, SIZES)
    view, space = told(scene, target, points=np.array([target, hand]))
    track.add(0, view, scene, target, space)
    track.add(10, view, scene, None, space)
    errors = np.array(track.to_json()["space"], float)
    assert np.isnan(errors[0]).tolist() == [[False, False], [True, False], [False, False]]
    assert np.isnan(errors[1]).tolist() == [[True, False], [True, False], [True, False]]


def test_the_summary_is_in_centimetres_and_absent_where_nobody_tells_depths():
    target = np.array([0.1, 0.0, 0.0])
    scene = truth(target, np.array([0.0, 0.0, 0.2]))
    track = AnchorTrack(CAMERAS, SIZES)
    for step, off in enumerate((0.01, 0.02, 0.06)):
        view, space = told(scene, target, points=np.array([target + np.array([off, 0, 0]), [np.nan] * 3]))
        track.add(step, view, scene, target, space)
    summary = summarise_anchors([track.to_json()])
    rows = {(row["view"], row["anchor"]): row for row in summary["space"]}
    together = rows[ALL, "task"]
    assert together["first"] == {"samples": 1, "mean_cm": pytest.approx(1), "median_cm": pytest.approx(1)}
    assert together["episode"] == {"samples": 3, "mean_cm": pytest.approx(3), "median_cm": pytest.approx(2)}
    assert (ALL, "end") not in rows  # a policy without end anchor
    plain = AnchorTrack(CAMERAS, SIZES)
    plain.add(0, view, scene, target)
    assert "space" not in plain.to_json() and "space" not in summarise_anchors([plain.to_json()])
    assert summarise_space([plain.to_json()]) is None
