"""Robot set-ups: which cameras there are, where the hand's pose and the gripper's command are recorded.

One YAML file per set-up. `load_rig` takes the name of one that ships with the package, or a path.
"""

from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.interaction import InteractionConfig
from posa_vla.anchors.pose import ROTATION_SIZES, RotationFormat
from posa_vla.errors import PosaError, unknown_name


@dataclass(frozen=True)
class PoseSource:
    """Which numbers of a dataset column are the end effector's pose in the world frame.

    Args:
        column: dataset column.
        position: its three indices of x, y, z in metres.
        rotation: its indices of the rotation, in the order of ``rotation_format``.
        rotation_format: quaternion_wxyz, quaternion_xyzw (unit) or axis_angle (rad).
    """

    column: str
    position: tuple[int, ...] = (0, 1, 2)
    rotation: tuple[int, ...] = (3, 4, 5, 6)
    rotation_format: RotationFormat = "quaternion_wxyz"

    def __post_init__(self) -> None:
        if self.rotation_format not in ROTATION_SIZES:
            raise unknown_name("rotation format", str(self.rotation_format), ROTATION_SIZES)
        sizes = (len(self.position), len(self.rotation))
        expected = (3, ROTATION_SIZES[self.rotation_format])
        if sizes != expected:
            raise PosaError(
                f"a pose needs {expected[0]} position and {expected[1]} {self.rotation_format} indices, "
                f"got {sizes[0]} and {sizes[1]}"
            )


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


@dataclass(frozen=True)
class Rig:
    """A robot set-up.

    Args:
        name: as reports print it.
        cameras: in the order of every camera axis (contract).
        pose: where the EE pose is.
        gripper: where the gripper is.
        any_image_size: images of another size but equal proportions are the same view resampled. True for a
            simulator; a real camera may crop instead, so other sizes are refused there.
    """

    name: str
    cameras: tuple[Camera, ...]
    pose: PoseSource
    gripper: GripperSource
    any_image_size: bool = False

    def __post_init__(self) -> None:
        names = self.camera_names
        if not names or len(set(names)) != len(names):
            raise PosaError(f"rig {self.name!r}: expected cameras with different names, got {list(names)}")

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    def camera(self, name: str) -> Camera:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise unknown_name(f"camera of rig {self.name!r}:", name, self.camera_names)

    def to_dict(self) -> dict[str, Any]:
        """What the YAML file holds, defaults filled in: plain numbers, strings, lists and dicts."""
        content = _plain(asdict(self))
        assert isinstance(content, dict)
        return content


def rig_names() -> list[str]:
    """Names of the rigs that ship with the package."""
    files = resources.files(__name__).iterdir()
    return sorted(Path(file.name).stem for file in files if file.name.endswith(".yaml"))


def load_rig(name_or_path: str | Path) -> Rig:
    """A rig by name (``tabletop``) or from a YAML file (anything that ends in .yaml or .yml)."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in rig_names():
            raise unknown_name("rig", str(name_or_path), [*rig_names(), "or the path of a .yaml file"])
        path = Path(str(resources.files(__name__).joinpath(f"{name_or_path}.yaml")))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PosaError(f"there is no rig file {path}: give a .yaml file or one of {rig_names()}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PosaError(f"cannot read the rig file {path}: {error}") from error
    try:
        return parse_rig(content)
    except (PosaError, TypeError, ValueError) as error:
        raise PosaError(f"rig file {path}: {error}") from error


def parse_rig(content: Any) -> Rig:
    """A rig from what its YAML file holds; unknown and missing fields are errors."""
    top = _fields(Rig, content, "rig")
    if not isinstance(top["cameras"], list):
        raise PosaError(f"cameras: expected a list, got {type(top['cameras']).__name__}")
    cameras = [_build(Camera, camera, f"cameras[{position}]") for position, camera in enumerate(top["cameras"])]
    gripper = _fields(GripperSource, top["gripper"], "gripper")
    parts = {"command": GripperCommand, "width": GripperWidth, "thresholds": InteractionConfig}
    sources = {key: _build(parts[key], value, f"gripper.{key}") for key, value in gripper.items() if value is not None}
    top |= {
        "cameras": tuple(cameras),
        "pose": _build(PoseSource, top["pose"], "pose"),
        "gripper": GripperSource(**sources),
    }
    return Rig(**top)


def _fields(kind: type, content: Any, where: str) -> dict[str, Any]:
    """The mapping itself, once it has all of the dataclass' required fields and no other."""
    if not isinstance(content, dict):
        raise PosaError(f"{where}: expected a mapping, got {type(content).__name__}")
    known = {item.name: item for item in fields(kind)}
    for name in content:
        if name not in known:
            raise unknown_name(f"field of {where}:", str(name), known)
    for name, item in known.items():
        if name not in content and item.default is item.default_factory:  # both MISSING: required
            raise PosaError(f"{where}: the field {name!r} is missing")
    return dict(content)


def _build(kind: type, content: Any, where: str) -> Any:
    """An instance of the dataclass ``kind``; lists of integers become tuples, matrices arrays."""
    values = _fields(kind, content, where)
    for name, value in values.items():
        if name == "cam_from_mount":
            values[name] = np.array(value, dtype=np.float64)
        elif isinstance(value, list):
            values[name] = tuple(int(number) for number in value)
    try:
        return kind(**values)
    except TypeError as error:
        raise PosaError(f"{where}: a field has the wrong type ({error})") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
