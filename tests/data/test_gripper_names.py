"""A gripper taken from a number of another name, and names that say nothing."""

import pytest

from posa_vla.data.gripper_names import check_gripper_names
from posa_vla.errors import PosaError
from posa_vla.rigs import GripperCommand, GripperSource, GripperWidth

JOINTS = [f"joint_{number}.pos" for number in range(1, 8)]


def features(names, size=8):
    return {"action": {"dtype": "float32", "shape": [size], "names": names}}


def command(index):
    return GripperSource(command=GripperCommand("action", index, -1, 1))


@pytest.mark.parametrize("wrap", [lambda names: names, lambda names: {"motors": names}])
def test_the_seventh_joint_is_no_gripper(wrap):
    found = features(wrap([*JOINTS, "Gripper.pos"]))
    check_gripper_names(found, command(7))
    with pytest.raises(
        PosaError, match=r"command from action\[6\] \(joint_7\.pos\), beside action\[7\] \(gripper\.pos\): .*the index"
    ):
        check_gripper_names(found, command(6))


def test_fingers_are_a_gripper_and_joints_are_no_fingers():
    found = features([*JOINTS[:6], "left_finger", "right_finger"])
    check_gripper_names(found, GripperSource(width=GripperWidth("action", (6, 7), 0.08)))
    with pytest.raises(PosaError, match=r"width from action\[4\] .*, action\[5\] .* beside .*correct the indices"):
        check_gripper_names(found, GripperSource(width=GripperWidth("action", (4, 5), 0.08)))


@pytest.mark.parametrize(
    "names",
    [
        None,
        [*JOINTS, "dim_7"],
        {"motors": ["arm", "gripper"]},
        [*(f"gripper_{axis}" for axis in ("x", "y", "z", "roll", "pitch", "yaw")), "closedness", "done"],
    ],
)
def test_names_that_say_nothing_of_the_number_are_no_reason(names):
    check_gripper_names(features(names), command(6))
