"""Defaults of a run: by preset for PosA-VLA; for a policy of LeRobot's own, by what it is compared with."""

from dataclasses import dataclass

from posa_vla.errors import PosaError, unknown_name

POSA_VLA = "posa_vla"


@dataclass(frozen=True)
class Recipe:
    """Defaults of the run, and of the policy's options (as command-line words)."""

    steps: int
    batch_size: int
    after_interaction: float = 1.0
    policy: tuple[str, ...] = ()


PAPER = Recipe(steps=220_000, batch_size=16)
"""Sec. 4.2: 20k + 200k steps of batch 16; rate and warm-up are the policy's own defaults."""

RECIPES = {
    "paper": PAPER,
    "sim": PAPER,
    "tiny": Recipe(
        steps=6_000,
        batch_size=64,
        after_interaction=0.3,
        policy=("--optimizer_lr=1e-3", "--scheduler_warmup_steps=200"),
    ),
}
"""`tiny`: from scratch in minutes on two CPU cores, so a larger rate, a short warm-up and a larger batch."""

LEROBOT = Recipe(steps=100_000, batch_size=8)
"""What lerobot-train does unless told otherwise."""


def _small(*policy: str, rate: str = "1e-3") -> Recipe:
    tiny = RECIPES["tiny"]
    shared = ("--n_action_steps=8", f"--optimizer_lr={rate}")
    return Recipe(tiny.steps, tiny.batch_size, tiny.after_interaction, (*shared, *policy))


SMALL = {
    "multi_task_dit": _small(
        *("--objective=flow_matching", "--num_integration_steps=10", "--n_obs_steps=2", "--horizon=17"),
        *("--drop_n_last_frames=0", "--do_mask_loss_for_padding=true", "--image_crop_shape=[112,112]"),
        *("--vision_encoder_name=clip", "--text_encoder_name=clip", "--tokenizer_padding=longest"),
        *("--hidden_dim=64", "--num_layers=4", "--num_heads=4", "--timestep_embed_dim=64"),
        *("--vision_encoder_lr_multiplier=1.0", "--scheduler_warmup_steps=200"),
    ),
    "act": _small(
        *("--chunk_size=16", "--pretrained_backbone_weights=null", "--dim_model=128", "--n_heads=4"),
        *("--dim_feedforward=512", "--n_encoder_layers=2", "--n_vae_encoder_layers=2", "--optimizer_lr_backbone=1e-4"),
        rate="1e-4",
    ),
    "diffusion": _small(
        *("--n_obs_steps=2", "--horizon=16", "--drop_n_last_frames=0", "--do_mask_loss_for_padding=true"),
        *("--crop_shape=[112,112]", "--pretrained_backbone_weights=null", "--use_group_norm=true"),
        *("--use_separate_rgb_encoder_per_camera=false", "--down_dims=[64,128]", "--diffusion_step_embed_dim=64"),
        *("--noise_scheduler_type=DDIM", "--num_inference_steps=10", "--scheduler_warmup_steps=200"),
    ),
}
"""LeRobot's policies from scratch beside `tiny`: its budget, its chunk of 16 actions from now on, its crop of 112
out of 128 pixels, ten integration steps, one rate for every part (act diverges with 1e-3); as few parameters as their
code allows (docs/peers.md). Padded actions are masked as ours are, so that no frame needs to be dropped."""

PEER_RECIPES = ("lerobot", "small")


def recipe(policy: str, preset: str | None, peer_recipe: str) -> Recipe:
    """The recipe of a policy type: PosA-VLA's by its preset, others' by `peer_recipe`."""
    if policy == POSA_VLA:
        return RECIPES.get(preset or "", PAPER)
    if peer_recipe not in PEER_RECIPES:
        raise unknown_name("peer recipe", peer_recipe, PEER_RECIPES)
    if peer_recipe == "lerobot":
        return LEROBOT
    if policy not in SMALL:
        raise PosaError(
            f"--peer.recipe=small exists for {', '.join(sorted(SMALL))}, found --policy.type={policy}: choose one of "
            "them, or give its options with --peer.recipe=lerobot"
        )
    return SMALL[policy]
