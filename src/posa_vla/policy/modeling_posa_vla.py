"""PosA-VLA as a LeRobot policy: batches in the contract's keys in, losses and actions out."""

from collections import deque
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from lerobot.policies import PreTrainedPolicy
from lerobot.policies.common.flow_matching import euler_integrate
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from torch import Tensor

from posa_vla.contract import (
    ACTION,
    ANCHORS,
    LANGUAGE_MASK,
    LANGUAGE_TOKENS,
    RAW_STATE,
    STATE,
    STEPS_TO_INTERACTION,
    TASK_INDEX,
)
from posa_vla.data.augmentation import Windows, augment_windows, centre_crop
from posa_vla.data.tasks import task_ids
from posa_vla.errors import PosaError
from posa_vla.model.encoders import architectures
from posa_vla.model.network import Batch, PosaNetwork, Sight
from posa_vla.model.views import Views
from posa_vla.policy.attention import AttentionView, view_of
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.dataset import anchor_rows, rig_geometry
from posa_vla.policy.lerobot_run import check_run, check_statistics, renamed_keys
from posa_vla.policy.processor_posa_vla import InstructionTokenizerStep
from posa_vla.policy.weights import additions, check_config, download, load_strictly, read_end_tokens
from posa_vla.training.optimiser import check_coverage
from posa_vla.training.schedule import step_seed

P = TypeVar("P", bound="PosaVLAPolicy")


class PosaVLAPolicy(PreTrainedPolicy):
    """Args:
    config: sizes, losses, stages; its features are completed from the dataset by LeRobot's factory.
    dataset_stats: part of LeRobot's signature; the processors normalise, not the policy.
    dataset_meta: the training dataset's metadata: goal ids and the anchors' camera order come from it.
    end_tokens: (1, L) tokens of the end prompt; None asks the tokenizer.
    """

    config_class = PosaVLAConfig
    name = "posa_vla"
    steps: Tensor
    goal_ids: Tensor

    def __init__(
        self,
        config: PosaVLAConfig,
        dataset_stats: dict[str, dict[str, Tensor]] | None = None,
        dataset_meta: Any | None = None,
        end_tokens: Tensor | None = None,
        **kwargs: Any,
    ):
        super().__init__(config)
        config.validate_features()
        self.config: PosaVLAConfig = config
        self.cameras = tuple(config.image_features)
        self.anchor_rows: list[int] | None = None
        if config.uses_anchors:
            check_run(config)
        fresh = end_tokens is None  # a checkpoint brings its tokens, and its encoders' weights
        if end_tokens is None:
            end_tokens = InstructionTokenizerStep(config.tokenizer, config.max_text_length).ids(config.end_prompt)
        self.network = PosaNetwork(config.network(), end_tokens, load_weights=fresh)
        config.towers = architectures(self.network)
        if config.encoder_lr_scale == 0:
            for module in self.network.encoder_modules():
                module.requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("goal_ids", torch.zeros(0, dtype=torch.int64), persistent=False)
        # Read on every step, and a read of the buffer would wait for the device.
        self._step = 0
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_step", int(module.steps)))
        if dataset_meta is not None and dataset_meta.tasks is not None:  # None: a recording that begins
            sentences = list(dataset_meta.tasks.sort_values(TASK_INDEX).index)
            self.use_dataset(dataset_meta.features, task_ids(dataset_meta.root, sentences), dataset_meta.root)
            check_statistics(dataset_meta.stats)
        self.init_rtc_processor()
        self.reset()

    @property
    def needs_anchors(self) -> bool:
        """Whether acting, too, needs `ANCHORS` in the batch, (B, C, 2, 4) in the order of `cameras`."""
        return self.config.maps == "ground_truth"

    # ---- training -------------------------------------------------------------------------------------------

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The loss of a preprocessed batch and the numbers to log.

        In training mode every draw (augmentation, noise, τ) is a function of (seed, step, process); otherwise
        images are cropped in the middle and the draws are always the same, so that losses compare.
        """
        steps_to_interaction = batch.get(STEPS_TO_INTERACTION)  # (B, 1); LeRobot's loader drops the one: (B,)
        generator = torch.Generator(self.steps.device)
        generator.manual_seed(step_seed(self.config.seed, self._step, _rank()) if self.training else self.config.seed)
        images, anchors, windows = self._training_images(batch, generator)
        network_batch = Batch(
            images=images,
            tokens=batch[LANGUAGE_TOKENS],
            mask=batch[LANGUAGE_MASK],
            state=batch[STATE],
            actions=batch[ACTION],
            action_is_pad=batch[f"{ACTION}_is_pad"],
            anchors=anchors,
            steps_to_interaction=None if steps_to_interaction is None else steps_to_interaction.reshape(-1, 1),
            task=self._goals(batch[TASK_INDEX].flatten()),
            views=self._views(batch, windows),
        )
        loss, info = self.network.loss(network_batch, self._step < (self.config.anchor_steps or 0), generator)
        return loss, dict(zip(info, torch.stack([value.float() for value in info.values()]).tolist(), strict=True))

    def use_dataset(self, features: dict[str, dict], goal_ids: np.ndarray, root: Path | None = None) -> None:
        """Tell the policy what its training batches mean; without this every sentence is a goal of its own.

        Args:
            features: of the dataset; those of the anchors name their cameras in order.
            goal_ids: (number of sentences,) int64, the goal of each ``task_index``.
            root: the dataset's folder: a new policy with `point_tokens` takes the cameras' calibration from it.
        """
        renamed = renamed_keys()
        self.anchor_rows = anchor_rows(self.config, features.get(ANCHORS), renamed)
        self.goal_ids = torch.as_tensor(goal_ids, dtype=torch.int64, device=self.steps.device)
        self.config.geometry = rig_geometry(self.config, root, renamed)

    def update(self) -> None:
        """Count an optimiser step; LeRobot's and our trainer call it after each. Stage 1 ends by this count."""
        self._step += 1
        self.steps.fill_(self._step)

    def count_from_zero(self) -> None:
        """Forget the steps that the weights have seen: a new run begins."""
        self._step = 0
        self.steps.fill_(0)

    def _training_images(self, batch: dict[str, Any], rng: torch.Generator) -> tuple[Tensor, Tensor | None, Windows]:
        images, anchors = self._stack_images(batch), self._anchors(batch)
        config = self.config.augmentation
        if self.training and config.enabled:
            B, C = images.shape[:2]
            moved = images.new_zeros(B, C, 2, 4, dtype=torch.float32) if anchors is None else anchors
            images, moved, windows = augment_windows(images, moved, config, rng)
            anchors = None if anchors is None else moved
        else:
            windows = self._centred(images)
            images, anchors = centre_crop(images, anchors, config.output_size)
        return self._resize(images), anchors, windows

    def _centred(self, images: Tensor) -> Windows:
        """What `centre_crop` keeps of images (B, C, 3, H, W)."""
        B, C, _, H, W = images.shape
        return Windows.centred((B, C), (H, W), self.config.augmentation.output_size)

    def _views(self, batch: dict[str, Any], windows: Windows) -> Views | None:
        """From where the batch's images were taken; None where nothing asks for it."""
        if not self.config.point_tokens:
            return None
        if self.config.geometry is None:
            raise PosaError(
                "point_tokens needs the cameras' calibration, found none in the policy's configuration: build the "
                "policy with its labelled dataset"
            )
        if RAW_STATE not in batch:
            raise PosaError(
                f"point_tokens needs {RAW_STATE}, found none in the batch: its processors are of a policy without "
                "points in space; add these to a trained policy with `posa-vla train`, which makes new processors"
            )
        return self.config.geometry.views(batch[RAW_STATE], windows)

    def _anchors(self, batch: dict[str, Any]) -> Tensor | None:
        """Labels (B, C, 2, 4) in the policy's camera order, or None where nothing asks for them."""
        if not self.config.uses_anchors:
            return None
        supervised = self.config.network().uses_anchor_loss
        needed = [ANCHORS] + [STEPS_TO_INTERACTION] * (supervised and self.config.task_labels == "event_frames")
        for key in needed:
            if key not in batch:
                raise PosaError(
                    f"expected the column {key} in the training dataset, found none: add it with `posa-vla label "
                    "--dataset.root=DATASET --rig=RIG --output=NEW`, or train without anchors with "
                    "--policy.maps=predicted --policy.spatial_loss=false --policy.contrastive=none"
                )
        anchors = batch[ANCHORS]
        if self.anchor_rows is not None:
            anchors = anchors[:, self.anchor_rows]
        return self._of_every_camera(anchors)

    def _goals(self, task_index: Tensor) -> Tensor:
        """Goal ids (B,) of the dataset's sentence ids: several sentences may mean one goal."""
        return self.goal_ids[task_index] if len(self.goal_ids) else task_index

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Two groups, encoders (at `encoder_lr_scale` times the rate) and the rest, covering every parameter."""
        scale = self.config.encoder_lr_scale
        assert scale is not None
        encoders = {id(p) for module in self.network.encoder_modules() for p in module.parameters()}
        trainable = [p for p in self.parameters() if p.requires_grad]
        rest: dict[str, Any] = {"params": [p for p in trainable if id(p) not in encoders]}
        slow = {"params": [p for p in trainable if id(p) in encoders], "lr": self.config.optimizer_lr * scale}
        groups = [group for group in (rest, slow) if group["params"]]
        check_coverage(self, groups)
        return groups

    # ---- acting ---------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the rest of the current chunk; called at the beginning of an episode."""
        self._queue: deque[Tensor] = deque()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The next normalised action (B, A); plans a chunk when `n_action_steps` of the last one are executed."""
        assert not self._rtc_enabled(), "with real-time chunking LeRobot's rollout calls predict_action_chunk"
        if not self._queue:
            chunk = self.predict_action_chunk(batch, noise)
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._queue.popleft()

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """A normalised action chunk (B, T, A).

        Args:
            batch: preprocessed observations.
            noise: (B, T, A) standard normal, where the flow starts; None draws it from torch's generator.
            **kwargs: inference_delay, prev_chunk_left_over, execution_horizon of real-time chunking.
        """
        self.eval()
        images, sight = self._look(batch)
        memory = self.network.remember(images, sight, batch[STATE])
        shape = (len(images), self.config.chunk_size, self.config.action_dim)
        if noise is None:
            noise = torch.randn(shape, device=images.device)
        elif noise.shape != shape:
            raise ValueError(f"expected noise of shape {shape}, got {tuple(noise.shape)}")
        if self._rtc_enabled():
            return self._sample_with_rtc(memory, noise, **kwargs)
        return self.network.sample_actions(memory, noise)

    @torch.no_grad()
    def attention(self, batch: dict[str, Any]) -> AttentionView:
        """Where the policy looks for preprocessed observations, in whole-image coordinates."""
        self.eval()
        _, sight = self._look(batch)
        return view_of(sight, self.config.image_shape, self.config.augmentation.output_size)

    def _look(self, batch: dict[str, Any]) -> tuple[Tensor, Sight]:
        """The network's images (B, C, 3, S, S) of preprocessed observations, and what it sees in them."""
        anchors = self._privileged_anchors(batch) if self.needs_anchors else None
        whole = self._stack_images(batch)
        views = self._views(batch, self._centred(whole))
        images, anchors = centre_crop(whole, anchors, self.config.augmentation.output_size)
        images = self._resize(images)
        tokens, mask = batch[LANGUAGE_TOKENS], batch[LANGUAGE_MASK]
        return images, self.network.look(images, tokens, mask, batch[STATE], anchors, views)

    def _privileged_anchors(self, batch: dict[str, Any]) -> Tensor:
        """True anchors (B, C, 2, 4) of the observations, cameras in the policy's order."""
        if ANCHORS not in batch:
            raise PosaError(
                f"expected {ANCHORS} in the batch, because this policy looks where the true anchors are "
                "(maps=ground_truth), found none: evaluate it with `posa-vla eval`, which takes them from the "
                "simulator, or train one with --policy.maps=predicted"
            )
        return self._of_every_camera(batch[ANCHORS])

    def _of_every_camera(self, anchors: Tensor) -> Tensor:
        if anchors.shape[1:] != (len(self.cameras), 2, 4):
            raise PosaError(
                f"expected {ANCHORS} of {len(self.cameras)} cameras, shape (B, {len(self.cameras)}, 2, 4), found "
                f"{tuple(anchors.shape)}: label the dataset with a rig of the cameras {', '.join(self.cameras)}"
            )
        return anchors

    def _stack_images(self, batch: dict[str, Any]) -> Tensor:
        """(B, C, 3, H, W) float in [0, 1], cameras in the policy's order."""
        return torch.stack([batch[camera] for camera in self.cameras], dim=1)

    def _resize(self, images: Tensor) -> Tensor:
        """(B, C, 3, h, w) → (B, C, 3, S, S): the network's input size; anchors are relative and stay."""
        size = (self.config.image_size, self.config.image_size)
        if images.shape[-2:] == size:
            return images
        flat = F.interpolate(images.flatten(0, 1), size, mode="bilinear", antialias=True, align_corners=False)
        return flat.unflatten(0, images.shape[:2])

    # ---- real-time chunking ---------------------------------------------------------------------------------

    def supports_rtc(self) -> bool:
        return True

    def init_rtc_processor(self) -> None:
        """LeRobot's rollout calls this after it has set `config.rtc_config`."""
        config = self.config.rtc_config
        self.rtc_processor = RTCProcessor(config) if config is not None else None

    def _rtc_enabled(self) -> bool:
        return self.rtc_processor is not None and self.rtc_processor.rtc_config.enabled

    def _sample_with_rtc(self, memory: Tensor, noise: Tensor, **kwargs: Any) -> Tensor:
        """Integration guided by the unexecuted rest of the last chunk.

        The time conventions meet here: LeRobot's t = 1 is noise and its velocity is noise - action; the
        network's τ = 1 - t and its velocity is action - noise.
        """
        transformer = self.network.action_transformer
        kv = transformer.remember(memory)
        return euler_integrate(
            lambda x, t: -transformer(x, 1 - t, kv),
            noise,
            self.config.integration_steps,
            rtc_processor=self.rtc_processor,
            rtc_enabled=True,
            **{key: kwargs.get(key) for key in ("inference_delay", "prev_chunk_left_over", "execution_horizon")},
        )

    # ---- loading --------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls: type[P], pretrained_name_or_path: str | Path, **kwargs: Any) -> P:
        """A policy with exactly the checkpoint's weights: LeRobot's default would only warn of missing ones.

        A `config` with stages, depth or points in space that the checkpoint has not adds them, untrained.
        """
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            folder = download(str(pretrained_name_or_path), kwargs)
        check_config(folder / CONFIG_NAME, kwargs.get("config"))
        kwargs.setdefault("end_tokens", read_end_tokens(folder / SAFETENSORS_SINGLE_FILE))
        return super().from_pretrained(folder, **{**kwargs, "strict": True})

    @classmethod
    def _load_as_safetensor(cls, model: P, model_file: str, map_location: str, strict: bool) -> P:
        added = additions(Path(model_file).with_name(CONFIG_NAME), model.config)
        load_strictly(model, Path(model_file), [f"network.{name}" for name in sorted(added)])
        return model


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
