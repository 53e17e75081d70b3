"""From where the network looks: pinhole cameras as tensors, seen through the window that was cut from each picture.

In float32 whatever autocast says: the eight bits of a bfloat16 are millimetres at arm's length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Views:
    """B observations by C cameras. Image coordinates are those of the window, divided by its width and height.

    Args:
        focal: (B, C, 2): u = focal · x / z + centre; negative along an axis on which the picture is mirrored.
        centre: (B, C, 2), the principal point.
        zoom: (B, C): a point's depth in metres over the one it seems to have in a magnified window.
        world_from_cam: (B, C, 4, 4), camera frame (x right, y down, z forward) to the robot's world frame, metres.
        workspace: (2, 3), lowest and highest corner (m, world) of where the hand works.
    """

    focal: Tensor
    centre: Tensor
    zoom: Tensor
    world_from_cam: Tensor
    workspace: Tensor

    def unproject(self, uv: Tensor, depth: Tensor) -> Tensor:
        """uv (B, C, K, 2) and depth (B, C, K), both as in the window -> points (B, C, K, 3), world, metres."""
        slope = (uv.float() - self.centre.unsqueeze(2)) / self.focal.unsqueeze(2)  # x / z, y / z
        z = (depth.float() * self.zoom.unsqueeze(2)).unsqueeze(-1)  # (B, C, K, 1)
        points = torch.cat([slope * z, z], dim=-1)
        rotation, position = self.world_from_cam[..., :3, :3], self.world_from_cam[..., :3, 3]
        with torch.autocast(uv.device.type, enabled=False):
            return torch.einsum("bcij,bckj->bcki", rotation, points) + position.unsqueeze(2)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse: points (B, K, 3), world, metres -> uv (B, C, K, 2) and depth (B, C, K) in the window."""
        rotation, position = self.world_from_cam[..., :3, :3], self.world_from_cam[..., :3, 3]
        from_camera = points.float().unsqueeze(1) - position.unsqueeze(2)
        with torch.autocast(points.device.type, enabled=False):
            seen = torch.einsum("bcji,bckj->bcki", rotation, from_camera)
        uv = seen[..., :2] / seen[..., 2:] * self.focal.unsqueeze(2) + self.centre.unsqueeze(2)
        return uv, seen[..., 2] / self.zoom.unsqueeze(2)

    def normalise(self, points: Tensor) -> Tensor:
        """Points (..., 3), world, metres -> the same in units of the workspace, 0 … 1 inside."""
        low, high = self.workspace
        return (points - low) / (high - low)
