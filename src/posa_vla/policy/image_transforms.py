"""Refuse LeRobot's own image transforms where they would move pixels away from the anchors."""

from lerobot.configs.train import TrainPipelineConfig

from posa_vla.errors import PosaError

PIXELS_STAY = frozenset(
    {
        "CoarseDropout",
        "ColorJitter",
        "GammaCorrection",
        "GaussianBlur",
        "GaussianNoise",
        "GaussianPatchBrightness",
        "Grayscale",
        "Identity",
        "JPEG",
        "JPEGCompression",
        "MotionBlur",
        "PlanckianJitter",
        "RandomAdjustSharpness",
        "RandomAutocontrast",
        "RandomChannelPermutation",
        "RandomEqualize",
        "RandomErasing",
        "RandomGrayscale",
        "RandomInvert",
        "RandomPhotometricDistort",
        "RandomPosterize",
        "RandomShadow",
        "RandomSolarize",
        "SharpnessJitter",
    }
)
"""Types of ``--dataset.image_transforms.tfs`` (LeRobot's and torchvision's) that leave every pixel in place."""


def refuse_geometric_transforms(config: TrainPipelineConfig | None) -> None:
    """Raise if `config` enables a transform that may move pixels: the dataset's anchors would stay behind."""
    if config is None or not config.dataset.image_transforms.enable:
        return
    transforms = config.dataset.image_transforms.tfs
    moving = [name for name, tf in transforms.items() if tf.weight > 0 and tf.type not in PIXELS_STAY]
    if moving:
        kinds = ", ".join(f"{name} ({transforms[name].type})" for name in moving)
        raise PosaError(
            f"--dataset.image_transforms contains {kinds}, which moves pixels away from the anchors stored with "
            "them: expected transforms of colour only; leave it out (LeRobot's default set includes an affine "
            "one) or use --policy.augmentation, which moves both"
        )
