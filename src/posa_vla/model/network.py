"""PosaNetwork: look (anchor attention), gate, act (flow matching). Sec. 3 of the paper in one file.

It knows tensors only: no dataset, no robot, no tokenizer. Images come as (B, C, 3, S, S) in [0, 1], states and
actions normalised, instructions as token ids.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posa_vla.anchors.heatmap import AnchorTargets, anchor_maps, positives
from posa_vla.contract import END_ANCHOR, TASK_ANCHOR
from posa_vla.model import encoders
from posa_vla.model.action_transformer import ActionTransformer, sample_time
from posa_vla.model.anchor_attention import (
    AnchorAttention,
    Focus,
    StageQuery,
    fourier_features,
    gate_features,
    predicted_focus,
    resample,
    true_focus,
)
from posa_vla.model.anchor_depth import DepthHead, depth_loss
from posa_vla.model.anchor_points import AnchorPoints, PointTokens, locate
from posa_vla.model.configuration import NetworkConfig
from posa_vla.model.losses import ContrastiveLoss, flow_loss, focal_loss, gather, pooled_anchor_features
from posa_vla.model.views import Views

FOURIER_BANDS = 5


@dataclass
class Batch:
    """What training sees.

    Args:
        images: (B, C, 3, S, S) float in [0, 1].
        tokens: (B, L) int64. mask: (B, L) bool, True at real tokens.
        state: (B, S) normalised.
        actions: (B, T, A) normalised. action_is_pad: (B, T) bool.
        anchors: (B, C, 2, 4) as in the contract, or None where nothing asks for them.
        steps_to_interaction: (B, 1) or None; needed for `event_frames` only.
        task: (B,) goal ids.
        views: from where the images were taken; needed for `point_tokens` only.
    """

    images: Tensor
    tokens: Tensor
    mask: Tensor
    state: Tensor
    actions: Tensor
    action_is_pad: Tensor
    anchors: Tensor | None
    steps_to_interaction: Tensor | None
    task: Tensor
    views: Views | None = None


@dataclass
class Sight:
    """What was seen, text f_x (B, Dt) and patches F_I (B, C, P, Dv) on a grid, where to look in it, and from where."""

    text: Tensor
    end_text: Tensor
    patches: Tensor
    focus: Focus
    grid: tuple[int, int]
    views: Views | None = None

    @property
    def maps(self) -> Tensor:
        """M (B, C, K, Hp, Wp) in [0, 1]; K = 2 (task, end), or 1 without the end anchor."""
        return self.focus.maps.unflatten(-1, self.grid)

    @property
    def points(self) -> AnchorPoints | None:
        """The anchors in space; None without depths or calibrated views."""
        return None if self.views is None or self.focus.depth is None else locate(self.focus, self.views)


class PosaNetwork(nn.Module):
    """The network.

    Args:
        config: sizes and switches.
        end_tokens: (L,) int64, the end prompt ("gripper") in the tokenizer that instructions use.
        load_weights: read pretrained encoders, if the config asks for them; False builds CLIP-B/16's and
            DINOv2-B/14's architecture without any file, for a checkpoint that brings the weights itself.
    """

    end_tokens: Tensor

    def __init__(self, config: NetworkConfig, end_tokens: Tensor, load_weights: bool = True):
        super().__init__()
        config.validate()
        load = load_weights and config.pretrained
        self.config = config
        self.register_buffer("end_tokens", end_tokens.view(1, -1))
        tiny = config.encoder == "tiny"
        self.text_encoder = encoders.TinyTextEncoder(config) if tiny else encoders.ClipTextEncoder(config, load)
        self.vision_encoder = encoders.TinyVisionEncoder(config) if tiny else encoders.ClipVisionEncoder(config, load)
        self.dense_encoder = encoders.DinoVisionEncoder(config, load) if config.dense_encoder == "dinov2" else None
        Dt, Dv, D = self.text_encoder.width, self.vision_encoder.width, config.width
        dense_width = self.dense_encoder.width if self.dense_encoder else Dv
        self.anchor_names = ("task", "end") if config.end_anchor else ("task",)
        attended = self.anchor_names if config.maps == "predicted" else ()
        self.attentions = nn.ModuleList(AnchorAttention(Dt, Dv, config.heads) for _ in attended)
        if config.asks_by_stage:
            self.stage_query = StageQuery(Dt, Dv, config.state_dim, config.stages)
        if config.maps == "predicted" and config.contrastive != "none":
            self.contrastive = ContrastiveLoss(config.contrastive, Dt, Dv)
        gated_width = dense_width * (len(self.anchor_names) if config.gate == "concat" else 1)
        self.embed_patches = nn.Linear(gated_width, D)
        self.embed_text = nn.Linear(Dt, D)
        self.embed_state = nn.Sequential(nn.Linear(config.state_dim, D), nn.GELU(), nn.Linear(D, D))
        side = config.memory_grid or self.dense_grid[0]
        self.memory_position = nn.Parameter(0.02 * torch.randn(1, config.num_cameras, side * side, D))
        if config.anchor_tokens:
            token_width = 2 * (2 * FOURIER_BANDS + 1) + 1 + dense_width
            self.embed_anchors = nn.Linear(token_width, D)
            self.anchor_position = nn.Parameter(0.02 * torch.randn(1, config.num_cameras, len(self.anchor_names), D))
        self.memory_norm = nn.LayerNorm(D)
        self.action_transformer = ActionTransformer(config.action_dim, config.chunk_size, D, config.depth, config.heads)
        if config.predicts_depth:
            self.depth_head = DepthHead(Dv, config.num_cameras, len(self.anchor_names))
        if config.point_tokens:
            self.point_tokens = PointTokens(D, len(self.anchor_names))

    @property
    def dense_grid(self) -> tuple[int, int]:
        """(Hp, Wp) of the features that are gated."""
        return self.dense_encoder.grid if self.dense_encoder else self.vision_encoder.grid

    def encoder_modules(self) -> list[nn.Module]:
        """The encoders: with pretrained weights they learn at a lower rate."""
        modules = (self.text_encoder, self.vision_encoder, self.dense_encoder)
        return [module for module in modules if module is not None]

    # ---- look -----------------------------------------------------------------------------------------------

    def look(
        self,
        images: Tensor,
        tokens: Tensor,
        mask: Tensor,
        state: Tensor,
        anchors: Tensor | None = None,
        views: Views | None = None,
    ) -> Sight:
        """Encodes images (B, C, 3, S, S) and text (B, L), and attends: M_task asks with f_x, M_end with f_e.

        With several `stages` the state (B, S), too, has a say in what M_task asks, and is not read otherwise.
        The true anchors (B, C, 2, 4) take the attention's place where `maps` says so, and are not read otherwise.
        `views` say from where the images were taken; only points in space need them.
        """
        B, C = images.shape[:2]
        text = self.text_encoder(tokens, mask)  # (B, Dt)
        end_mask = torch.ones_like(self.end_tokens, dtype=torch.bool)
        end_text = self.text_encoder(self.end_tokens, end_mask).expand(B, -1)
        patches = self.vision_encoder(images.flatten(0, 1)).unflatten(0, (B, C))  # (B, C, P, Dv)
        grid, config = self.vision_encoder.grid, self.config
        if config.maps == "ground_truth":
            assert anchors is not None, "maps=ground_truth needs the anchors"
            focus = true_focus(anchors, self._maps(anchors, grid), len(self.anchor_names))
        else:
            asked = self.stage_query(text, patches, state) if config.asks_by_stage else text
            queries = (asked, end_text)[: len(self.attentions)]
            logits = [attend(query, patches) for attend, query in zip(self.attentions, queries, strict=True)]
            focus = predicted_focus(torch.stack(logits, dim=2), grid)
        if config.predicts_depth:
            with torch.autocast(patches.device.type, enabled=False):  # bfloat16 is millimetres off
                focus.depth = self.depth_head(focus, patches.float())
        return Sight(text, end_text, patches, focus, grid, views)

    def remember(self, images: Tensor, sight: Sight, state: Tensor) -> Tensor:
        """z_obs (B, N, D): gated patches of every camera, anchor tokens, f_x and the state."""
        B, C = images.shape[:2]
        dense = sight.patches
        if self.dense_encoder is not None:
            dense = self.dense_encoder(images.flatten(0, 1)).unflatten(0, (B, C))
        maps = resample(sight.focus.maps, sight.grid, self.dense_grid).to(dense.dtype)
        gated = gate_features(dense, maps, self.config.gate)  # (B, C, P, D or K·D)
        patches = self.embed_patches(self._pool(gated)) + self.memory_position  # (B, C, N, D)
        memory = [patches.flatten(1, 2), self.embed_text(sight.text)[:, None], self.embed_state(state)[:, None]]
        if self.config.anchor_tokens:
            memory.append(self._anchor_tokens(sight, dense))
        if self.config.point_tokens:
            points = sight.points
            assert points is not None and sight.views is not None, "point_tokens needs the views"
            memory.append(self.point_tokens(points, sight.views))
        return self.memory_norm(torch.cat(memory, dim=1))

    def _pool(self, tokens: Tensor) -> Tensor:
        """(B, C, Hp·Wp, D) → (B, C, memory_grid², D), or unchanged for memory_grid = 0."""
        if not self.config.memory_grid:
            return tokens
        B, C, _, D = tokens.shape
        images = tokens.view(B * C, *self.dense_grid, D).permute(0, 3, 1, 2)
        pooled = F.adaptive_avg_pool2d(images, self.config.memory_grid)  # (B·C, D, g, g)
        return pooled.flatten(2).transpose(1, 2).unflatten(0, (B, C))

    def _anchor_tokens(self, sight: Sight, dense: Tensor) -> Tensor:
        """One token per camera and anchor, (B, C·K, D): where (Fourier features), how sure, and what is there."""
        focus = sight.focus
        weights = resample(focus.weights, sight.grid, self.dense_grid)  # (B, C, K, P)
        feature = torch.einsum("bckp,bcpd->bckd", weights.to(dense.dtype), dense)
        feature = feature / weights.sum(-1, keepdim=True).clamp(min=1e-6).to(dense.dtype)
        place = fourier_features(focus.uv, FOURIER_BANDS)
        where = torch.cat([place, focus.confidence.unsqueeze(-1)], dim=-1).to(dense.dtype)
        tokens = self.embed_anchors(torch.cat([where, feature], dim=-1)) + self.anchor_position
        return tokens.flatten(1, 2)

    # ---- act ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_actions(self, memory: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Euler integration from noise (B, T, A) at τ = 0 to the normalised chunk (B, T, A) at τ = 1."""
        kv = self.action_transformer.remember(memory)
        return self.action_transformer.integrate(noise, kv, steps or self.config.integration_steps)

    # ---- losses ---------------------------------------------------------------------------------------------

    def loss(
        self, batch: Batch, anchor_only: bool = False, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_total = L_action + λ L_anchor (Eq. 17), or L_anchor alone in the first stage; and what to log."""
        sight = self.look(batch.images, batch.tokens, batch.mask, batch.state, batch.anchors, batch.views)
        anchor_loss, info = self.anchor_loss(sight, batch)
        if anchor_only:
            return anchor_loss, info | {"loss": anchor_loss.detach()}
        action_loss = self.action_loss(self.remember(batch.images, sight, batch.state), batch, generator)
        total = action_loss + self.config.anchor_weight * anchor_loss
        return total, info | {"action_loss": action_loss.detach(), "loss": total.detach()}

    def action_loss(self, memory: Tensor, batch: Batch, generator: torch.Generator | None) -> Tensor:
        """Flow matching on x_τ = (1 - τ) z_0 + τ A (Eq. 13-15), `flow_samples` draws of (τ, z_0) per sample."""
        n = self.config.flow_samples
        actions = batch.actions.repeat_interleave(n, dim=0)  # (B·n, T, A)
        is_pad = batch.action_is_pad.repeat_interleave(n, dim=0)
        noise = torch.randn(actions.shape, device=actions.device, generator=generator)
        tau = sample_time(len(actions), self.config.flow_time, actions.device, generator)
        x = torch.lerp(noise, actions, tau[:, None, None])
        velocity = self.action_transformer(x, tau, self.action_transformer.remember(memory))
        return flow_loss(velocity, actions - noise, is_pad)

    def anchor_loss(self, sight: Sight, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L_anchor = α L_f + (1 - α) L_c, and the depth term beside it; zero where all are switched off."""
        config, logits = self.config, sight.focus.logits
        zero = sight.focus.maps.sum() * 0.0
        if batch.anchors is None or logits is None or not config.uses_anchor_loss:
            return zero, {}
        targets = self._targets(batch, sight.grid)
        omega = positives(targets, config.tau_pos)  # (B, C, 2, Hp, Wp)
        weight = targets.weight if config.visibility_weighting else targets.known.to(targets.weight.dtype)
        spatial, contrastive = zero, zero
        if config.spatial_loss:
            K = len(self.anchor_names)
            maps = targets.maps[:, :, :K].flatten(-2)
            spatial = config.spatial_weight * focal_loss(
                logits, maps, weight[:, :, :K], targets.known[:, :, :K], config.focal_gamma
            )
        if config.contrastive != "none":
            contrastive = self._contrastive(sight, omega.flatten(-2) * weight.unsqueeze(-1), batch.task)
        alpha = config.alpha
        loss = alpha * spatial + (1 - alpha) * contrastive
        info = {"focal_loss": spatial.detach(), "contrastive_loss": contrastive.detach()}
        info |= self._diagnose(sight, targets, batch)
        if sight.focus.depth is not None:
            depth = self._depth_loss(sight.focus.depth, targets, weight, batch.anchors)
            loss = loss + config.depth_weight * depth
            info["depth_loss"] = depth.detach()
        return loss, info

    def _depth_loss(self, depth: Tensor, targets: AnchorTargets, weight: Tensor, anchors: Tensor) -> Tensor:
        K = len(self.anchor_names)
        seen = (targets.known & targets.in_frame)[:, :, :K]
        return depth_loss(depth, anchors[:, :, :K], weight[:, :, :K], seen)

    def _targets(self, batch: Batch, grid: tuple[int, int]) -> AnchorTargets:
        anchors = batch.anchors
        assert anchors is not None
        if self.config.task_labels == "event_frames":
            steps = batch.steps_to_interaction
            assert steps is not None, "event_frames needs steps_to_interaction"
            steps = steps.view(-1, 1)  # LeRobot gives one number per sample as (B,)
            far = (steps < 0) | (steps > self.config.event_window)  # (B, 1)
            anchors = anchors.clone()
            anchors[:, :, TASK_ANCHOR, 3] = torch.where(far, -1.0, anchors[:, :, TASK_ANCHOR, 3])
        return self._maps(anchors, grid)

    def _maps(self, anchors: Tensor, grid: tuple[int, int]) -> AnchorTargets:
        """F of anchors (B, C, 2, 4): round in the picture, not in the square that it is squeezed into."""
        config = self.config
        return anchor_maps(anchors, grid, (config.aspect, 1.0), config.sigma_task, config.sigma_end)

    def _contrastive(self, sight: Sight, omega: Tensor, task: Tensor) -> Tensor:
        v_task = pooled_anchor_features(sight.patches, omega[:, :, TASK_ANCHOR])
        v_end = pooled_anchor_features(sight.patches, omega[:, :, END_ANCHOR])
        end_text = sight.end_text
        if not self.config.end_anchor:
            v_end, end_text = torch.zeros_like(v_end), torch.zeros_like(end_text)
        return self.contrastive(sight.text, end_text, v_end, v_task, task)

    @torch.no_grad()
    def _diagnose(self, sight: Sight, targets: AnchorTargets, batch: Batch) -> dict[str, Tensor]:
        """Numbers in which the method's known failures show; `training.diagnostics` puts them into words."""
        assert batch.anchors is not None
        maps, uv = sight.focus.maps, sight.focus.uv
        seen = targets.known & targets.in_frame  # (B, C, 2)
        distance = (uv[:, :, TASK_ANCHOR] - batch.anchors[:, :, TASK_ANCHOR, :2]).norm(dim=-1)  # (B, C)
        task_seen = seen[:, :, TASK_ANCHOR].float()
        info = {
            "map_contrast_task": (maps[:, :, TASK_ANCHOR].amax(-1) - maps[:, :, TASK_ANCHOR].mean(-1)).mean(),
            "task_anchor_error": (distance * task_seen).sum() / task_seen.sum().clamp(min=1),
        }
        if self.config.uses_contrastive:
            task = gather(batch.task)
            info["same_task_pairs"] = ((task[:, None] == task[None, :]).sum() - len(task)) / 2
        if self.config.end_anchor:
            end_seen = seen[:, :, END_ANCHOR].float()
            peak = maps[:, :, END_ANCHOR].amax(-1)
            info["map_contrast_end"] = (peak - maps[:, :, END_ANCHOR].mean(-1)).mean()
            info["end_map_peak"] = (peak * end_seen).sum() / end_seen.sum().clamp(min=1)
        return info
