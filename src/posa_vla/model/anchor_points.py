"""Anchors in space: what all views say of a point together, and the token the action transformer gets of it (ours)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posa_vla.model.anchor_attention import Focus, fourier_features
from posa_vla.model.views import Views

BANDS = 5


@dataclass(frozen=True)
class AnchorPoints:
    """K anchors in the robot's world frame.

    Args:
        position: (B, K, 3), metres; where no view is sure of anything the workspace's middle.
        confidence: (B, K) in [0, 1], of the surest view.
        by_view: (B, C, K, 3), metres: what each view says alone.
    """

    position: Tensor
    confidence: Tensor
    by_view: Tensor


def locate(focus: Focus, views: Views) -> AnchorPoints:
    """Each view's (u, v, depth) as a point, and their mean weighted by (confidence / distance)².

    A view's point is off by an angle and by a share of the distance, hence by an amount that grows with the
    distance: inverse variances fall with its square. A map that lights up nowhere has a confidence of a few
    hundredths, and its square keeps even a near camera from a say then.
    """
    assert focus.depth is not None, "a point in space needs a depth"
    by_view = views.unproject(focus.uv, focus.depth)
    distance = (focus.depth * views.zoom.unsqueeze(2)).clamp(min=1e-2)
    weights = (focus.confidence.float() / distance).square().unsqueeze(-1)  # (B, C, K, 1)
    total = weights.sum(1)
    mean = (weights * by_view).sum(1) / total.clamp(min=1e-9)
    position = torch.where(total > 1e-9, mean, views.workspace.mean(0))
    return AnchorPoints(position, focus.confidence.float().amax(1), by_view)


class PointTokens(nn.Module):
    """One token per anchor: Fourier features of its place in the workspace, and how sure it is."""

    def __init__(self, width: int, anchors: int):
        super().__init__()
        self.embed = nn.Linear(3 * (2 * BANDS + 1) + 1, width)
        self.anchor = nn.Parameter(0.02 * torch.randn(1, anchors, width))

    def forward(self, points: AnchorPoints, views: Views) -> Tensor:
        """-> (B, K, D)."""
        place = fourier_features(views.normalise(points.position), BANDS)
        features = torch.cat([place, points.confidence.unsqueeze(-1)], dim=-1)
        return self.embed(features.to(self.embed.weight.dtype)) + self.anchor
