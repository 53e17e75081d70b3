"""What only the options of the ``lerobot-train`` run that is building a policy tell."""

import logging
import sys

from lerobot.configs.train import TrainPipelineConfig

from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.image_transforms import refuse_geometric_transforms

logger = logging.getLogger(__name__)


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


def renamed_keys() -> dict[str, str]:
    """The run's --rename_map, the dataset's keys to the policy's: batches are renamed, the metadata is not."""
    run = running_train_config()
    return dict(run.rename_map) if run is not None else {}


def check_run(config: PosaVLAConfig) -> None:
    """Refuse a run whose own options spoil the anchors, and warn of one that ends before it learns actions."""
    run = running_train_config()
    refuse_geometric_transforms(run)
    if run is not None and run.steps <= (config.anchor_steps or 0):
        logger.warning(
            "the run ends at step %d, inside stage 1 (--policy.anchor_steps=%d): no action will be learned",
            run.steps,
            config.anchor_steps,
        )
