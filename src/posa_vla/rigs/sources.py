"""Where a dataset records the hand's pose and the gripper: the `pose` and `gripper` parts of a rig file."""

from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any, Literal

from posa_vla.anchors.interaction import InteractionConfig
from posa_vla.anchors.pose import ROTATION_SIZES, RotationFormat
from posa_vla.errors import PosaError, unknown_name

PACKAGE_PREFIX = "package:"
JointUnit = Literal["radians", "degrees"]
JOINT_UNITS = ("radians", "degrees")
NO_TOOL = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PoseSource:
    """Which numbers of a dataset column are the end effector's pose in the world frame.

    Args:
        column: dataset column.
        position: its three indices of x, y, z in metres.
        rotation: its indices of the rotation, in the order of ``rotation_format``; None: 3, 4, 5, …
        rotation_format: quaternion_wxyz, quaternion_xyzw (unit), axis_angle (rad), euler_xyz (roll, pitch, yaw, rad,
            about the fixed axes x, y, z), or none where only the position is recorded: enough for cameras in the
            world, not for one that turns with the hand.
        tool: the point between the fingertips in the recorded frame, metres: that point is the anchor. In world
            axes where no rotation is recorded, which holds for a hand that does not turn.
    """

    column: str
    position: tuple[int, ...] = (0, 1, 2)
    rotation: tuple[int, ...] = None  # type: ignore[assignment]  # filled in below
    rotation_format: RotationFormat = "quaternion_wxyz"
    tool: tuple[float, ...] = NO_TOOL

    def __post_init__(self) -> None:
        if self.rotation_format not in ROTATION_SIZES:
            raise unknown_name("rotation format", str(self.rotation_format), ROTATION_SIZES)
        size = ROTATION_SIZES[self.rotation_format]
        if self.rotation is None:
            object.__setattr__(self, "rotation", tuple(range(3, 3 + size)))
        if (len(self.position), len(self.rotation)) != (3, size):
            raise PosaError(
                f"a pose needs 3 position and {size} {self.rotation_format} indices, "
                f"got {len(self.position)} and {len(self.rotation)}"
            )
        _check_indices(self.indices)
        _check_tool(self.tool)

    @property
    def indices(self) -> tuple[int, ...]:
        """Every index of the column that the pose is made of."""
        return self.position + self.rotation

    @property
    def has_rotation(self) -> bool:
        return self.rotation_format != "none"


@dataclass(frozen=True)
class JointSource:
    """Joint angles of a dataset column, which a robot model turns into the end effector's pose.

    The model's world frame is the rig's. A joint's angle is ``scale · value + offset``, in ``unit``; a sliding
    joint's travel is in metres whatever the unit.

    Args:
        column: dataset column.
        model: MJCF (.xml) or URDF file: relative to the rig file, absolute, or ``package:NAME/path`` inside an
            installed Python package. Its meshes need not exist.
        names: the model's joints, in the order of ``indices``; joints left out stay where the model has them.
        indices: the column's numbers; None: the first ones.
        site: the model's site that is the EE frame, or None;
        body: the model's body (a URDF link) that is the EE frame, or None: exactly one of the two.
        unit: radians or degrees.
        offsets: added to each joint, in ``unit``; None: zeros.
        scales: of each joint: -1 where it turns the other way, or degrees per recorded unit where the values are no
            angles; None: ones.
        tool: the point between the fingertips in the EE frame, metres: that point is the anchor.
        folder: what a relative ``model`` is relative to; no field of the file.
        kept_model: the model itself, as MJCF, where the rig comes from a labelled dataset; no field of the file.
    """

    column: str
    model: str
    names: tuple[str, ...]
    indices: tuple[int, ...] = None  # type: ignore[assignment]  # filled in below
    site: str | None = None
    body: str | None = None
    unit: JointUnit = "radians"
    offsets: tuple[float, ...] = None  # type: ignore[assignment]
    scales: tuple[float, ...] = None  # type: ignore[assignment]
    tool: tuple[float, ...] = NO_TOOL
    folder: Path | None = field(default=None, compare=False, metadata={"in_file": False})
    kept_model: str | None = field(default=None, compare=False, repr=False, metadata={"in_file": False})

    def __post_init__(self) -> None:
        count = len(self.names)
        defaults: dict[str, tuple[Any, ...]] = {
            "indices": tuple(range(count)),
            "offsets": (0.0,) * count,
            "scales": (1.0,) * count,
        }
        for name, default in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
            if len(getattr(self, name)) != count:
                raise PosaError(f"expected {count} {name}, one for each joint, got {len(getattr(self, name))}")
        if not count or len(set(self.names)) != count or len(set(self.indices)) != count:
            raise PosaError(f"expected joints with different names and indices, got {self.names} and {self.indices}")
        _check_indices(self.indices)
        if self.unit not in JOINT_UNITS:
            raise unknown_name("joint unit", str(self.unit), JOINT_UNITS)
        if 0 in self.scales:
            raise PosaError(f"a scale of 0 would hold its joint still, got scales {self.scales}")
        if (self.site is None) == (self.body is None):
            raise PosaError(f"expected either a site or a body, got site={self.site} and body={self.body}")
        _check_tool(self.tool)

    @property
    def has_rotation(self) -> bool:
        return True

    @property
    def is_placed(self) -> bool:
        """Whether it is known where to look for the model's file."""
        known = self.folder is not None or Path(self.model).is_absolute()
        return known or self.model.startswith(PACKAGE_PREFIX)

    def model_path(self) -> Path:
        """The model's file, which must exist."""
        if self.model.startswith(PACKAGE_PREFIX):
            path = _in_package(self.model.removeprefix(PACKAGE_PREFIX))
        elif self.is_placed:
            path = (self.folder or Path()) / self.model
        else:
            raise PosaError(
                f"the robot model {self.model} lies beside a rig file, and nothing says where that is: load the rig "
                f"from its file, or name the model by its whole path or as {PACKAGE_PREFIX}NAME/PATH"
            )
        if not path.is_file():
            raise PosaError(
                f"there is no robot model {path}: model: takes a file relative to the rig file, or "
                f"{PACKAGE_PREFIX}NAME/PATH for a file of an installed Python package"
            )
        return path


@dataclass(frozen=True)
class GripperCommand:
    """The commanded gripper: one number of a dataset column, and what it reads open and closed.

    Args:
        column: dataset column.
        index: which of its numbers.
        open: its value when told to open.
        closed: its value when told to close.
    """

    column: str
    index: int
    open: float
    closed: float

    def __post_init__(self) -> None:
        if self.open == self.closed:
            raise PosaError(f"gripper command: open and closed must differ, got {self.open} for both")
        _check_indices((self.index,))


@dataclass(frozen=True)
class GripperWidth:
    """The measured distance between the fingers: the sum of the sizes of some numbers of a column.

    Args:
        column: dataset column.
        indices: the finger positions in it, metres from shut; their signs do not matter.
        open: the distance of the opened gripper in metres.
    """

    column: str
    indices: tuple[int, ...]
    open: float

    def __post_init__(self) -> None:
        if not self.indices or self.open <= 0:
            raise PosaError(f"gripper width: expected finger indices and open > 0, got {self.indices} and {self.open}")
        _check_indices(self.indices)


@dataclass(frozen=True)
class GripperSource:
    """Where interactions come from. At least one of command and width; the command wins where both are.

    Args:
        command: the commanded gripper, or None on a robot that does not record it.
        width: the measured fingers, or None: then a close on nothing cannot be told from a grasp.
        thresholds: hysteresis, debouncing and the width that counts as shut.
    """

    command: GripperCommand | None = None
    width: GripperWidth | None = None
    thresholds: InteractionConfig = field(default_factory=InteractionConfig)

    def __post_init__(self) -> None:
        if self.command is None and self.width is None:
            raise PosaError("gripper: expected a command, a width, or both, got neither")


def _check_indices(indices: tuple[int, ...]) -> None:
    if min(indices) < 0 or len(set(indices)) != len(indices):
        raise PosaError(f"expected different indices, counted from 0, got {list(indices)}")


def _check_tool(tool: tuple[float, ...]) -> None:
    if len(tool) != 3 or max(abs(number) for number in tool) > 1:
        raise PosaError(f"tool: expected x, y, z in metres, none over 1 m, got {list(tool)}")


def _in_package(name: str) -> Path:
    """``robosuite/models/x.xml`` in the folder of the installed package, which is not imported."""
    package, _, path = name.partition("/")
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PosaError(f"the robot model {PACKAGE_PREFIX}{name} needs the Python package {package!r}: install it")
    return Path(spec.submodule_search_locations[0]) / path
