"""Refuse LeRobot's own image transforms where they would move pixels away from the anchors."""

import sys

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


def running_train_config() -> TrainPipelineConfig | None:
    """The parsed command line of the ``lerobot-train`` run that is building the policy, if there is one.

    LeRobot's policy factory passes on the dataset's metadata but not its transforms. Reading the caller's
    config sees what config files, ``--resume`` and Python callers set, which re-parsing ``sys.argv`` would not.
    """
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, TrainPipelineConfig):
                return value
        frame = frame.f_back  # type: ignore[assignment]
    return None


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
