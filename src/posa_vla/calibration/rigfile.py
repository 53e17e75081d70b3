"""Rig files: one is created, or one camera of it replaced or added; `posa-vla label` takes the result."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from posa_vla.anchors.camera import Camera
from posa_vla.data.files import write_bytes
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig, parse_rig, parse_rig_file, read_rig_file

DECIMALS = 9
NEW_POSE = {"position": [0, 1, 2], "rotation_format": "quaternion_wxyz"}
NEW_COMMAND = {"index": 6, "open": -1.0, "closed": 1.0}
"""What a new rig has where the flags say nothing."""
PLACEHOLDER = {
    "name": "none", "mount": "world", "width": 1, "height": 1, "fx": 1.0, "fy": 1.0, "cx": 0.0, "cy": 0.0,
    "cam_from_mount": np.eye(4).tolist(),
}  # fmt: skip
"""Stands in a new rig until its first camera is calibrated: a rig without a camera is none."""


@dataclass
class PoseArgs:
    """Where a new rig finds the EE pose. What is given for a rig file that exists must be what stands there.

    Args:
        column: dataset column, e.g. observation.state.
        position: its indices of x, y, z (metres); by default 0, 1, 2.
        rotation: its indices of the rotation; by default 3, 4, 5, …
        rotation_format: quaternion_wxyz (default), quaternion_xyzw, axis_angle, euler_xyz, or none.
        tool: metres, the point between the fingertips in the recorded frame: it is marked, and it is labelled; by
            default 0, 0, 0.
    """

    column: str | None = None
    position: list[int] | None = None
    rotation: list[int] | None = None
    rotation_format: str | None = None
    tool: list[float] | None = None


@dataclass
class GripperArgs:
    """Where a new rig finds the commanded gripper. For a rig file that exists as with the pose.

    Args:
        column: dataset column, e.g. action; None: the rig has no gripper.
        index: which of its numbers; by default 6, the one after six joints or a pose of six numbers.
        open: its value when told to open; by default -1.
        closed: its value when told to close; by default 1.
    """

    column: str | None = None
    index: int | None = None
    open: float | None = None
    closed: float | None = None


@dataclass(frozen=True)
class RigFile:
    """A rig file that exists or is to be.

    Args:
        path: where it is or will be.
        content: as YAML holds it.
        rig: the same, parsed; its one camera is a placeholder where the file is new or has none yet.
        remarks: comment lines at the head of an existing file, kept.
    """

    path: Path
    content: dict[str, Any]
    rig: Rig
    remarks: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        return self.content["cameras"] == [PLACEHOLDER]

    def changed(self, name: str) -> str:
        """The file, and what writing the named camera does to a camera that was there; of a new one, what it lacks."""
        if self.is_new and self.rig.gripper is None:
            return f"{self.path}, without a gripper (add its block if the robot has one)"
        replaced = not self.is_new and name in self.rig.camera_names
        return f"{self.path}, whose camera {name} is replaced" if replaced else str(self.path)

    def with_camera(self, camera: Camera, remark: str) -> Rig:
        """Writes the file with this camera (replaced or added) and a comment that says where it came from.

        YAML forgets comments: those at the head are kept, others are lost.
        """
        entry = camera_entry(camera)
        cameras = [] if self.is_new else list(self.content["cameras"])
        names = [item["name"] for item in cameras]
        if camera.name in names:
            cameras[names.index(camera.name)] = entry
        else:
            cameras.append(entry)
        content = {**self.content, "cameras": cameras}
        rig = parse_rig(content, self.path.parent)
        mine = f"# {camera.name}: "
        kept = [line for line in self.remarks if not line.startswith(mine)]
        text = "\n".join([*kept, mine + remark, _dump(content)])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.path, text.encode())
        except OSError as error:
            raise PosaError(f"cannot write the rig {self.path}: {error}") from error
        return rig


def open_rig(path: Path, pose: PoseArgs, gripper: GripperArgs) -> RigFile:
    """The rig file at ``path``, which may lack cameras still, or a new one from the flags; nothing is written yet."""
    if path.suffix not in (".yaml", ".yml"):
        raise PosaError(f"--rig={path}: expected the path of a .yaml file, to be updated or created")
    if path.exists():
        found = read_rig_file(path)
        if isinstance(found, dict) and not found.get("cameras"):
            found |= {"cameras": [PLACEHOLDER]}
        rig = parse_rig_file(found, path)
        if rig.scenes:
            raise PosaError(f"{path} places its cameras scene by scene: write the calibrated camera there by hand")
        _check_flags(path, rig, pose, gripper)
        lines = path.read_text(encoding="utf-8").splitlines()
        length = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
        return RigFile(path, found, rig, tuple(lines[:length]))
    if pose.column is None:
        raise PosaError(f"{path} does not exist yet: a new rig needs --pose.column=COLUMN of the dataset")
    if gripper.column is None and _given(gripper):
        raise PosaError("--gripper.index, open and closed are about a column: give --gripper.column=COLUMN too")
    content: dict[str, Any] = {
        "name": path.stem,
        "cameras": [PLACEHOLDER],
        "pose": {"column": pose.column, **NEW_POSE, **_given(pose)},
    }
    if gripper.column is not None:
        content["gripper"] = {"command": {"column": gripper.column, **NEW_COMMAND, **_given(gripper)}}
    return RigFile(path, content, parse_rig(content, path.parent))


def _given(args: PoseArgs | GripperArgs) -> dict[str, Any]:
    """The flags that were given, by field."""
    return {item.name: getattr(args, item.name) for item in fields(args) if getattr(args, item.name) is not None}


def _check_flags(path: Path, rig: Rig, pose: PoseArgs, gripper: GripperArgs) -> None:
    """An error where flags say something else than the rig file that exists: it alone says where pose and gripper are.

    The cameras in it were calibrated with what it says, so it is not changed in passing.
    """
    command = None if rig.gripper is None else rig.gripper.command
    blocks = (("pose", pose, rig.pose), ("gripper", gripper, command))
    for block, args, source in blocks:
        for name, value in _given(args).items():
            found = getattr(source, name, None)
            if found != (tuple(value) if isinstance(value, list) else value):
                said = "none" if found is None else list(found) if isinstance(found, tuple) else found
                raise PosaError(
                    f"--{block}.{name}={value} was given, but {path} exists and has {block} {name}: {said}: leave "
                    f"--pose.* and --gripper.* out, or change the file's {block} block and calibrate its cameras again"
                )


def camera_entry(camera: Camera) -> dict[str, Any]:
    """A camera as a rig file spells it."""
    numbers = {key: round(float(getattr(camera, key)), DECIMALS) for key in ("fx", "fy", "cx", "cy")}
    entry: dict[str, Any] = {"name": camera.name, "mount": str(camera.mount)}
    entry |= {"width": int(camera.width), "height": int(camera.height), **numbers}
    entry |= {flip: True for flip in ("flip_horizontal", "flip_vertical") if getattr(camera, flip)}
    entry["cam_from_mount"] = [[round(float(x), DECIMALS) for x in row] for row in camera.cam_from_mount]
    return entry


def _dump(content: dict[str, Any]) -> str:
    """Block style, but lists of numbers on one line, as in the rigs that ship with the package."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = all(isinstance(item, int | float) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


_Dumper.add_representer(list, _list)
