"""posa-vla bench anchors: the table, the speed bars, and that timing a command leaves nothing behind."""

import os

import pytest
import yaml
from toy_dataset import make_dataset

from posa_vla.anchors.benchmark import label_time, main
from posa_vla.errors import PosaError
from posa_vla.rigs import load_rig


def test_the_table_has_a_line_for_each_measure(capsys):
    assert main(["--projections=20", "--states=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert [line.split()[0] for line in lines] == ["measure", "projection", "geometry,", "marker", "marker"]


def test_timing_the_command_leaves_nothing_behind(tmp_path):
    root = make_dataset(tmp_path / "toy", labelled=False)
    rig = load_rig("tabletop").to_dict()
    del rig["state_pose"], rig["gripper"]["width"]  # the toy's state holds anything
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(rig))
    frames, seconds = label_time(root, str(tmp_path / "rig.yaml"))
    assert frames == 54 and seconds > 0
    assert sorted(os.listdir(tmp_path)) == ["rig.yaml", "toy"]


def test_a_command_that_fails_says_its_own_sentence(tmp_path):
    with pytest.raises(PosaError, match="is no LeRobotDataset"):
        label_time(tmp_path, "tabletop")
