"""What the policy looked at, in the coordinates of the whole camera image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from posa_vla.contract import TASK_ANCHOR
from posa_vla.data.augmentation import Size, uncrop_uv
from posa_vla.model.network import Sight


@dataclass(frozen=True)
class AttentionView:
    """Where B observations are looked at in C cameras; the anchors are task and end, in this order.

    Without the end anchor (a switch of the network) its maps and confidences are zero and its points NaN; so are
    those of a true anchor (maps=ground_truth) that is unknown or out of the picture.

    Args:
        maps: (B, C, 2, Hp, Wp) in [0, 1] on a grid over the whole image; zero where the network saw nothing.
        uv: (B, C, 2, 2), soft-argmax of the maps as fractions of the image's width and height, or the true points.
        confidence: (B, C, 2) in [0, 1], the highest value of each map; 1 for a true point.
        depth: (B, C, 2), metres along the optical axis; None where the policy tells none.
        points: (B, 2, 3), metres, the robot's world frame, from all cameras together; None without `point_tokens`.
    """

    maps: Tensor
    uv: Tensor
    confidence: Tensor
    depth: Tensor | None = None
    points: Tensor | None = None


def view_of(sight: Sight, image_size: tuple[int, int], output_size: Size) -> AttentionView:
    """From the centre crop the network saw to the image it was cut from.

    Args:
        sight: its focus has maps (B, C, K, P) over the crop.
        image_size: height and width of the whole image in pixels.
        output_size: height and width of the crop, as `centre_crop` took it.
    """
    confidence = sight.focus.confidence.float()
    uv = sight.focus.uv.float().masked_fill(confidence.unsqueeze(-1) == 0, torch.nan)  # (B, C, K, 2)
    maps = _uncrop_maps(sight.maps.float(), image_size, output_size)
    depth = None if sight.focus.depth is None else sight.focus.depth.masked_fill(confidence == 0, torch.nan)
    points = None if sight.points is None else sight.points.position
    view = AttentionView(maps, uncrop_uv(uv, image_size, output_size), confidence, depth, points)
    return view if maps.shape[2] == 2 else _without_end(view)


def _without_end(view: AttentionView) -> AttentionView:
    task = slice(TASK_ANCHOR, TASK_ANCHOR + 1)
    return AttentionView(
        maps=torch.cat([view.maps[:, :, task], torch.zeros_like(view.maps[:, :, task])], dim=2),
        uv=_with_nan(view.uv[:, :, task], 2),
        confidence=torch.cat([view.confidence[:, :, task], torch.zeros_like(view.confidence[:, :, task])], dim=2),
        depth=None if view.depth is None else _with_nan(view.depth, 2),
        points=None if view.points is None else _with_nan(view.points, 1),
    )


def _with_nan(of_task: Tensor, dim: int) -> Tensor:
    """The task anchor's values, and NaN where the end anchor's would stand."""
    return torch.cat([of_task, torch.full_like(of_task, torch.nan)], dim=dim)


def _uncrop_maps(maps: Tensor, image_size: tuple[int, int], output_size: Size) -> Tensor:
    """Maps (B, C, K, Hp, Wp) over the crop, resampled to a grid of about equal spacing over the whole image."""
    B, C, K, Hp, Wp = maps.shape
    corners = uncrop_uv(maps.new_tensor([[0.0, 0.0], [1.0, 1.0]]), image_size, output_size)
    (left, top), (right, bottom) = corners.tolist()
    rows, columns = round(Hp / (bottom - top)), round(Wp / (right - left))
    v = ((torch.arange(rows, device=maps.device) + 0.5) / rows - top) / (bottom - top)  # in the crop
    u = ((torch.arange(columns, device=maps.device) + 0.5) / columns - left) / (right - left)
    grid = torch.stack(torch.broadcast_tensors(u[None, :], v[:, None]), dim=-1)  # (rows, columns, 2)
    inside = ((grid >= 0) & (grid <= 1)).all(-1)
    whole = F.grid_sample(
        maps.reshape(1, B * C * K, Hp, Wp), (2 * grid - 1)[None], padding_mode="border", align_corners=False
    )
    return (whole * inside).view(B, C, K, rows, columns)
