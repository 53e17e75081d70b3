"""Anchor errors: projection, expected values, baselines, and the training data's mean."""

from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow.parquet as parquet
import pytest
from evaluation_fakes import FakeObject, look_down
from toy_dataset import make_dataset

from posa_vla.contract import ANCHORS
from posa_vla.errors import PosaError
from posa_vla.evaluation.anchor_error import AnchorTrack, distance, project, summarise_anchors
from posa_vla.evaluation.training_anchors import mean_anchors

SIZE = np.array([100.0, 100.0])
FLAT = np.full((1, 2, 4, 4), 0.25)


def truth(objects: dict[str, tuple], hand: tuple) -> SimpleNamespace:
    """Seen by one camera one metre above the table, 100 px, focal length 100 px: 0.01 m is 0.01 of the image."""
    items = [FakeObject(name, np.array([*xy, 0.0])) for name, xy in objects.items()]
    return SimpleNamespace(
        objects=items, target="target", ee_pose=np.array([*hand, 0, 1, 0, 0, 0]), cameras={"head": look_down(1, 100)}
    )


def test_projection_agrees_with_opencv():
    rng = np.random.default_rng(1)
    rotation, _ = cv2.Rodrigues(rng.normal(size=3))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, rng.normal(size=3)
    intrinsics = np.array([[90.0, 0, 48], [0, 110, 31], [0, 0, 1]])
    camera_points = np.stack([*rng.uniform(-0.3, 0.3, (2, 50)), rng.uniform(1, 3, 50)], axis=1)
    world = (camera_points - pose[:3, 3]) @ rotation
    pixels, _ = cv2.projectPoints(world, cv2.Rodrigues(rotation)[0], pose[:3, 3], intrinsics, None)
    size = np.array([96.0, 64.0])
    assert project(world, intrinsics, pose, size) == pytest.approx((pixels[:, 0] + 0.5) / size)


def test_behind_the_camera_and_outside_the_image_is_nowhere():
    view = (*look_down(1, 100), SIZE)
    points = np.array([[0.0, 0, 0], [0.6, 0, 0], [0, -0.6, 0], [0, 0, 2.0]])
    assert np.isnan(project(points, *view)).all(axis=1).tolist() == [False, True, True, True]
    assert project(points[0], *view) == pytest.approx((0.5, 0.5))


def test_distance_is_in_fractions_of_the_short_side():
    assert distance([0.1, 0.5], [0.2, 0.5], np.array([200, 100])) == pytest.approx(0.2)
    assert distance([0.1, 0.5], [0.1, 0.8], np.array([200, 100])) == pytest.approx(0.3)


def test_errors_and_baselines_of_two_scenes_by_hand():
    """Targets at u = 0.6 and 0.4 (their mean is 0.1 off each), the other object 0.2 further, predictions 0.03 off."""
    tracks = []
    for side in (0.1, -0.1):
        track = AnchorTrack(("head",), {"head": (100, 100)})
        scene = truth({"target": (side, 0), "other": (side, 0.2)}, hand=(0.0, 0.0))
        track.add(0, (FLAT, np.array([[[0.53 + side, 0.5], [0.5, 0.54]]])), scene, scene.objects[0].position)
        track.add(10, (FLAT, np.array([[[0.5 + side, 0.5], [0.5, 0.5]]])), scene, scene.objects[0].position)
        tracks.append(track.to_json())
    task, end = summarise_anchors(tracks)["rows"]
    assert task["first"] == {
        "samples": 2,
        "error": pytest.approx(0.03),
        "constant": pytest.approx(0.1),
        "random_object": pytest.approx((0 + 0.2) / 2),
    }
    assert task["episode"]["error"] == pytest.approx(0.015)
    assert end["first"]["error"] == pytest.approx(0.04)
    assert end["first"]["constant"] == pytest.approx(0)
    means = {"head": {"first": np.array([[0.5, 0.9], [0.5, 0.5]]), "episode": np.full((2, 2), 0.5)}}
    trained = summarise_anchors(tracks, means)
    assert trained["rows"][0]["first"]["constant"] == pytest.approx(np.hypot(0.1, 0.4))
    assert trained["constant_is"] != summarise_anchors(tracks)["constant_is"]


def test_what_has_no_true_point_is_left_out():
    track = AnchorTrack(("head",), {"head": (100, 100)})
    guess = FLAT, np.full((1, 2, 2), 0.5)
    scene = truth({"target": (0.2, 0)}, hand=(0.1, 0))
    track.add(0, guess, scene, np.array([0.7, 0, 0]))  # outside
    track.add(10, guess, scene, None)  # the reach is over
    task, end = summarise_anchors([track.to_json()])["rows"]
    assert task["episode"] == {"samples": 0, "error": None, "constant": None, "random_object": None}
    assert end["episode"]["samples"] == 2


def test_a_policy_without_end_anchor_has_no_error_there():
    track = AnchorTrack(("head",), {"head": (100, 100)})
    view = FLAT, np.array([[[0.5, 0.5], [np.nan, np.nan]]])
    track.add(0, view, truth({"target": (0, 0)}, (0, 0)), np.zeros(3))
    assert summarise_anchors([track.to_json()])["rows"][1]["first"]["error"] is None
    assert summarise_anchors([]) is None


def test_a_sample_says_how_sure_the_map_was_and_where_the_objects_are():
    track = AnchorTrack(("head",), {"head": (100, 100)})
    maps = FLAT.astype(np.float32)
    maps[0, 0, 1, 2] = 0.8751
    scene = truth({"target": (0.1, 0), "other": (0, 0.2), "far": (2, 0)}, hand=(0, 0))
    track.add(0, (maps, np.full((1, 2, 2), 0.5)), scene, scene.objects[0].position)
    found = track.to_json()
    assert found["confidence"] == [
        [[0.875, 0.25]]
    ]  # three decimals, also of what the network gives in single precision
    assert found["contrast"] == [[[0.625, 0.0]]]
    assert found["objects"] == ["target", "other", "far"]
    assert found["ahead"] == [True]
    assert found["object_uv"] == [[[[0.6, 0.5], [0.5, 0.3], [None, None]]]]


def test_training_mean_is_the_mean_of_the_usable_labels(tmp_path):
    root = make_dataset(tmp_path / "toy", episodes=3, use_videos=False)
    means = mean_anchors(root)
    assert list(means) == ["head", "wrist"]
    rows = [row for file in (root / "data").rglob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    end = [
        row[ANCHORS][1][1]
        for row in rows
        if row["frame_index"] == 0 and row[ANCHORS][1][1][3] >= 0 and max(row[ANCHORS][1][1][:2]) <= 1
    ]
    assert means["wrist"]["first"][1] == pytest.approx(np.mean(end, axis=0)[:2], abs=1e-6)


def test_a_dataset_that_cannot_give_a_mean_says_why(tmp_path):
    with pytest.raises(PosaError, match=r"no meta/info\.json"):
        mean_anchors(tmp_path)
    with pytest.raises(PosaError, match="posa-vla label"):
        mean_anchors(make_dataset(tmp_path / "toy", episodes=1, labelled=False, use_videos=False))


def test_a_dataset_of_other_cameras_is_refused_and_only_the_wanted_ones_are_read(tmp_path):
    root = make_dataset(tmp_path / "toy", episodes=2, use_videos=False)
    with pytest.raises(PosaError, match=r"cameras head, front in .*, found them of head, wrist"):
        mean_anchors(root, ["head", "front"])
    assert list(mean_anchors(root, ["wrist"])) == ["wrist"]
