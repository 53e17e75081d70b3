"""The command: from a dataset and a CSV to a rig that labelling takes, and every refusal, with nothing written."""

import csv
import json

import numpy as np
import pytest
from browser import Browser
from camera_fakes import looking
from toy_dataset import make_dataset

from posa_vla.calibration.demos import DemoSetup, calibrate_demos
from posa_vla.calibration.demos_command import main
from posa_vla.calibration.mark_command import farthest, spread_rows
from posa_vla.calibration.mark_command import main as mark
from posa_vla.calibration.marks import Marks, read_marks
from posa_vla.calibration.poses import EpisodePoses, image_size, read_poses
from posa_vla.calibration.rigfile import GripperArgs, PoseArgs, open_rig
from posa_vla.data.label_episodes import EpisodeRows
from posa_vla.errors import PosaError
from posa_vla.rigs import load_rig

SIZE = 64
FLAGS = ["--pose.column=ee_pose", "--gripper.column=action"]
CAMERA = looking((1.1, 0.5, 0.9), (0.4, 0.4, 0.35), 60.0, (SIZE, SIZE))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("calibration") / "toy"
    return make_dataset(root, episodes=3, length=16, image_size=SIZE, labelled=False, use_videos=False)


@pytest.fixture
def poses(dataset, tmp_path):
    rig = open_rig(tmp_path / "new.yaml", PoseArgs("ee_pose"), GripperArgs("action")).rig
    return read_poses(dataset, rig)


def write_marks(path, poses, change=lambda uv: uv, extra=()):
    rows = []
    for episode in poses.episodes:
        for row in range(episode.rows.start, episode.rows.stop):
            uv = change(CAMERA.project(poses.world_from_ee[row, :3, 3]) + 0.5)
            rows.append((episode.number, row - episode.rows.start, *uv))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("episode", "frame", "u", "v"), *rows, *extra])
    return path


def run(dataset, marks, rig, *flags):
    return main([f"--dataset.root={dataset}", f"--marks={marks}", f"--rig={rig}", *flags])


def test_a_new_rig_holds_the_camera_and_a_second_camera_is_added(dataset, poses, tmp_path):
    marks, rig = write_marks(tmp_path / "marks.csv", poses), tmp_path / "arm.yaml"
    run(dataset, marks, rig, *FLAGS)
    camera = load_rig(rig).camera("head")
    assert abs(camera.fx - 60) < 1e-3
    place = -camera.cam_from_mount[:3, :3].T @ camera.cam_from_mount[:3, 3]
    assert np.abs(place - CAMERA.position).max() < 1e-5
    assert (tmp_path / "arm.head.html").read_text().count("data:image/jpeg") == 40

    mirrored = write_marks(tmp_path / "mirrored.csv", poses, lambda uv: (SIZE - uv[0], uv[1]))
    run(dataset, mirrored, rig, "--camera=wrist", "--flip_horizontal=true", "--report=none")
    both = load_rig(rig)
    assert both.camera_names == ("head", "wrist")
    assert np.abs(both.camera("head").cam_from_mount - both.camera("wrist").cam_from_mount).max() < 1e-5
    assert both.camera("wrist").flip_horizontal
    assert rig.read_text().count("# head: ") == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_a_robot_without_a_gripper_gets_a_rig_without_one(dataset, poses, tmp_path, capsys):
    marks, rig = write_marks(tmp_path / "marks.csv", poses), tmp_path / "pusher.yaml"
    run(dataset, marks, rig, "--pose.column=ee_pose", "--report=none")
    assert f"rig: {rig}, without a gripper" in capsys.readouterr().out
    assert load_rig(rig).gripper is None and "gripper:" not in rig.read_text()
    run(dataset, marks, rig, "--camera=wrist", "--report=none")
    assert f"rig: {rig}\n" in capsys.readouterr().out
    assert load_rig(rig).camera_names == ("head", "wrist") and load_rig(rig).gripper is None


GANTRY = """<mujoco><worldbody><body name="x"><joint name="x" type="slide" axis="1 0 0"/>
<body name="y"><joint name="y" type="slide" axis="0 1 0"/><body name="hand"><joint name="z" type="slide" axis="0 0 1"/>
</body></body></body></worldbody></mujoco>"""


@pytest.mark.parametrize("cameras", ["", "cameras: []\n"])
def test_a_rig_written_by_hand_with_joints_needs_no_camera_before_the_first(dataset, poses, tmp_path, cameras):
    """docs/your-robot.md, "Joints instead of poses": the gantry's joints are the toy dataset's positions."""
    marks, rig = write_marks(tmp_path / "marks.csv", poses), tmp_path / "gantry.yaml"
    (tmp_path / "gantry.xml").write_text(GANTRY)
    joints = "{column: ee_pose, names: [x, y, z], model: gantry.xml, body: hand}"
    rig.write_text(f"# built in March\nname: gantry\n{cameras}pose:\n  joints: {joints}\n")
    mark([f"--dataset.root={dataset}", f"--rig={rig}", f"--output={tmp_path / 'marks.html'}"])
    run(dataset, marks, rig, "--report=none")
    calibrated = load_rig(rig)
    assert calibrated.camera_names == ("head",) and abs(calibrated.camera("head").fx - 60) < 1e-3
    assert calibrated.pose.names == ("x", "y", "z") and rig.read_text().startswith("# built in March\n")


def test_a_replaced_camera_is_said_and_a_new_folder_is_made(dataset, poses, tmp_path, capsys):
    spaced = write_marks(tmp_path / "marks.csv", poses).read_text().replace(",", ", ")
    marks, rig = tmp_path / "spaced.csv", tmp_path / "new/arm.yaml"
    marks.write_text(spaced)
    run(dataset, marks, rig, *FLAGS)
    assert sorted(path.name for path in rig.parent.iterdir()) == ["arm.head.html", "arm.yaml"]
    assert f"rig: {rig}\n" in capsys.readouterr().out
    run(dataset, marks, rig, "--report=none")
    assert f"rig: {rig}, whose camera head is replaced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (
            "--pose.tool=[0,0,0.11]",
            r"pose\.tool=\[0\.0, 0\.0, 0\.11\] was given, .* pose tool: \[0\.0, 0\.0, 0\.0\]",
        ),
        ("--pose.rotation_format=quaternion_xyzw", "exists and has pose rotation_format: quaternion_wxyz"),
        ("--pose.position=[1,2,3]", r"exists and has pose position: \[0, 1, 2\]"),
        ("--pose.column=observation.state", "exists and has pose column: ee_pose: leave .* or change the file's pose"),
        ("--gripper.open=1", r"exists and has gripper open: -1\.0: leave .* or change the file's gripper block"),
        ("--gripper.closed=0", r"exists and has gripper closed: 1\.0"),
        ("--gripper.index=5", "exists and has gripper index: 6"),
    ],
)
def test_flags_that_say_otherwise_than_the_rig_file_are_refused(tmp_path, flag, words):
    path = tmp_path / "arm.yaml"
    new = open_rig(path, PoseArgs("ee_pose"), GripperArgs("action"))
    new.with_camera(CAMERA.camera("head", (SIZE, SIZE), "world", (False, False)), "made up")
    before = path.read_text()
    with pytest.raises(PosaError, match=words):
        main(["--dataset.root=nowhere", "--marks=marks.csv", f"--rig={path}", flag])
    assert path.read_text() == before
    same = (PoseArgs("ee_pose", tool=[0, 0, 0], rotation=[3, 4, 5, 6]), GripperArgs("action", 6, -1, 1))
    assert open_rig(path, *same).rig.camera_names == ("head",)


def test_a_rig_without_a_gripper_gets_none_in_passing(tmp_path):
    path = tmp_path / "arm.yaml"
    new = open_rig(path, PoseArgs("ee_pose"), GripperArgs())
    new.with_camera(CAMERA.camera("head", (SIZE, SIZE), "world", (False, False)), "made up")
    with pytest.raises(PosaError, match=r"gripper\.column=action was given, .* exists and has gripper column: none"):
        open_rig(path, PoseArgs(), GripperArgs("action"))


def bad_marks(poses, tmp_path):
    """What is wrong -> (marks, flags, words that the sentence must hold)."""
    good = write_marks(tmp_path / "good.csv", poses)
    (tmp_path / "columns.csv").write_text("episode,u,v\n0,1,2\n")
    (tmp_path / "text.csv").write_text("episode,frame,u,v\n0,one,2,3\n")
    (tmp_path / "few.csv").write_text("".join(good.read_text().splitlines(keepends=True)[:8]))
    rng = np.random.default_rng(0)
    pairs = {
        "columns.csv": "episode, frame, u, v",
        "text.csv": "line 2",
        "few.csv": "at least 10 marks",
        "missing.csv": "cannot read",
        "comma.csv": "decimals with a point",
        "twice.csv": "marks frame 3 of episode 1 2 times",
        "camera.csv": "line 2 is a mark of camera wrist, not of head",
        "outside.csv": "outside the 64x64 picture",
        "episode.csv": "episode 7",
        "frame.csv": "frame 400",
        "mirrored.csv": "--flip_horizontal=true",
        "random.csv": "resized with their proportions kept",
    }
    (tmp_path / "comma.csv").write_text("episode,frame,u,v\n0,1,32,5,24,5\n")
    (tmp_path / "camera.csv").write_text("episode,frame,u,v,camera\n0,1,32.5,24.5,wrist\n")
    write_marks(tmp_path / "twice.csv", poses, extra=[(1, 3, 20, 5)])
    write_marks(tmp_path / "outside.csv", poses, extra=[(0, 0, 70, 5)])
    write_marks(tmp_path / "episode.csv", poses, extra=[(7, 0, 20, 5)])
    write_marks(tmp_path / "frame.csv", poses, extra=[(0, 400, 20, 5)])
    write_marks(tmp_path / "mirrored.csv", poses, lambda uv: (SIZE - uv[0], uv[1]))
    write_marks(tmp_path / "random.csv", poses, lambda _: rng.uniform(0, SIZE, 2))
    return pairs


def test_bad_marks_are_one_sentence_and_nothing_is_written(dataset, poses, tmp_path):
    for name, words in bad_marks(poses, tmp_path).items():
        before = sorted(tmp_path.iterdir())
        with pytest.raises(PosaError) as error:
            run(dataset, tmp_path / name, tmp_path / "arm.yaml", *FLAGS)
        assert words in str(error.value), name
        assert "\n" not in str(error.value)
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gripper.column=action"], "--pose.column"),
        (["--pose.column=ee_pose", "--gripper.index=3"], "--gripper.column"),
        (["--pose.column=ee_pose", "--mount=end_effector", "--camera=wrist"], "marks of grasps need the gripper"),
        (["--pose.column=pose", "--gripper.column=action"], "no column 'pose'"),
        ([*FLAGS, "--camera=top"], "no camera 'top'"),
        ([*FLAGS, "--mount=hand"], "world"),
        (
            ["--pose.column=ee_pose", "--pose.rotation_format=none", "--gripper.column=action", "--mount=end_effector"],
            "none",
        ),
        ([*FLAGS, "--focal=0"], "--focal=0: expected pixels above 0"),
        ([*FLAGS, "--focal=nan"], "--focal=nan: expected pixels above 0"),
        ([*FLAGS, "--principal=[32, 70]"], "--principal=32,70: expected pixels inside the 64x64 picture"),
    ],
)
def test_flags_that_do_not_fit_are_refused(dataset, poses, tmp_path, flags, words):
    marks = write_marks(tmp_path / "marks.csv", poses)
    with pytest.raises(PosaError, match=words):
        run(dataset, marks, tmp_path / "arm.yaml", *flags)
    assert not (tmp_path / "arm.yaml").exists()


def straight(count=60, step=0.004):
    """One episode along a curve that the camera sees; identity rotations."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    t = np.arange(count)
    poses[:, :3, 3] = np.stack([0.3 + step * t, 0.4 + 0.15 * np.sin(t / 12), 0.3 + 0.1 * np.cos(t / 9)], axis=1)
    return EpisodePoses(poses, [EpisodeRows(0, slice(0, count))])


def marks_of(poses, shift=0):
    rows = np.arange(5, len(poses.world_from_ee) - 5)
    uv = CAMERA.project(poses.world_from_ee[rows + shift, :3, 3]) + 0.5
    return Marks(np.zeros(len(rows), int), rows, uv, np.array([""] * len(rows)))


def test_poses_that_lag_behind_the_pictures_are_noticed():
    poses, setup = straight(), DemoSetup("world", (SIZE, SIZE))
    assert calibrate_demos(poses, marks_of(poses), setup).lag == 0
    assert calibrate_demos(poses, marks_of(poses, shift=2), setup).lag == 2


def test_a_given_focal_length_is_kept_where_delays_are_tried():
    """One that is a third too long: freed, it makes up for more than a frame of delay costs a hand this slow."""
    poses, t = straight(120), np.arange(120) / 4
    poses.world_from_ee[:, :3, 3] = np.stack(
        [0.2 + 0.012 * t, 0.4 + 0.25 * np.sin(t / 6), 0.35 + 0.2 * np.cos(t / 4)], axis=1
    )
    setup = DemoSetup("world", (SIZE, SIZE), focal=80.0)
    assert calibrate_demos(poses, marks_of(poses), setup).lag == 0


def test_places_on_a_line_or_close_together_do_not_determine_the_camera():
    poses, setup = straight(), DemoSetup("world", (SIZE, SIZE))
    poses.world_from_ee[:, 1:3, 3] = (0.4, 0.3)
    with pytest.raises(PosaError, match=r"lie on a line \(spread \d+, 0 and 0 mm"):
        calibrate_demos(poses, marks_of(poses), setup)
    near, wide = straight(), straight()
    near.world_from_ee[:, :3, 3] = 0.3 * near.world_from_ee[:, :3, 3] + 0.7 * near.world_from_ee[30, :3, 3]
    both = EpisodePoses(
        np.concatenate([near.world_from_ee, wide.world_from_ee]),
        [EpisodeRows(0, slice(0, 60)), EpisodeRows(1, slice(60, 120))],
    )
    marks = marks_of(near)
    marks.uv[:] += np.random.default_rng(0).normal(size=marks.uv.shape) * 0.5
    with pytest.raises(PosaError, match=r"do not determine the camera \(expected error .* principal directions"):
        calibrate_demos(both, marks, setup)


def test_a_lone_camera_is_called_image(tmp_path):
    (tmp_path / "meta").mkdir()
    feature = {"dtype": "image", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    info = {"codebase_version": "v3.0", "fps": 20, "total_frames": 9, "features": {"observation.image": feature}}
    (tmp_path / "meta/info.json").write_text(json.dumps(info))
    assert image_size(tmp_path, "image") == (64, 48)


def test_frames_to_mark_lie_far_apart(poses, dataset, tmp_path):
    points = np.array([[0.0], [0.1], [1.0], [0.5], [0.1]])
    assert farthest(points, 3).tolist() == [2, 0, 3]
    assert len(farthest(points, 10)) == 4  # equal points are no two frames
    rows = spread_rows(poses, 10)
    assert len(set(rows)) == 10
    mark([f"--dataset.root={dataset}", "--pose.column=ee_pose", "--frames=10", f"--output={tmp_path / 'page.html'}"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html"]


def test_what_calibrate_demos_would_refuse_is_refused_before_anyone_clicks(dataset, tmp_path):
    with pytest.raises(PosaError, match=r"--rig=FILE\.yaml or --pose\.column=COLUMN is missing"):
        mark([f"--dataset.root={dataset}", f"--output={tmp_path / 'page.html'}"])
    with pytest.raises(PosaError, match="give the rig's pose a rotation"):
        flags = ["--mount=end_effector", "--camera=wrist", "--pose.rotation_format=none"]
        mark([f"--dataset.root={dataset}", *FLAGS, *flags, f"--output={tmp_path / 'page.html'}"])
    assert list(tmp_path.iterdir()) == []


def test_clicks_on_a_scaled_picture_are_pixels_of_the_stored_one(dataset, tmp_path):
    page = tmp_path / "new/page.html"
    mark([f"--dataset.root={dataset}", "--pose.column=ee_pose", "--frames=3", f"--output={page}"])
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(page, 500, dark=False)
        box = browser.run("const b = picture.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]")
        assert box[2] != SIZE
        u, v = box[0] + 0.25 * box[2], box[1] + 0.75 * box[3]
        browser.run(f"picture.dispatchEvent(new MouseEvent('click', {{clientX: {u}, clientY: {v}}}))")
        (tmp_path / "marks.csv").write_text(browser.run("return csv()"))
        assert browser.console() == []
    finally:
        browser.close()
    marks = read_marks(tmp_path / "marks.csv", (SIZE, SIZE), "head")
    assert np.abs(marks.uv - [[0.25 * SIZE, 0.75 * SIZE]]).max() < 0.02
