"""A camera on a hand that does not turn, from marks of where the gripper will close; which frames are to be marked."""

from dataclasses import replace

import numpy as np
import pytest
from camera_fakes import SIZE, hand_camera, shaken, spoiled
from scipy.spatial.transform import Rotation
from toy_dataset import make_dataset

from posa_vla.anchors.events import Event, interactions_of
from posa_vla.calibration.clicks import DemoSetup, in_hand
from posa_vla.calibration.closes import approaches
from posa_vla.calibration.demos import calibrate_demos
from posa_vla.calibration.mark_command import grasp_rows
from posa_vla.calibration.mark_command import main as mark
from posa_vla.calibration.marks import Marks
from posa_vla.calibration.poses import EpisodePoses
from posa_vla.data.label_episodes import EpisodeRows
from posa_vla.errors import PosaError

TOOL = (0.0, 0.01, 0.05)
LENGTH = 20
SETUP = DemoSetup("end_effector", SIZE, tool=TOOL)
DOWN = Rotation.from_euler("x", 180, degrees=True).as_matrix()


def demonstrations(rng, episodes=24, sideways=0.15, height=0.25):
    """Straight ways down to a grasp in the last frame but two, with a hand that never turns; and the closes."""
    poses = np.tile(np.eye(4), (episodes * LENGTH, 1, 1))
    poses[:, :3, :3] = DOWN
    closes = np.full(len(poses), -1)
    for number in range(episodes):
        rows = slice(number * LENGTH, (number + 1) * LENGTH)
        grasp = np.array([rng.uniform(0.35, 0.6), rng.uniform(-0.2, 0.2), 0.08])
        start = rng.uniform((-sideways, -sideways, 0.6 * height), (sideways, sideways, height))
        left = np.clip(np.linspace(1, -0.2, LENGTH), 0, 1)[:, None]
        poses[rows, :3, 3] = grasp + left * start
        closes[rows.start : rows.stop - 2] = rows.stop - 3
    return EpisodePoses(poses, [EpisodeRows(k, slice(k * LENGTH, (k + 1) * LENGTH)) for k in range(episodes)]), closes


def seen_grasps(camera, poses, closes):
    """Rows with the next grasp in the picture, the grasps in the hand's frame (n, 3), exact pixels (n, 2)."""
    rows = np.flatnonzero(closes >= 0)
    ends = poses.world_from_ee[closes[rows]]
    points = in_hand(poses.world_from_ee[rows], ends[:, :3, :3] @ TOOL + ends[:, :3, 3])
    pixels = camera.project(points)
    seen = (camera.in_camera(points)[:, 2] > 0.05) & (pixels > 0).all(axis=1) & (pixels < SIZE).all(axis=1)
    return rows[seen], points[seen], pixels[seen]


def marks_at(rows, pixels):
    return Marks(rows // LENGTH, rows % LENGTH, (pixels + 0.5).clip((0, 0), SIZE), np.array([""] * len(rows)))


def test_a_hand_that_does_not_turn_gives_the_camera():
    rng = np.random.default_rng(0)
    camera, (poses, closes) = hand_camera(rng), demonstrations(rng)
    rows, _, pixels = seen_grasps(camera, poses, closes)
    found = calibrate_demos(poses, marks_at(rows[::4], pixels[::4]), SETUP, closes).estimate.camera
    assert abs(found.focal - camera.focal) < 0.1
    assert np.abs(found.position - camera.position).max() < 1e-4
    assert np.abs(found.rotation - camera.rotation).max() < 1e-4


def test_forty_marks_with_noise_and_a_fifth_of_mistakes_hold_four_pixels():
    rng = np.random.default_rng(1)
    camera, (poses, closes) = hand_camera(rng), demonstrations(rng)
    rows, points, pixels = seen_grasps(camera, poses, closes)
    chosen = rng.choice(len(rows), 40, replace=False)
    marked, wrong = spoiled(rng, pixels[chosen])
    noisy = replace(poses, world_from_ee=shaken(rng, poses.world_from_ee))
    result = calibrate_demos(noisy, marks_at(rows[chosen], marked), SETUP, closes)
    errors = np.linalg.norm(result.estimate.camera.project(points) - pixels, axis=1)
    assert not result.estimate.trusted[wrong].any()
    assert errors.mean() < 4
    assert errors.mean() < 2 * np.median(result.predicted)


def test_grasps_that_are_always_straight_below_are_refused_with_the_reason():
    rng = np.random.default_rng(2)
    camera, (poses, closes) = hand_camera(rng), demonstrations(rng, sideways=0.0)
    rows, _, pixels = seen_grasps(camera, poses, closes)
    with pytest.raises(PosaError, match=r"seen from the hand, lie on a line .* start further away"):
        calibrate_demos(poses, marks_at(rows, pixels), SETUP, closes)


def test_marks_that_cannot_be_of_grasps_are_refused():
    rng = np.random.default_rng(3)
    camera, (poses, closes) = hand_camera(rng), demonstrations(rng)
    rows, _, pixels = seen_grasps(camera, poses, closes)
    marks = marks_at(rows, pixels)
    with pytest.raises(PosaError, match="--marks_are=resting"):
        calibrate_demos(poses, replace(marks, point=np.array(["1"] * len(rows))), SETUP, closes)
    late = replace(marks, frame=np.where(np.arange(len(rows)) == 4, LENGTH - 1, marks.frame))
    with pytest.raises(PosaError, match=rf"episode {marks.episode[4]}, frame {LENGTH - 1} is not followed by a close"):
        calibrate_demos(poses, late, SETUP, closes)
    few = rows < 3 * LENGTH
    with pytest.raises(PosaError, match="3 different grasps"):
        calibrate_demos(poses, marks_at(rows[few], pixels[few]), SETUP, closes)


def test_an_approach_lasts_from_the_event_before_to_the_close():
    events = [Event(3, "gripper", "close", 3), Event(5, "gripper", "open", 5), Event(8, "gripper", "close", 8)]
    found = approaches(interactions_of(events), 100, 110)
    assert found.tolist() == [103] * 4 + [-1] * 2 + [108] * 3 + [-1]


def test_frames_to_mark_lie_before_a_grasp_and_not_close_to_it():
    poses, closes = demonstrations(np.random.default_rng(4))
    rows = grasp_rows(poses, closes, TOOL, 40)
    assert len(set(rows)) == 40
    assert (closes[rows] > rows).all()
    ways = poses.world_from_ee[closes[rows], :3, 3] - poses.world_from_ee[rows, :3, 3]
    assert np.linalg.norm(ways, axis=1).min() >= 0.04
    assert len(set(closes[rows[:10]])) > 5  # every beginning is spread
    with pytest.raises(PosaError, match="never farther than"):
        grasp_rows(replace(poses, world_from_ee=np.tile(np.eye(4), (len(closes), 1, 1))), closes, TOOL, 40)


def test_the_page_shows_the_grasp_beside_each_frame(tmp_path, capsys):
    root = make_dataset(tmp_path / "toy", episodes=3, length=16, image_size=64, labelled=False, use_videos=False)
    flags = [f"--dataset.root={root}", "--camera=wrist", "--mount=end_effector", "--frames=10"]
    columns = ["--pose.column=ee_pose", "--gripper.column=action"]
    mark([*flags, *columns, f"--output={tmp_path / 'page.html'}"])
    page = (tmp_path / "page.html").read_text()
    shown = page.count('"until": ')
    assert 0 < shown < 40
    assert f"click in {shown} of its {shown} frames" in capsys.readouterr().out
    assert page.count("data:image/jpeg") > page.count('"until": ')
    with pytest.raises(PosaError, match=r"marks of grasps need the gripper.*--gripper\.column.*--marks_are=resting"):
        mark([*flags, "--pose.column=ee_pose", f"--output={tmp_path / 'other.html'}"])
