"""The flow-matching action transformer (Sec. 3, Eq. 13-15).

Time convention, here and everywhere inside the network: τ = 0 is noise, τ = 1 is the action, the velocity is
action - noise. LeRobot's helpers run the other way; the policy converts at its border.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeyValue = tuple[Tensor, Tensor]


def sample_time(count: int, distribution: str, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """τ (count,) in (0, 1). `beta`: 1 - (0.999·b + 0.001), b ~ Beta(1.5, 1), so the noisy end is trained more,
    as in π0; `beta_literal`: 0.999·b + 0.001, the paper word for word; `uniform`.
    """
    uniform = torch.rand(count, device=device, generator=generator)
    if distribution == "uniform":
        return uniform
    b = uniform.pow(1 / 1.5)  # the inverse of Beta(1.5, 1)'s distribution function x^1.5
    literal = 0.999 * b + 0.001
    return literal if distribution == "beta_literal" else 1 - literal


def sinusoidal_embedding(tau: Tensor, width: int) -> Tensor:
    """τ (B,) in [0, 1] → (B, width), periods from 4e-3 to 4 as in π0."""
    period = torch.logspace(math.log10(4e-3), math.log10(4.0), width // 2, device=tau.device)
    angle = 2 * math.pi * tau[:, None] / period
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention (B, heads, T, d); spelled out where the CPU trains, since the backward pass of
    torch's fused bfloat16 kernel took 6-12 times as long there as these three lines (torch 2.11)."""
    if q.is_cuda or not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v)
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


def adaptive_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm of x (B, T, D), scaled and shifted as τ says: by (B, 1, D), or by (D,) in one kernel."""
    if scale.dim() == 1:
        return F.layer_norm(x, x.shape[-1:], 1 + scale, shift)
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention whose keys and values can be computed apart and used again."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        B, N, D = x.shape
        return x.view(B, N, self.heads, D // self.heads).transpose(1, 2)  # (B, heads, N, d)

    def keys_values(self, memory: Tensor) -> KeyValue:
        """memory (B, N, D) → keys and values, each (B, heads, N, d)."""
        k, v = self.key_value(memory).chunk(2, dim=-1)
        return self._split(k), self._split(v)

    def forward(self, x: Tensor, kv: KeyValue) -> Tensor:
        """x (B·n, T, D), kv of B memories: n consecutive chunks share one memory, which is not copied."""
        k, v = kv
        q = self._split(self.query(x).view(k.shape[0], -1, x.shape[-1]))  # (B, heads, n·T, d)
        y = attend(q, k, v)
        return self.output(y.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Self-attention over the chunk, cross-attention to the observation, MLP; adaLN-zero on τ throughout."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 9 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def remember(self, memory: Tensor) -> KeyValue:
        return self.cross_attention.keys_values(memory)

    def forward(self, x: Tensor, modulation: Tensor, memory: KeyValue) -> Tensor:
        """x (B·n, T, D), modulation (B·n, 1, 9·D) or (9·D,), memory of B observations: n chunks for each."""
        shift, scale, gate, shift_2, scale_2, gate_2, shift_3, scale_3, gate_3 = modulation.chunk(9, dim=-1)
        y = adaptive_norm(x, shift, scale)
        x = x + gate * self.self_attention(y, self.self_attention.keys_values(y))
        x = x + gate_2 * self.cross_attention(adaptive_norm(x, shift_2, scale_2), memory)
        return x + gate_3 * self.mlp(adaptive_norm(x, shift_3, scale_3))


class ActionTransformer(nn.Module):
    """v̂(x_τ, τ, z_obs): noisy chunk (B, T, A) → velocity (B, T, A)."""

    def __init__(self, action_dim: int, chunk_size: int, width: int, depth: int, heads: int):
        super().__init__()
        self.width = width
        self.embed = nn.Linear(action_dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, chunk_size, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, action_dim)
        for layer in (self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def remember(self, memory: Tensor) -> list[KeyValue]:
        """Keys and values of z_obs (B, N, D) for every block: once per chunk, used in all integration steps."""
        return [cast(Block, block).remember(memory) for block in self.blocks]

    def modulations(self, tau: Tensor) -> list[Tensor]:
        """What the time τ (B,) says to every block, (B, 9·D) each, and to the head, (B, 2·D)."""
        time = self.time(sinusoidal_embedding(tau, self.width))
        layers = [*(cast(Block, block).modulation for block in self.blocks), self.modulation]
        return [layer(F.silu(time)) for layer in layers]

    def forward(self, x: Tensor, tau: Tensor, memory: Sequence[KeyValue]) -> Tensor:
        """x (B·n, T, A) at time τ (B·n,), n consecutive chunks for each of B observations; memory from `remember`."""
        return self.velocity(x, [modulation.unsqueeze(1) for modulation in self.modulations(tau)], memory)

    def velocity(self, x: Tensor, modulations: Sequence[Tensor], memory: Sequence[KeyValue]) -> Tensor:
        """`forward` where `modulations` are known: a chunk's own, (B·n, 1, …) each, or one time's for all, (…,)."""
        h = self.embed(x) + self.position
        for block, modulation, kv in zip(self.blocks, modulations[:-1], memory, strict=True):
            h = block(h, modulation, kv)
        return self.head(adaptive_norm(h, *modulations[-1].chunk(2, dim=-1)))

    def integrate(self, noise: Tensor, memory: Sequence[KeyValue], steps: int) -> Tensor:
        """Euler steps from noise (B, T, A) at τ = 0 to the chunk (B, T, A) at τ = 1."""
        tau = torch.arange(steps, device=noise.device) / steps
        x = noise
        for modulations in zip(*self.modulations(tau), strict=True):  # of all steps at once: times do not depend on x
            x = x + self.velocity(x, modulations, memory) / steps
        return x
