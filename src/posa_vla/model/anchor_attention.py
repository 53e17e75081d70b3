"""Where to look: text queries attend to image patches and give one map per anchor (Sec. 3, Eq. 2)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posa_vla.anchors.heatmap import AnchorTargets


class AnchorAttention(nn.Module):
    """Multi-head scaled dot product between a text query and patches, averaged over heads into one logit.

    A sigmoid of the logit is the map: each patch answers "is it here?" for itself, so that a map may be empty
    (Eq. 2 asks for values in [0, 1], not for a distribution). One instance serves one anchor.
    """

    def __init__(self, text_width: int, vision_width: int, heads: int, head_width: int = 32):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(text_width, heads * head_width)
        self.key = nn.Linear(vision_width, heads * head_width)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))  # most patches are no anchor

    def forward(self, text: Tensor, patches: Tensor) -> Tensor:
        """text (B, Dt), patches (B, C, P, Dv) → logits (B, C, P), float32.

        The mean over heads of dot products is one dot product, and q·(W f + b) = (Wᵀq)·f + q·b: the query goes
        through the key's weights once, instead of every patch. Places are read off these logits, hence no autocast.
        """
        q = self.query(text).float()  # (B, heads·d)
        with torch.autocast(patches.device.type, enabled=False):
            asked = q @ self.key.weight.float()  # (B, Dv)
            offset = q @ self.key.bias.float()  # (B,)
            logits = torch.einsum("bv,bcpv->bcp", asked, patches.float()) + offset[:, None, None]
        logits = logits / math.sqrt(self.heads * q.shape[-1])
        return logits * self.log_scale.exp() + self.bias


class StageQuery(nn.Module):
    """What to ask for now: a task of several interactions wants another thing in each of its stages (ours).

    The text asks several questions, which begin close to the text itself, the paper's query. The stage the task is
    in, told by the robot's state and the mean of all patches, weighs them. State and scene say no more than these
    weights: a query that knew where the hand is would find the place from there, since in demonstrations the hand is
    always on its way to the right one.
    """

    def __init__(self, text_width: int, vision_width: int, state_dim: int, stages: int, hidden: int = 64):
        super().__init__()
        self.stages = stages
        self.questions = nn.Linear(text_width, stages * text_width)
        nn.init.normal_(self.questions.weight, std=0.1 / math.sqrt(text_width))
        nn.init.zeros_(self.questions.bias)
        self.stage = nn.Sequential(nn.Linear(state_dim + vision_width, hidden), nn.GELU(), nn.Linear(hidden, stages))

    def forward(self, text: Tensor, patches: Tensor, state: Tensor) -> Tensor:
        """text (B, Dt), patches (B, C, P, Dv), state (B, S) → the query (B, Dt)."""
        scene = torch.cat([patches.mean((1, 2)), state.to(patches.dtype)], dim=-1)
        weights = self.stage(scene).softmax(-1)  # (B, stages)
        questions = text[:, None] + self.questions(text).unflatten(-1, (self.stages, -1))  # (B, stages, Dt)
        return torch.einsum("bn,bnd->bd", weights, questions)


@dataclass
class Focus:
    """Where to look: K anchors in C cameras on a grid of P patches.

    Args:
        maps: M (B, C, K, P) in [0, 1].
        uv: (B, C, K, 2), image coordinates divided by width and height.
        confidence: (B, C, K) in [0, 1].
        weights: (B, C, K, P), over which the feature at the anchor is averaged; all zero where there is none.
        logits: of the maps, (B, C, K, P); None for true ones.
        depth: (B, C, K), metres along the optical axis, as in the window; None where nothing tells.
    """

    maps: Tensor
    uv: Tensor
    confidence: Tensor
    weights: Tensor
    logits: Tensor | None = None
    depth: Tensor | None = None


def predicted_focus(logits: Tensor, grid: tuple[int, int]) -> Focus:
    """What attention's logits (B, C, K, P) say."""
    uv, weights = soft_argmax(logits, grid)
    return Focus(logits.sigmoid(), uv, logits.amax(-1).sigmoid(), weights, logits)


def true_focus(anchors: Tensor, targets: AnchorTargets, count: int) -> Focus:
    """What the first `count` of labelled anchors (B, C, 2, 4) say, with the `targets` that would supervise attention.

    Unknown, out of frame, behind the camera: an empty map, confidence 0, the coordinate (0, 0) and depth 0.
    """
    maps, seen = targets.maps[:, :, :count].flatten(-2), targets.in_frame[:, :, :count]
    uv = anchors[:, :, :count, :2] * seen.unsqueeze(-1)
    weights = maps / maps.sum(-1, keepdim=True).clamp(min=1e-6)
    return Focus(maps, uv, seen.to(maps.dtype), weights, depth=anchors[:, :, :count, 2] * seen)


def gate_features(features: Tensor, maps: Tensor, mode: str) -> Tensor:
    """F_ref = M ⊙ F (Eq. 12).

    Args:
        features: dense features (B, C, P, D).
        maps: (B, C, K, P) in [0, 1], K anchors.
        mode: `max` over the anchors, `sum`, `concat` (features gated by each anchor side by side) or `none`.

    Returns:
        (B, C, P, D), or (B, C, P, K·D) for `concat`.
    """
    if mode == "none":
        return features
    if mode == "concat":
        return torch.cat([features * maps[:, :, k, :, None] for k in range(maps.shape[2])], dim=-1)
    gate = maps.amax(2) if mode == "max" else maps.sum(2)
    return features * gate.unsqueeze(-1)


def resample(maps: Tensor, grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Bilinear resampling of maps (B, C, K, P) from one patch grid to another; the same grid is left alone."""
    if grid == new_grid:
        return maps
    B, C, K, _ = maps.shape
    images = maps.view(B, C * K, *grid)
    return F.interpolate(images, new_grid, mode="bilinear", align_corners=False).view(B, C, K, -1)


def soft_argmax(logits: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The expected patch centre under softmax(logits), i.e. weighted by each patch's odds M / (1 - M).

    Odds keep a low, wide background from pulling the estimate to the middle as weights M would. In float32 whatever
    autocast says: a bfloat16 near 1 is a multiple of 1/256, half a pixel of 112.

    Args:
        logits: (..., P).

    Returns:
        uv (..., 2), image coordinates divided by width and height; weights (..., P).
    """
    Hp, Wp = grid
    weights = logits.float().softmax(-1)
    v, u = torch.meshgrid(
        (torch.arange(Hp, device=logits.device) + 0.5) / Hp,
        (torch.arange(Wp, device=logits.device) + 0.5) / Wp,
        indexing="ij",
    )
    centres = torch.stack([u.flatten(), v.flatten()], dim=-1)  # (P, 2)
    with torch.autocast(logits.device.type, enabled=False):
        return weights @ centres, weights


def fourier_features(x: Tensor, bands: int = 5) -> Tensor:
    """(..., n) in about [0, 1] → (..., n·(2·bands + 1)): the value, and its sine and cosine at octaves of π."""
    angles = x.unsqueeze(-1) * (math.pi * 2.0 ** torch.arange(bands, device=x.device))
    return torch.cat([x.unsqueeze(-1), angles.sin(), angles.cos()], dim=-1).flatten(-2)
