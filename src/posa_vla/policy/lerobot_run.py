"""What only the options of the ``lerobot-train`` run that is building a policy tell."""

import logging
import sys
from typing import Any

from lerobot.configs.train import TrainPipelineConfig

from posa_vla.errors import PosaError
from posa_vla.policy.configuration_posa_vla import PosaVLAConfig
from posa_vla.policy.image_transforms import refuse_geometric_transforms
from posa_vla.policy.processor_posa_vla import hardly_moving

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


def check_statistics(stats: dict[str, dict[str, Any]] | None) -> None:
    """Refuse to go on from a checkpoint where LeRobot would divide by a spread of next to nothing.

    A new policy's processors mend such statistics; a checkpoint's get the dataset's raw ones from ``lerobot-train``.
    """
    run = running_train_config()
    if run is None or run.resume or not getattr(run.policy, "pretrained_path", None):
        return
    if found := hardly_moving(stats or {}):
        numbers = "; ".join(f"{key}: {', '.join(map(str, indices))}" for key, indices in found.items())
        raise PosaError(
            f"expected numbers that move, found some that hardly do ({numbers}), which lerobot-train would divide by "
            "next to nothing when it goes on from a checkpoint: use posa-vla train --policy.path instead"
        )
