"""Presets and overrides, what is saved, and what the features decide."""

import json
from dataclasses import fields

import draccus
import pytest
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from policy_fakes import small_config

from posa_vla import contract
from posa_vla.data.augmentation import AugmentationConfig
from posa_vla.errors import PosaError
from posa_vla.model import configuration as network_configuration
from posa_vla.model.configuration import PRESETS, NetworkConfig
from posa_vla.policy.configuration_posa_vla import FROM_FEATURES, PosaVLAConfig


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_every_field_that_features_do_not(name):
    config = PosaVLAConfig(preset=name, device="cpu")
    for field in fields(NetworkConfig):
        expected = None if field.name in FROM_FEATURES else getattr(PRESETS[name], field.name)
        assert getattr(config, field.name) == expected, field.name


def test_an_override_equal_to_another_presets_value_still_counts():
    paper = PRESETS["paper"]
    config = PosaVLAConfig(preset="tiny", width=paper.width, device="cpu")
    assert config.width == paper.width
    assert config.depth == PRESETS["tiny"].depth


def test_flags_are_flat_and_nested_augmentation_parses():
    args = ["--width=256", "--gate=sum", "--device=cpu", "--augmentation.shift=0.1", "--end_anchor=false"]
    config = draccus.parse(PosaVLAConfig, args=args)
    assert (config.width, config.gate, config.augmentation.shift, config.end_anchor) == (256, "sum", 0.1, False)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"preset": "huge"}, "paper, sim, tiny"),
        ({"gate": "min"}, "concat, max, none, sum"),
        ({"chunk_size": 4, "n_action_steps": 5}, "between 1 and chunk_size=4"),
        ({"crop": 0.0}, "fraction"),
    ],
)
def test_bad_values_name_the_valid_ones(overrides, sentence):
    with pytest.raises(PosaError, match=sentence):
        PosaVLAConfig(device="cpu", **overrides)


@pytest.mark.parametrize(
    "switches",
    [
        {"maps": "ground_truth"},
        {"spatial_loss": False, "contrastive": "none"},
        {"spatial_loss": False, "alpha": 1.0},
        {"contrastive": "none", "alpha": 0.0},
        {"contrastive": "none", "spatial_weight": 0.0},
    ],
    ids=str,
)
def test_a_first_stage_without_a_loss_is_refused(switches):
    with pytest.raises(PosaError, match=r"no loss that does so with maps=.*: set --policy\.anchor_steps=0"):
        PosaVLAConfig(device="cpu", anchor_steps=2_000, **switches)
    assert PosaVLAConfig(device="cpu", **switches).anchor_steps == 0
    config = PosaVLAConfig(device="cpu", anchor_steps=0, **switches)
    assert config.uses_anchors == ("maps" in switches)


@pytest.mark.parametrize(
    "switches",
    [
        {"spatial_loss": False},
        {"contrastive": "none"},
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"anchor_depth": "predicted", "contrastive": "none", "alpha": 0.0},
    ],
    ids=str,
)
def test_one_loss_with_weight_is_enough_for_a_first_stage(switches):
    assert PosaVLAConfig(device="cpu", **switches).anchor_steps == 2_000
    assert PosaVLAConfig(device="cpu", anchor_steps=7, **switches).uses_anchors


@pytest.mark.parametrize(
    ("image", "output_size", "aspect"),
    [
        ((128, 128), None, 1.0),
        ((480, 640), None, 4 / 3),
        ((640, 480), None, 3 / 4),
        ((480, 640), 400, 1.0),
        ((480, 640), (300, 600), 2.0),
    ],
)
def test_the_network_knows_the_proportions_of_its_crop_and_no_checkpoint_has_to(tmp_path, image, output_size, aspect):
    config = small_config(augmentation=AugmentationConfig(output_size=output_size))
    for key in contract.CAMERAS:
        config.input_features[contract.image_key(key)] = PolicyFeature(FeatureType.VISUAL, (3, *image))
    config.validate_features()
    assert config.network().aspect == aspect
    config.save_pretrained(tmp_path)
    assert "aspect" not in json.loads((tmp_path / "config.json").read_text())
    loaded = PreTrainedConfig.from_pretrained(tmp_path)
    assert loaded == config and loaded.network() == config.network()


def test_a_saved_config_does_not_follow_a_changed_preset(tmp_path, monkeypatch):
    config = small_config(preset="tiny", seed=5)
    config.validate_features()
    config.save_pretrained(tmp_path)
    monkeypatch.setitem(
        network_configuration.PRESETS, "tiny", NetworkConfig(encoder="tiny", dense_encoder="shared", width=640)
    )
    loaded = PreTrainedConfig.from_pretrained(tmp_path)
    assert loaded == config


def test_command_line_overrides_a_saved_config(tmp_path):
    small_config().save_pretrained(tmp_path)
    loaded = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=["--n_action_steps=3"])
    assert loaded.n_action_steps == 3


def test_the_labels_are_no_inputs_and_sizes_come_from_the_features():
    config = small_config()
    config.validate_features()
    assert set(config.input_features) == {"observation.images.head", "observation.images.wrist", contract.STATE}
    assert (config.num_cameras, config.state_dim, config.action_dim) == (2, 8, 7)
    assert config.augmentation.output_size == (112, 112)  # 7/8 of 128


def test_an_explicit_crop_in_pixels_goes_before_the_fraction():
    config = draccus.parse(PosaVLAConfig, args=["--device=cpu", "--augmentation.output_size=[96, 104]"])
    config.input_features, config.output_features = small_config().input_features, small_config().output_features
    config.validate_features()
    assert tuple(config.augmentation.output_size) == (96, 104)


@pytest.mark.parametrize(
    ("key", "feature", "sentence"),
    [
        (contract.STATE, PolicyFeature(FeatureType.STATE, (9,)), "built for 8 numbers in observation.state.* has 9"),
        ("observation.images.third", PolicyFeature(FeatureType.VISUAL, (3, 128, 128)), "built for 2 cameras"),
        ("observation.images.wrist", PolicyFeature(FeatureType.VISUAL, (3, 64, 64)), "cameras of one size"),
    ],
)
def test_a_checkpoint_insists_on_its_sizes(key, feature, sentence):
    config = small_config()
    config.validate_features()
    config.input_features[key] = feature
    with pytest.raises(PosaError, match=sentence):
        config.validate_features()


def test_missing_images_and_missing_state_are_named():
    config = small_config()
    config.input_features = {contract.STATE: PolicyFeature(FeatureType.STATE, (8,))}
    with pytest.raises(PosaError, match="at least one image"):
        config.validate_features()
    config = small_config()
    config.input_features.pop(contract.STATE)
    with pytest.raises(PosaError, match=r"'observation\.state'"):
        config.validate_features()


def test_the_help_documents_every_field():
    documentation = PosaVLAConfig.__doc__
    own = [field.name for field in fields(PosaVLAConfig) if field.name in vars(PosaVLAConfig)]
    for name in own + [field.name for field in fields(NetworkConfig)]:
        assert f"{name}:" in documentation, name
