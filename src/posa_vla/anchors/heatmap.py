"""Anchor labels to supervision on a patch grid: Gaussian maps and positive sets Ω+ (docs/method.md).

Torch, on the device the anchors are on, without a Python loop and without a host synchronisation, so that
it runs inside a training step after augmentation has moved the anchors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SIGMA_TASK = 1 / 10  # paper, Sec. 3.1: fractions of min(W, H)
SIGMA_END = 1 / 15
TAU_POSITIVE = 0.7  # paper, Eq. 6


@dataclass(frozen=True)
class AnchorTargets:
    """What a batch of anchors supervises, B samples × C cameras × 2 anchors (task, end).

    Args:
        maps: F, float (B, C, 2, Hp, Wp), in [0, 1]; all zero where the anchor is unknown, out of frame or
            behind the camera. The last two are known negatives: the network is trained to that zero.
        known: bool (B, C, 2); False masks the anchor out of the spatial loss.
        in_frame: bool (B, C, 2); known, in front of the camera and inside the image.
        weight: float (B, C, 2); the label's visibility where it is known, else 0.
        nearest: int64 (B, C, 2); flat index r·Wp + c of the patch that holds the anchor (clamped).
    """

    maps: Tensor
    known: Tensor
    in_frame: Tensor
    weight: Tensor
    nearest: Tensor


def anchor_maps(
    anchors: Tensor,
    grid: tuple[int, int],
    image_size: tuple[float, float] | None = None,
    sigma_task: float = SIGMA_TASK,
    sigma_end: float = SIGMA_END,
) -> AnchorTargets:
    """F[r, c] = exp(−((x_c − u·W)² + (y_r − v·H)²) / (2σ²)) at the patch centres x_c = (c + ½)·W/Wp.

    Args:
        anchors: (B, C, 2, 4), contract `ANCHORS`: u, v (fractions of width, height), depth (m), visibility.
        grid: (Hp, Wp), rows and columns of patches.
        image_size: (W, H) in any unit: only their ratio matters. None: a square image.
        sigma_task: σ of the task anchor in units of min(W, H).
        sigma_end: σ of the end anchor in units of min(W, H).
    """
    if anchors.ndim != 4 or anchors.shape[2:] != (2, 4):
        raise ValueError(f"expected anchors of shape (B, C, 2, 4), got {tuple(anchors.shape)}")
    rows, columns = grid
    width, height = image_size or (1, 1)
    short_side = min(width, height)
    u, v, depth, visibility = anchors.unbind(-1)  # each (B, C, 2)

    known = visibility >= 0
    in_frame = known & (depth > 0) & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)

    sigma = anchors.new_tensor([sigma_task, sigma_end])
    # The Gaussian separates: one exp per row and per column instead of one per patch.
    across = _gaussian(u, columns, width / short_side, sigma)  # (B, C, 2, Wp)
    down = _gaussian(v, rows, height / short_side, sigma)  # (B, C, 2, Hp)
    down = down * in_frame.unsqueeze(-1)
    maps = down.unsqueeze(-1) * across.unsqueeze(-2)  # (B, C, 2, Hp, Wp)

    column = (u * columns).clamp(0, columns - 1).long()
    row = (v * rows).clamp(0, rows - 1).long()
    weight = torch.where(known, visibility, torch.zeros_like(visibility))
    return AnchorTargets(maps, known, in_frame, weight, row * columns + column)


def positives(targets: AnchorTargets, tau_pos: float = TAU_POSITIVE) -> Tensor:
    """Ω+ = {F > τ_pos} ∪ {the patch that holds the anchor}, bool (B, C, 2, Hp, Wp).

    The union is ours: a coarse grid can miss a narrow Gaussian's peak (at 8×8, 36 % of end anchors have no
    patch above 0.7). Empty where the anchor is unknown, out of frame or behind the camera.
    """
    B, C, A, Hp, Wp = targets.maps.shape
    chosen = (targets.maps > tau_pos).view(B, C, A, Hp * Wp)
    patches = torch.arange(Hp * Wp, device=chosen.device)
    holds_anchor = (patches == targets.nearest.unsqueeze(-1)) & targets.in_frame.unsqueeze(-1)
    return (chosen | holds_anchor).view(B, C, A, Hp, Wp)


def _gaussian(coordinate: Tensor, cells: int, extent: float, sigma: Tensor) -> Tensor:
    """exp(−Δ²/(2σ²)) at ``cells`` centres along one axis, (B, C, 2) -> (B, C, 2, cells).

    ``coordinate`` is a fraction of the axis, ``extent`` the axis' length and ``sigma`` (2,) in units of the
    image's short side.
    """
    centres = (torch.arange(cells, device=coordinate.device, dtype=coordinate.dtype) + 0.5) / cells
    scale = extent / (sigma * 2**0.5)  # (2,)
    return torch.exp(-(((centres - coordinate.unsqueeze(-1)) * scale.unsqueeze(-1)) ** 2))
