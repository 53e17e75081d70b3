"""Sizes of the policies that are compared."""

import pytest

from posa_vla.training.peer_benchmark import build, count


def test_the_peer_is_about_as_large_as_ours_and_its_text_tower_is_never_trained():
    """Comparable in what is trained: what the `small` recipe promises for multi_task_dit."""
    ours, peer = count(build("posa_vla")), count(build("multi_task_dit"))
    assert ours.frozen == 0 and 0.8 < peer.trained / ours.trained < 1.25
    policy = build("multi_task_dit")
    text = policy.observation_encoder.text_encoder.text_encoder
    assert peer.frozen == sum(p.numel() for p in text.parameters()) > 0
    assert 0 < peer.images < peer.trained


@pytest.mark.parametrize("name", ["posa_vla", "multi_task_dit"])
def test_image_encoders_are_found(name):
    size = count(build(name))
    assert 0 < size.images < size.trained


def test_a_wider_network_has_more():
    narrow, wide = count(build("act", ("--policy.dim_model=64",))), count(build("act"))
    assert narrow.trained < wide.trained and narrow.images == wide.images
