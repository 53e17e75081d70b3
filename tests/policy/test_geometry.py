"""The rig in the checkpoint: taken from the labels, kept in config.json, refused where it cannot place a camera."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from policy_fakes import batch_of, fake_meta, small_config, small_policy

from posa_vla import contract
from posa_vla.anchors.pose import EE, WORLD, Transform, rotation_matrix
from posa_vla.errors import PosaError
from posa_vla.policy.dataset import rig_geometry
from posa_vla.policy.geometry import from_rig, read_geometry
from posa_vla.policy.modeling_posa_vla import PosaVLAPolicy
from posa_vla.policy.processor_posa_vla import make_posa_vla_pre_post_processors
from posa_vla.rigs import load_rig, parse_rig

WORKSPACE = [[0.3, -0.3, 0.0], [0.7, 0.3, 0.4]]
SPACE = {"anchor_depth": "predicted", "point_tokens": True}
TRUE_SPACE = {"maps": "ground_truth", "point_tokens": True, "anchor_steps": 0}


def provenance(**changes):
    return {"rig": load_rig("tabletop").to_dict(), "workspace": WORKSPACE, **changes}


@pytest.fixture
def labelled(tmp_path):
    """A dataset's folder, as far as a policy reads it."""
    (tmp_path / "meta").mkdir()
    (tmp_path / contract.ANCHORS_FILE).write_text(json.dumps(provenance()))
    return tmp_path


def policy_in_space(root, **switches):
    policy = small_policy(fake_meta(root), **(switches or SPACE))
    for module in (policy.network.action_transformer.head, *policy.network.action_transformer.blocks):
        torch.nn.init.normal_(getattr(module, "modulation", module).weight, std=0.1)
    return policy


def batch_in_space(policy):
    """A batch whose raw state puts the hand over the table, with the true anchors of points on the table."""
    batch = batch_of(policy)
    state = torch.tensor([[0.5, 0.0, 0.3, 2.2, 2.2, 0.0, 0.04, -0.04]]).repeat(4, 1)
    state[:, 1] += torch.linspace(-0.05, 0.05, 4)
    points = np.random.default_rng(0).uniform((0.45, -0.05, 0), (0.55, 0.05, 0.1), (4, 2, 3))
    matrix = np.tile(np.eye(4), (4, 1, 1))
    matrix[:, :3, 3], matrix[:, :3, :3] = state[:, :3], rotation_matrix(state[:, 3:6].numpy(), "axis_angle")
    for c, camera in enumerate(load_rig("tabletop").cameras):
        for k in range(2):
            uvd = camera.project(points[:, k], Transform(WORLD, EE, matrix))
            batch[contract.ANCHORS][:, c, k, :3] = torch.tensor(uvd)
    return {**batch, contract.RAW_STATE: state}, points


def observed(batch):
    return {key: value for key, value in batch.items() if key.startswith("observation.")}


def test_training_in_space_takes_the_rig_from_the_labels(labelled):
    policy = policy_in_space(labelled).train()
    assert [camera.name for camera in policy.config.geometry.cameras] == ["head", "wrist"]
    batch, _ = batch_in_space(policy)
    loss, _ = policy(batch)
    loss.backward()
    assert loss.isfinite()
    policy.config.anchor_steps = 0
    loss, info = policy(batch)
    assert {"depth_loss", "action_loss"} <= info.keys()


def test_a_checkpoint_carries_its_rig_and_acts_identically(labelled, tmp_path):
    policy = policy_in_space(labelled)
    batch, _ = batch_in_space(policy)
    batch, noise = observed(batch), torch.randn(4, 6, 7)
    policy.save_pretrained(tmp_path / "checkpoint")
    loaded = PosaVLAPolicy.from_pretrained(tmp_path / "checkpoint")
    assert loaded.config.geometry == policy.config.geometry
    assert torch.equal(loaded.predict_action_chunk(batch, noise), policy.predict_action_chunk(batch, noise))


def test_the_raw_state_moves_the_points_and_the_actions(labelled):
    policy = policy_in_space(labelled)
    batch, _ = batch_in_space(policy)
    moved = {**batch, contract.RAW_STATE: batch[contract.RAW_STATE] + 0.05}
    noise = torch.randn(4, 6, 7)
    assert not torch.equal(
        policy.predict_action_chunk(observed(batch), noise), policy.predict_action_chunk(observed(moved), noise)
    )


@pytest.mark.parametrize("crop", [1.0, 0.875, 0.7])
def test_true_anchors_lead_to_the_true_points_through_any_crop(labelled, crop):
    policy = policy_in_space(labelled, crop=crop, **TRUE_SPACE)
    batch, points = batch_in_space(policy)
    view = policy.attention(observed(batch))
    assert np.abs(view.points.numpy() - points).max() < 5e-6
    seen = view.confidence > 0
    torch.testing.assert_close(view.depth[seen], batch[contract.ANCHORS][..., 2][seen])
    assert view.depth[~seen].isnan().all()


def test_training_crops_lead_to_the_true_points_too(labelled):
    """What the network is given in training: an augmented window and the view through it."""
    policy = policy_in_space(labelled, **TRUE_SPACE).train()
    batch, points = batch_in_space(policy)
    images, anchors, windows = policy._training_images(batch, torch.Generator().manual_seed(1))
    assert not torch.allclose(anchors[..., 2], batch[contract.ANCHORS][..., 2], atol=1e-3)  # some zoom
    sight = policy.network.look(
        images,
        batch[contract.LANGUAGE_TOKENS],
        batch[contract.LANGUAGE_MASK],
        batch[contract.STATE],
        anchors,
        policy._views(batch, windows),
    )
    assert np.abs(sight.points.position.numpy() - points).max() < 5e-6


def test_without_an_end_anchor_its_depth_and_point_are_nan(labelled):
    policy = policy_in_space(labelled, end_anchor=False, **SPACE)
    view = policy.attention(observed(batch_in_space(policy)[0]))
    assert view.depth.shape == (4, 2, 2) and view.points.shape == (4, 2, 3)
    assert view.depth[..., 1].isnan().all() and view.points[:, 1].isnan().all()
    assert view.depth[..., 0].isfinite().all() and view.points[:, 0].isfinite().all()


def test_the_preprocessor_keeps_the_raw_state_only_where_it_is_needed(labelled):
    stats = {
        contract.STATE: {"mean": torch.ones(8), "std": torch.full((8,), 2.0)},
        contract.ACTION: {name: torch.full((7,), float(i)) for i, name in enumerate(("min", "q01", "q99", "max"))},
    }
    raw = {key: value[0] for key, value in batch_of(small_policy()).items() if key.startswith("observation.images")}
    raw |= {contract.STATE: torch.arange(8.0), "task": "pick up the red can"}
    for switches, kept in (({}, False), (SPACE, True)):
        policy = small_policy(fake_meta(labelled), **switches)
        pre, _ = make_posa_vla_pre_post_processors(policy.config, stats)
        batch = pre(dict(raw))
        torch.testing.assert_close(batch[contract.STATE][0], (torch.arange(8.0) - 1) / 2)
        assert (contract.RAW_STATE in batch) == kept
        if kept:
            torch.testing.assert_close(batch[contract.RAW_STATE][0], torch.arange(8.0))


# ---- what cannot work ---------------------------------------------------------------------------------------------


def test_a_batch_without_the_raw_state_is_refused(labelled):
    """As from the processors of a checkpoint that had no points in space, when lerobot-train adds them."""
    batch, _ = batch_in_space(policy := policy_in_space(labelled))
    del batch[contract.RAW_STATE]
    with pytest.raises(PosaError, match="posa-vla train"):
        policy.forward(batch)


def test_without_a_labelled_dataset_there_is_no_rig(tmp_path):
    with pytest.raises(PosaError, match=r"needs the cameras' calibration, found no .*posa_anchors\.json"):
        policy_in_space(tmp_path)
    policy = small_policy(**SPACE)
    with pytest.raises(PosaError, match="found none in the policy's configuration"):
        policy(batch_of(policy))
    with pytest.raises(PosaError, match=r"pass --dataset\.root=DIR beside the cache"):
        policy.use_dataset({}, np.arange(3))
    assert rig_geometry(small_config(), None) is None


def test_labels_of_an_older_version_ask_to_be_made_again(labelled):
    old = provenance()
    del old["workspace"]
    (labelled / contract.ANCHORS_FILE).write_text(json.dumps(old))
    with pytest.raises(PosaError, match="'workspace': label the dataset again"):
        read_geometry(labelled, contract.CAMERAS)


def test_a_hand_camera_without_the_hands_pose_is_refused():
    content = load_rig("tabletop").to_dict() | {"state_pose": None}
    rig = parse_rig(content)
    with pytest.raises(PosaError, match=r"pose in observation\.state.*'wrist'.*under state_pose"):
        from_rig(rig, contract.CAMERAS, WORKSPACE)
    assert from_rig(rig, ("head",), WORKSPACE).position == []
    with pytest.raises(PosaError, match=r"state_pose: expected column: observation\.state"):
        parse_rig(content | {"state_pose": {"column": "ee_pose"}})


def test_cameras_that_stand_elsewhere_in_each_scene_are_refused(labelled):
    libero = load_rig("libero").to_dict()
    path = labelled / contract.ANCHORS_FILE
    path.write_text(json.dumps(provenance(rig=libero, scenes={"libero/floor": 3, "libero/study": 2})))
    with pytest.raises(PosaError, match=r"cameras that stay in place, .* 2 scenes .*\(floor, study\)"):
        read_geometry(labelled, ("image", "image2"))
    path.write_text(json.dumps(provenance(rig=libero, scenes={"libero/floor": 3})))
    head, wrist = read_geometry(labelled, ("image", "image2")).cameras
    assert head.focal[0] < 0 < head.focal[1] and wrist.mount == "end_effector"  # the picture is mirrored


def test_on_another_rig_the_cameras_change_and_the_workspace_stays(labelled, caplog):
    policy = policy_in_space(labelled)
    before = policy.config.geometry
    (labelled / contract.ANCHORS_FILE).write_text(json.dumps(provenance(workspace=[[0, 0, 0], [1, 1, 1]])))
    policy.use_dataset({}, np.arange(3), labelled)
    assert policy.config.geometry == before and not caplog.records
    moved = provenance()
    moved["rig"]["cameras"][0]["cam_from_mount"][2][3] += 0.1
    (labelled / contract.ANCHORS_FILE).write_text(json.dumps(moved))
    policy.use_dataset({}, np.arange(3), labelled)
    assert policy.config.geometry.cameras[0] != before.cameras[0]
    assert policy.config.geometry.workspace == before.workspace
    assert "rig tabletop" in caplog.text
    policy.use_dataset({}, np.arange(3))  # from the cache alone
    assert policy.config.geometry.cameras[0] != before.cameras[0]


def test_a_side_of_the_workspace_without_motion_is_widened():
    flat = from_rig(load_rig("tabletop"), contract.CAMERAS, [[0.3, -0.3, 0.1], [0.7, 0.3, 0.1]])
    low, high = np.array(flat.workspace)
    assert (high - low) == pytest.approx([0.4, 0.6, 0.05]) and (low + high)[2] == pytest.approx(0.2)
    assert replace(flat, rig="x").rig == "x"
