"""The command: from pictures and poses to a rig that labelling takes, and every refusal, with nothing written."""

import csv
import re

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posa_vla.calibration.board_command import main
from posa_vla.calibration.board_inputs import find_pictures, read_board_poses
from posa_vla.calibration.boards import parse_board
from posa_vla.calibration.drawing import draw
from posa_vla.calibration.simulated import placements, show
from posa_vla.errors import PosaError
from posa_vla.rigs import JointSource, load_rig

BOARD = "charuco:6x5:40mm:30mm:4x4_50"
HAND = placements()[3]
COLUMNS = ("x", "y", "z", "qw", "qx", "qy", "qz")


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """Twelve pictures through a camera on the hand, and the poses as a CSV's rows."""
    folder, rng = tmp_path_factory.mktemp("shots"), np.random.default_rng(0)
    board, rays = parse_board(BOARD), HAND.lens.rays()
    shown = show(HAND, board, 12, rng)
    for number, pose in enumerate(shown.cam_from_board):
        cv2.imwrite(str(folder / f"shot_{number}.png"), draw(board, rays, pose, rng))
    quaternions = Rotation.from_matrix(shown.world_from_ee[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    return folder, np.concatenate([shown.world_from_ee[:, :3, 3], quaternions], axis=1)


def table(path, rows, columns=COLUMNS):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def run(folder, poses, rig, *flags, board=BOARD):
    known = [f"--images={folder}", f"--poses={poses}", f"--rig={rig}", f"--board={board}", "--mount=end_effector"]
    return main([*known, "--camera=wrist", "--pose.column=ee_pose", "--gripper.column=action", *flags])


def test_a_rig_holds_the_camera(shots, tmp_path, capsys):
    folder, rows = shots
    run(folder, table(tmp_path / "poses.csv", rows), tmp_path / "arm.yaml", "--flip_vertical=true")
    camera = load_rig(tmp_path / "arm.yaml").camera("wrist")
    assert np.abs(camera.cam_from_mount - HAND.cam_from_mount).max() < 0.01
    assert abs(camera.fx / HAND.lens.matrix[0, 0] - 1) < 0.01
    assert camera.flip_vertical and not camera.flip_horizontal
    said = capsys.readouterr()
    assert "left one out" in said.out and "reprojection" in said.out
    assert "squares are" not in said.err
    run(folder, table(tmp_path / "poses.csv", rows), tmp_path / "other.yaml", board="charuco:6x5:39mm:29mm:4x4_50")
    assert re.search(r"squares are (39\.9|40\.\d)\d ± \d\.\d\d mm, not 39 mm", capsys.readouterr().err)


def test_pictures_are_paired_by_number_or_by_name(shots, tmp_path):
    folder, rows = shots
    assert [path.name for path in find_pictures(str(folder))][:3] == ["shot_0.png", "shot_1.png", "shot_2.png"]
    named = [(*row, f"shot_{number}.png") for number, row in enumerate(rows)]
    run(folder, table(tmp_path / "poses.csv", named[::-1], (*COLUMNS, "image")), tmp_path / "arm.yaml")
    assert (tmp_path / "arm.yaml").exists()
    spaced = tmp_path / "spaced.csv"
    spaced.write_text((tmp_path / "poses.csv").read_text().replace(",", ", "))
    pictures = find_pictures(str(folder))
    assert np.abs(read_board_poses(spaced, pictures)[:, :3, 3] - rows[:, :3]).max() < 1e-12
    for name in ("shot_2.png", "shot_02.png", "shot_002.png"):
        (tmp_path / name).touch()
    assert [path.name for path in find_pictures(str(tmp_path))] == ["shot_002.png", "shot_02.png", "shot_2.png"]


GANTRY = """<mujoco><compiler angle="radian"/><worldbody><body><joint name="slide" type="slide" axis="1 0 0"/>
<body name="hand" pos="0 0 0.5"><joint name="turn" axis="0 0 1"/></body></body></worldbody></mujoco>"""


def test_joints_take_the_place_of_poses_where_the_rigs_pose_comes_from_joints(tmp_path):
    """So board and dataset have the same frame of the hand, whatever the controller calls its own."""
    (tmp_path / "arm.xml").write_text(GANTRY)
    source = JointSource("q", "arm.xml", ("turn", "slide"), body="hand", unit="degrees", folder=tmp_path)
    pictures = [tmp_path / f"{number}.png" for number in range(2)]
    poses = table(tmp_path / "q.csv", [(90, 0.2, "1.png"), (0, 0.1, "0.png")], ("turn", "slide", "image"))
    found = read_board_poses(poses, pictures, source)
    np.testing.assert_allclose(found[:, :3, 3], [[0.1, 0, 0.5], [0.2, 0, 0.5]], atol=1e-12)
    np.testing.assert_allclose(found[:, :2, 0], [[1, 0], [0, 1]], atol=1e-12)
    table(poses, [(np.pi / 2, 0.2), (0, 0.1)], ("turn", "slide"))
    with pytest.raises(PosaError, match=r"the joints in .* are not those of the rig: .* the unit seems to be radians"):
        read_board_poses(poses, pictures, source)
    table(poses, [("", 0.2), (0, 0.1)], ("turn", "slide"))
    with pytest.raises(PosaError, match="NaN or empty cells"):
        read_board_poses(poses, pictures, source)
    table(poses, [(0, 0.2), (0, 0.1)], ("turn", "lift"))
    with pytest.raises(PosaError, match=r"or the rig's joints turn, slide, found turn, lift"):
        read_board_poses(poses, pictures, source)


def mistakes(rows, tmp_path):
    """Poses file, words that the sentence must hold."""
    millimetres = rows.copy()
    millimetres[:, :3] *= 1000
    nan, long = rows.copy(), rows.copy()
    nan[2, 1] = np.nan
    long[:, 3:] *= 2
    degrees = np.concatenate([rows[:, :3], np.full((12, 3), 90.0)], axis=1)
    yield table(tmp_path / "mm.csv", millimetres), "in millimetres"
    yield table(tmp_path / "nan.csv", nan), "NaN or empty"
    yield table(tmp_path / "long.csv", long), "quaternion of length 2.00"
    yield table(tmp_path / "degrees.csv", degrees, ("x", "y", "z", "rx", "ry", "rz")), "expected radians"
    yield table(tmp_path / "short.csv", rows[:-1]), "11 poses for 12 pictures"
    yield table(tmp_path / "columns.csv", rows, ("x", "y", "z", "w", "i", "j", "k")), "expected the columns x, y, z"
    yield table(tmp_path / "text.csv", [("a", *rows[0, 1:]), *rows[1:]]), "something else than numbers"
    named = [(*row, f"shot_{number + 1}.png") for number, row in enumerate(rows)]
    yield table(tmp_path / "named.csv", named, (*COLUMNS, "image")), "no pose for shot_0.png"
    twice = [(*row, f"shot_{min(number, 10)}.png") for number, row in enumerate(rows)]
    yield table(tmp_path / "twice.csv", twice, (*COLUMNS, "image")), "shot_10.png in 2 rows"
    doubled = np.concatenate([rows, rows[:, :1]], axis=1)
    yield table(tmp_path / "doubled.csv", doubled, (*COLUMNS, "x")), "has 2 columns 'x'"
    swapped = rows[:, [0, 1, 2, 4, 5, 6, 3]]
    yield table(tmp_path / "swapped.csv", swapped), "name their columns"
    yield tmp_path / "missing.csv", "cannot read the poses"


def test_bad_poses_are_one_sentence_and_nothing_is_written(shots, tmp_path):
    folder, rows = shots
    for poses, words in mistakes(rows, tmp_path):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(PosaError, match=words) as error:
            run(folder, poses, tmp_path / "arm.yaml")
        assert "\n" not in str(error.value)
        assert sorted(tmp_path.iterdir()) == before


def test_bad_pictures_and_flags_are_refused(shots, tmp_path):
    folder, rows = shots
    poses, rig = table(tmp_path / "poses.csv", rows), tmp_path / "arm.yaml"
    other = tmp_path / "other"
    other.mkdir()
    cv2.imwrite(str(other / "shot_0.png"), np.zeros((480, 640), np.uint8))
    cv2.imwrite(str(other / "shot_1.png"), np.zeros((240, 320), np.uint8))
    two = table(tmp_path / "two.csv", rows[:2])
    with pytest.raises(PosaError, match="use one camera at one size"):
        run(other, two, rig)
    (other / "shot_1.png").write_text("no picture")
    with pytest.raises(PosaError, match="cannot read the picture"):
        run(other, two, rig)
    with pytest.raises(PosaError, match="found none"):
        run(tmp_path / "nowhere", poses, rig)
    with pytest.raises(PosaError, match="found in none of 12 pictures"):
        run(folder, poses, rig, board="charuco:6x5:40mm:30mm:7x7_50")
    with pytest.raises(PosaError, match="above 0"):
        run(folder, poses, rig, "--pose_sigma=[0,1]")
    with pytest.raises(PosaError, match="above 0"):
        run(folder, poses, rig, "--pose_sigma=[.nan,1]")
    with pytest.raises(PosaError, match=r"--camera=.* is missing"):
        main([f"--images={folder}", f"--poses={poses}", f"--rig={rig}", f"--board={BOARD}"])
    with pytest.raises(PosaError, match=r"--board=.* is missing"):
        main([f"--images={folder}", f"--poses={poses}", f"--rig={rig}"])
    assert not rig.exists()
