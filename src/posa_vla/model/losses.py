"""The three losses: focal on maps (Eq. 5), contrastive on anchors and text (Eq. 6-10), flow (Eq. 13-15)."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def focal_loss(logits: Tensor, targets: Tensor, weight: Tensor, known: Tensor, gamma: float = 2.0) -> Tensor:
    """L_f of Eq. 5 for soft targets: Σ_p |F - M|^γ BCE(M, F) / max(1, Σ_p F), mean over known maps.

    Args:
        logits: of the maps M (..., P).
        targets: Gaussian maps F in [0, 1] (..., P); all zero where the anchor is out of the picture.
        weight: (...) in [0, 1], the anchor's visibility.
        known: (...) bool; unknown anchors count neither above nor below the line.
        gamma: focusing exponent.

    Returns:
        A scalar; zero, with zero gradients, if nothing is known.
    """
    logits, targets = logits.float(), targets.float()
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    focus = (targets - logits.sigmoid()).abs().pow(gamma)
    per_map = (focus * bce).sum(-1) / targets.sum(-1).clamp(min=1.0)
    return (per_map * weight * known).sum() / known.sum().clamp(min=1)


def pooled_anchor_features(patches: Tensor, positives: Tensor) -> Tensor:
    """v of Eq. 6: mean patch feature over Ω+, pooled over the cameras that see the anchor.

    Args:
        patches: F_I (B, C, P, D).
        positives: Ω+ (B, C, P), bool or weights in [0, 1].

    Returns:
        v (B, D), zero where Ω+ is empty in every camera.
    """
    inside = positives.to(patches.dtype)
    count = inside.sum((1, 2))
    total = torch.einsum("bcp,bcpd->bd", inside, patches)
    return total / count.clamp(min=1e-3).unsqueeze(-1)


def gather(x: Tensor) -> Tensor:
    """The global batch when several processes train, with gradients flowing back to each of them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(x.contiguous()))


class ContrastiveLoss(nn.Module):
    """L_c of Eq. 10: BCE between σ(s_mn) and "same instruction", mean over the pairs m ≠ n of the global batch.

    `paper`: s_mn = z_m·z_n / τ with z = [f_x; f_e; v_end; v_obj] (Eq. 7-8). Ours: each block is L2-normalised and
    a learned bias stands beside the temperature τ = exp(θ).
    `visual`: s_mn compares [v_end; v_obj] of m with f_x of n, since the paper's z contains the text itself and
    the pair label can be read off it.
    """

    def __init__(self, mode: str, text_width: int, vision_width: int):
        super().__init__()
        self.mode = mode
        self.theta = nn.Parameter(torch.tensor(-0.7))  # τ = 0.5: four unit blocks span logits of ±8
        self.bias = nn.Parameter(torch.tensor(-4.0))
        if mode == "visual":
            self.project = nn.Linear(2 * vision_width, text_width)

    def forward(self, text: Tensor, end_text: Tensor, v_end: Tensor, v_task: Tensor, task: Tensor) -> Tensor:
        """text, end_text (B, Dt); v_end, v_task (B, Dv), zero where unknown; task (B,) goal ids → scalar."""
        blocks = [F.normalize(block.float(), dim=-1) for block in (text, end_text, v_end, v_task)]
        if self.mode == "paper":
            left = right = gather(torch.cat(blocks, dim=-1))
        else:
            seen = (v_task.abs().sum(-1, keepdim=True) > 0).float()  # an empty Ω+ stays a zero vector
            left = gather(F.normalize(self.project(torch.cat(blocks[2:], dim=-1)), dim=-1) * seen)
            right = gather(blocks[0])
        return pairwise_bce(left, right, gather(task), self.theta.exp(), self.bias)


def pairwise_bce(left: Tensor, right: Tensor, task: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
    """Mean over m ≠ n of BCE(σ(left_m·right_n / τ + b), task_m == task_n); zero for a batch of one."""
    B = left.shape[0]
    if B < 2:
        return (left.sum() + right.sum()) * 0.0
    scores = left @ right.T / temperature + bias
    same = (task[:, None] == task[None, :]).to(scores.dtype)
    pairs = ~torch.eye(B, dtype=torch.bool, device=left.device)
    return F.binary_cross_entropy_with_logits(scores[pairs], same[pairs])


def flow_loss(velocity: Tensor, target: Tensor, is_pad: Tensor) -> Tensor:
    """E‖v̂ - (A - z_0)‖² (Eq. 15) over real steps: velocity, target (B, T, A), is_pad (B, T) → mean per element."""
    error = (velocity.float() - target.float()).square().mean(-1)
    keep = (~is_pad).to(error.dtype)
    return (error * keep).sum() / keep.sum().clamp(min=1)
