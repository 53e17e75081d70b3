"""How far away an anchor is: its depth in each view, read off the features where its map looks.

Ours; the paper's anchors are flat. Depth is along the optical axis, in metres, of the window the network sees: in one
that was magnified by z things stand closer by z (`posa_vla.data.augmentation`).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posa_vla.model.anchor_attention import Focus, fourier_features

START = 0.5
"""Metres that an untrained head answers: the geometric middle of a hand camera's 0.2 m and a table camera's 1.2 m."""

ROBUST_FROM = 0.1
"""Log-depth error (about 10 %) from which an error counts linearly."""

NEAREST = 1e-3
"""Metres, so that a label's logarithm is finite."""

BANDS, HIDDEN = 5, 64


class DepthHead(nn.Module):
    """Depth in metres of K anchors in C cameras; inside, its logarithm, so that it is positive.

    It is read off the mean feature under the anchor's attention and where that is. Neither gets a gradient from
    here: the spatial loss says where to look, and depth shall not drag the map to where distance is easier to tell.
    The robot's state is left out: it knows nothing of a window's zoom.
    """

    def __init__(self, vision_width: int, cameras: int, anchors: int):
        super().__init__()
        self.inner = nn.Linear(vision_width + 2 * (2 * BANDS + 1), HIDDEN)
        self.view = nn.Parameter(torch.zeros(1, cameras, anchors, HIDDEN))
        self.outer = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.constant_(self.outer.bias, math.log(START))

    def forward(self, focus: Focus, patches: Tensor) -> Tensor:
        """focus of K anchors, patches (B, C, P, Dv) -> (B, C, K), float32."""
        feature = torch.einsum("bckp,bcpd->bckd", focus.weights.detach().to(patches.dtype), patches)
        place = fourier_features(focus.uv.detach(), BANDS).to(patches.dtype)
        hidden = F.gelu(self.inner(torch.cat([feature, place], dim=-1)) + self.view)
        return self.outer(hidden).squeeze(-1).float().exp()


def depth_loss(depth: Tensor, anchors: Tensor, weight: Tensor, seen: Tensor) -> Tensor:
    """Smooth L1 of log-depths, linear from 10 % on with a slope of 1; mean over the anchors that are seen.

    In logarithms an error counts by its share of the distance. In metres a camera over the table, four times as far
    away as the one on the hand, would have sixteen times the say, while the same pixel error costs it no more.

    Args:
        depth: (B, C, K), metres, positive.
        anchors: (B, C, K, 4), labels in the same window.
        weight: (B, C, K) in [0, 1], visibility.
        seen: (B, C, K) bool, known and in the picture.
    """
    target = anchors[..., 2].clamp(min=NEAREST).log()
    error = F.smooth_l1_loss(depth.log(), target, beta=ROBUST_FROM, reduction="none")
    return (error * weight * seen).sum() / seen.sum().clamp(min=1)
