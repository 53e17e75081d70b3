"""Robot set-ups: which cameras there are, where the hand's pose and the gripper's command are recorded.

One YAML file per set-up. `load_rig` takes the name of one that ships with the package, or a path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from posa_vla.anchors.camera import Camera, check_principal_point
from posa_vla.anchors.interaction import InteractionConfig
from posa_vla.contract import OBS_STATE
from posa_vla.errors import PosaError, unknown_name
from posa_vla.rigs.parsing import build, list_of, mapping_of, to_plain
from posa_vla.rigs.scenes import Scene, choose_scene, plain
from posa_vla.rigs.sources import GripperCommand, GripperSource, GripperWidth, JointSource, PoseSource

ROBOT_MODEL = "robot_model"
"""Key of the labels' provenance: the joints' robot model as text: a labelled dataset needs no file beside it."""


@dataclass(frozen=True)
class Rig:
    """A robot set-up.

    Args:
        name: as reports print it.
        cameras: in the order of every camera axis (contract). A camera without cam_from_mount stands somewhere
            else in each scene: `in_scene` and `for_episode` give the rig that knows where.
        pose: where the EE pose is, or the joints it follows from.
        gripper: where the gripper is; None on a robot without one (a pusher, a camera on an arm).
        any_image_size: images of another size but equal proportions are the same view resampled. True for a
            simulator; a real camera may crop instead, so other sizes are refused there.
        scenes: placements of the cameras that hold for some of the episodes; empty where one holds for all.
        state_pose: the EE pose in ``observation.state``, where ``pose`` is recorded elsewhere: a policy sees the state
            alone, and a camera on the hand tells it places in space only with the hand's pose.
    """

    name: str
    cameras: tuple[Camera, ...]
    pose: PoseSource | JointSource
    gripper: GripperSource | None = None
    any_image_size: bool = False
    scenes: tuple[Scene, ...] = ()
    state_pose: PoseSource | None = None

    def __post_init__(self) -> None:
        names = self.camera_names
        if not names or len(set(names)) != len(names):
            raise PosaError(f"rig {self.name!r}: expected cameras with different names, got {list(names)}")
        for camera in self.cameras:
            check_principal_point(camera)
            if camera.mount == "end_effector" and not self.pose.has_rotation:
                raise PosaError(
                    f"camera {camera.name!r} turns with the hand, but the pose has no rotation (rotation_format: none):"
                    " give the pose a rotation, leave the camera out, or mount it end_effector_position if it never "
                    "turns"
                )
        if self.state_pose is not None and self.state_pose.column != OBS_STATE:
            raise PosaError(f"state_pose: expected column: {OBS_STATE}, got {self.state_pose.column!r}")
        self._check_scenes()

    def _check_scenes(self) -> None:
        names = self.scene_names
        if len(set(names)) != len(names):
            raise PosaError(f"rig {self.name!r}: expected scenes with different names, got {list(names)}")
        owner: dict[str, str] = {}
        for scene in self.scenes:
            for task in map(plain, scene.tasks):
                if owner.setdefault(task, scene.name) != scene.name:
                    raise PosaError(f"the scenes {owner[task]!r} and {scene.name!r} both name the task {task!r}")
            for name in scene.cam_from_mount:
                self.camera(name)
        for rig in map(self.in_scene, names) if self.scenes else [self]:
            for camera in rig.cameras:
                if not camera.is_placed:
                    raise PosaError(f"camera {camera.name!r}: the field 'cam_from_mount' is missing in {rig.name!r}")

    @property
    def pose_in_state(self) -> PoseSource | None:
        """Where ``observation.state`` holds the EE pose, or None where it does not."""
        if self.state_pose is None and isinstance(self.pose, PoseSource) and self.pose.column == OBS_STATE:
            return self.pose
        return self.state_pose

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    @property
    def scene_names(self) -> tuple[str, ...]:
        return tuple(scene.name for scene in self.scenes)

    def camera(self, name: str) -> Camera:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise unknown_name(f"camera of rig {self.name!r}:", name, self.camera_names)

    def in_scene(self, name: str) -> "Rig":
        """The rig with its cameras where they stand in the named scene; it has no scenes itself."""
        for scene in self.scenes:
            if scene.name == name:
                cameras = tuple(
                    replace(camera, cam_from_mount=scene.cam_from_mount.get(camera.name, camera.cam_from_mount))
                    for camera in self.cameras
                )
                return replace(self, name=f"{self.name}/{name}", cameras=cameras, scenes=())
        raise unknown_name(f"scene of rig {self.name!r}:", name, self.scene_names or ["(it has none)"])

    def for_episode(self, tasks: Sequence[str], episode: int) -> "Rig":
        """The rig as it stands in an episode with these sentences; itself where it has no scenes."""
        return self.in_scene(choose_scene(self.scenes, tasks, episode, self.name).name) if self.scenes else self

    def to_dict(self) -> dict[str, Any]:
        """What the YAML file holds, defaults filled in: plain numbers, strings, lists and dicts."""
        content = to_plain(self)
        if isinstance(self.pose, JointSource):
            content["pose"] = {"joints": content["pose"]}
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
    return parse_rig_file(read_rig_file(path), path)


def read_rig_file(path: Path) -> Any:
    """What a rig's YAML file holds."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PosaError(f"there is no rig file {path}: give a .yaml file or one of {rig_names()}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PosaError(f"cannot read the rig file {path}: {error}") from error


def parse_rig_file(content: Any, path: Path) -> Rig:
    """`parse_rig` for what stands in `path`, which errors name."""
    try:
        return parse_rig(content, path.parent)
    except (PosaError, TypeError, ValueError) as error:
        raise PosaError(f"rig file {path}: {error}") from error


def parse_rig(content: Any, folder: Path | None = None) -> Rig:
    """A rig from what its YAML file holds; unknown and missing fields are errors.

    Args:
        content: the file's mapping.
        folder: the file's folder, for the robot model that it may name.
    """
    top = mapping_of(Rig, content, "rig")
    top |= {
        "cameras": list_of(Camera, top["cameras"], "cameras"),
        "pose": _pose(top["pose"], folder),
        "gripper": None if top.get("gripper") is None else _gripper(top["gripper"]),
        "scenes": list_of(Scene, top.get("scenes") or [], "scenes"),
    }
    if top.get("state_pose") is not None:
        top["state_pose"] = build(PoseSource, top["state_pose"], "state_pose")
    return Rig(**top)


def parse_recorded_rig(provenance: Mapping[str, Any]) -> Rig:
    """The rig in a labelled dataset's provenance, with the robot model that is kept there.

    Raises:
        KeyError: the provenance has no rig.
        PosaError: its rig is damaged.
    """
    rig = parse_rig(provenance["rig"])
    if not isinstance(rig.pose, JointSource):
        return rig
    return replace(rig, pose=replace(rig.pose, kept_model=provenance.get(ROBOT_MODEL)))


def _pose(content: Any, folder: Path | None) -> PoseSource | JointSource:
    if not isinstance(content, dict) or "joints" not in content:
        return build(PoseSource, content, "pose")
    if len(content) > 1:
        others = ", ".join(name for name in content if name != "joints")
        raise PosaError(f"pose: expected either joints or a recorded pose, got joints beside {others}")
    return build(JointSource, content["joints"], "pose.joints", folder)


def _gripper(content: Any) -> GripperSource:
    gripper = mapping_of(GripperSource, content, "gripper")
    parts = {"command": GripperCommand, "width": GripperWidth, "thresholds": InteractionConfig}
    return GripperSource(
        **{key: build(parts[key], value, f"gripper.{key}") for key, value in gripper.items() if value is not None}
    )


__all__ = [
    "ROBOT_MODEL",
    "GripperCommand",
    "GripperSource",
    "GripperWidth",
    "JointSource",
    "PoseSource",
    "Rig",
    "Scene",
    "load_rig",
    "parse_recorded_rig",
    "parse_rig",
    "parse_rig_file",
    "read_rig_file",
    "rig_names",
]
