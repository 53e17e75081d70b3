"""Which of LeRobot's own image transforms may run beside anchors."""

from types import SimpleNamespace

import pytest
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.transforms import ImageTransformConfig, ImageTransformsConfig
from policy_fakes import small_config

from posa_vla.errors import PosaError
from posa_vla.policy.image_transforms import refuse_geometric_transforms
from posa_vla.policy.lerobot_run import running_train_config
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy


def config_with(**transforms: ImageTransformsConfig) -> TrainPipelineConfig:
    return TrainPipelineConfig(dataset=DatasetConfig(repo_id="local/x", **transforms), steps=100)


def build_as_lerobot_train_does(cfg: TrainPipelineConfig, **overrides) -> PosaVLAPolicy:
    """`cfg` is a local variable of the caller's caller, as in lerobot.scripts.lerobot_train.train."""

    def factory():
        return PosaVLAPolicy(small_config(**overrides))

    return factory()


def test_lerobots_default_set_is_refused_with_the_reason():
    run = config_with(image_transforms=ImageTransformsConfig(enable=True))
    with pytest.raises(PosaError, match=r"affine \(RandomAffine\), which moves pixels away from the anchors"):
        build_as_lerobot_train_does(run)


def test_geometric_transforms_are_harmless_without_anchors():
    run = config_with(image_transforms=ImageTransformsConfig(enable=True))
    assert build_as_lerobot_train_does(run, spatial_loss=False, contrastive="none", anchor_steps=0)


def test_colour_zero_weight_and_disabled_transforms_pass():
    colours = ImageTransformsConfig(enable=True)
    colours.tfs["affine"].weight = 0.0
    refuse_geometric_transforms(config_with(image_transforms=colours))
    refuse_geometric_transforms(config_with(image_transforms=ImageTransformsConfig(enable=False)))
    refuse_geometric_transforms(None)


@pytest.mark.parametrize("kind", ["RandomHorizontalFlip", "RandomCrop", "SomethingNew"])
def test_what_is_not_known_to_leave_pixels_in_place_is_refused(kind):
    transforms = ImageTransformsConfig(enable=True, tfs={"mine": ImageTransformConfig(type=kind)})
    with pytest.raises(PosaError, match=f"mine \\({kind}\\)"):
        refuse_geometric_transforms(config_with(image_transforms=transforms))


def test_a_run_that_ends_inside_stage_one_warns(caplog):
    build_as_lerobot_train_does(config_with(), anchor_steps=100)
    assert "no action will be learned" in caplog.text


def test_no_running_lerobot_train_is_no_config():
    dataset = SimpleNamespace(image_transforms=None)  # a look-alike in the caller must not be taken for one
    assert running_train_config() is None, dataset
