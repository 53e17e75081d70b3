"""The rig as a checkpoint carries it: what turns an anchor's pixel and depth into a point in the robot's frame.

Training takes it from the labels' provenance (`contract.ANCHORS_FILE`); config.json keeps it, so that acting needs no
dataset and no rig file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posa_vla.anchors.camera import Camera
from posa_vla.contract import ANCHORS_FILE, OBS_STATE
from posa_vla.data.augmentation import Windows
from posa_vla.errors import PosaError
from posa_vla.model.views import Views
from posa_vla.rigs import Rig, parse_rig

WORKSPACE = "workspace"
"""Key of the provenance: lowest and highest position (m, world) that the hand has in the dataset."""

LEAST_SIDE = 0.05
"""Metres; a side of the workspace along which the hand hardly moved is widened to this."""


@dataclass
class CameraGeometry:
    """One camera, whatever the size of its pictures.

    Args:
        name: of ``observation.images.<name>``.
        mount: see `posa_vla.anchors.camera.Camera`.
        focal: fractions of the stored picture's width and height; negative where it is mirrored.
        centre: the principal point, likewise.
        cam_from_mount: (4, 4), metres.
    """

    name: str
    mount: str
    focal: list[float]
    centre: list[float]
    cam_from_mount: list[list[float]]

    @classmethod
    def of(cls, camera: Camera) -> "CameraGeometry":
        focal = [camera.fx / camera.width, camera.fy / camera.height]
        centre = [(camera.cx + 0.5) / camera.width, (camera.cy + 0.5) / camera.height]
        for axis, mirrored in enumerate((camera.flip_horizontal, camera.flip_vertical)):
            if mirrored:
                focal[axis], centre[axis] = -focal[axis], 1 - centre[axis]
        return cls(camera.name, camera.mount, focal, centre, camera.cam_from_mount.tolist())


@dataclass
class RigGeometry:
    """Cameras in the policy's order, the hand's pose in the state, and the workspace.

    Args:
        rig: its name, for messages.
        cameras: in the policy's order.
        position: indices of the hand's position (m, world) in ``observation.state``; none where all cameras stand in
            the world.
        rotation: indices of its rotation.
        rotation_format: see `posa_vla.anchors.pose`.
        workspace: lowest and highest corner (m, world) of where the hand works.
    """

    rig: str
    cameras: list[CameraGeometry]
    position: list[int]
    rotation: list[int]
    rotation_format: str
    workspace: list[list[float]]

    def views(self, state: Tensor, windows: Windows) -> Views:
        """The views of B observations, in float32 whatever autocast says.

        Args:
            state: (B, S), as recorded, not normalised.
            windows: what of each picture (B, C) the network sees.
        """
        B, device = len(state), state.device
        windows = windows.to(device)
        focal = torch.tensor([camera.focal for camera in self.cameras], device=device)  # (C, 2)
        centre = torch.tensor([camera.centre for camera in self.cameras], device=device)
        with torch.autocast(device.type, enabled=False):
            mounts = {mount: self._world_from_mount(state, mount) for mount in {c.mount for c in self.cameras}}
            poses = [mounts[c.mount] @ _inverse(c.cam_from_mount).to(device).expand(B, 4, 4) for c in self.cameras]
        return Views(
            focal=focal * windows.scale,
            centre=centre * windows.scale + windows.offset,
            zoom=windows.zoom,
            world_from_cam=torch.stack(poses, dim=1),
            workspace=torch.tensor(self.workspace, device=device),
        )

    def _world_from_mount(self, state: Tensor, mount: str) -> Tensor:
        """(B, 4, 4)."""
        matrix = torch.eye(4, device=state.device).repeat(len(state), 1, 1)
        if mount == "world":
            return matrix
        matrix[:, :3, 3] = state[:, self.position].float()
        if mount == "end_effector":
            matrix[:, :3, :3] = rotation_matrix(state[:, self.rotation].float(), self.rotation_format)
        return matrix


def rotation_matrix(rotation: Tensor, form: str) -> Tensor:
    """`posa_vla.anchors.pose.rotation_matrix` on tensors: (B, 3 or 4) -> (B, 3, 3)."""
    if form == "axis_angle":
        x, y, z = rotation.unbind(-1)
        zero = torch.zeros_like(x)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
        return torch.linalg.matrix_exp(skew)
    if form == "euler_xyz":
        about_axes = torch.diag_embed(rotation).unbind(-2)  # 3 axis-angle vectors (B, 3)
        roll, pitch, yaw = (rotation_matrix(vector, "axis_angle") for vector in about_axes)
        return yaw @ pitch @ roll
    if form == "quaternion_xyzw":
        rotation = rotation.roll(1, -1)
    w, x, y, z = (rotation / rotation.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _inverse(cam_from_mount: list[list[float]]) -> Tensor:
    return torch.linalg.inv(torch.tensor(cam_from_mount, dtype=torch.float64)).float()


def read_geometry(root: Path, cameras: tuple[str, ...]) -> RigGeometry:
    """The geometry of a labelled dataset, for the policy's cameras."""
    path = Path(root) / ANCHORS_FILE
    again = "label the dataset again with `posa-vla label`, or train with --policy.point_tokens=false"
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
        rig = _placed(parse_rig(provenance["rig"]), provenance)
        workspace = provenance[WORKSPACE]
    except FileNotFoundError:
        raise PosaError(f"point_tokens needs the cameras' calibration, found no {path}: {again}") from None
    except (OSError, ValueError, KeyError) as error:
        raise PosaError(f"point_tokens needs the rig and the workspace in {path}, found no {error}: {again}") from error
    return from_rig(rig, cameras, workspace)


def from_rig(rig: Rig, cameras: tuple[str, ...], workspace: list[list[float]]) -> RigGeometry:
    """The geometry of some of a rig's cameras."""
    chosen = [rig.camera(name) for name in cameras]
    pose = rig.pose_in_state
    for camera in chosen:
        if camera.mount != "world" and (pose is None or (camera.mount == "end_effector" and not pose.has_rotation)):
            raise PosaError(
                f"point_tokens needs the hand's pose in {OBS_STATE}, because the camera {camera.name!r} moves with the "
                f"hand: name its numbers in the rig {rig.name!r} under state_pose and label the dataset again, or "
                "choose other cameras with --policy.input_features"
            )
    low, high = torch.tensor(workspace)
    half = ((high - low) / 2).clamp(min=LEAST_SIDE / 2)
    middle = (low + high) / 2
    return RigGeometry(
        rig=rig.name,
        cameras=[CameraGeometry.of(camera) for camera in chosen],
        position=list(pose.position) if pose else [],
        rotation=list(pose.rotation) if pose else [],
        rotation_format=pose.rotation_format if pose else "none",
        workspace=torch.stack([middle - half, middle + half]).tolist(),
    )


def _placed(rig: Rig, provenance: dict[str, Any]) -> Rig:
    """The rig with its cameras where they stand in all of the dataset's episodes."""
    if not rig.scenes:
        return rig
    names = [name.removeprefix(f"{rig.name}/") for name in provenance["scenes"]]
    if len(names) != 1:
        raise PosaError(
            f"point_tokens needs cameras that stay in place, those of the rig {rig.name!r} stand in {len(names)} "
            f"scenes in this dataset ({', '.join(names)}): train on one of them, or with --policy.point_tokens=false"
        )
    return rig.in_scene(names[0])
