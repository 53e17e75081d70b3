"""Anchors in space: both views together, the token, and the whole network with it."""

import numpy as np
import torch
from test_views import labels, near_the_table, states, tabletop, whole

from posa_vla.model.anchor_attention import Focus
from posa_vla.model.anchor_points import PointTokens, locate

from test_network import batch, network  # isort: skip


def focus_on(anchors: torch.Tensor, confidence: float = 1.0) -> Focus:
    maps = torch.zeros(*anchors.shape[:3], 1)
    return Focus(maps, anchors[..., :2], torch.full(anchors.shape[:3], confidence), maps, depth=anchors[..., 2].clone())


def scene(count: int = 6):
    geometry, cameras = tabletop()
    state, points = states(count), near_the_table(count)
    return geometry.views(state, whole(count)), labels(points, state, cameras), torch.tensor(points).float()


def test_true_anchors_of_both_views_agree_and_meet_in_the_true_point():
    views, anchors, points = scene()
    found = locate(focus_on(anchors), views)
    assert (found.by_view[:, 0] - found.by_view[:, 1]).abs().max() < 2e-6
    assert (found.position - points).abs().max() < 2e-6
    assert torch.equal(found.confidence, torch.ones(6, 2))


def test_the_surer_and_the_nearer_view_has_the_say():
    views, anchors, points = scene()
    focus = focus_on(anchors)
    focus.uv[:, 0] += 0.1  # the head is wrong
    by_both = (locate(focus, views).position - points).norm(dim=-1)
    by_head = (locate(focus, views).by_view[:, 0] - points).norm(dim=-1)
    assert (by_both < 0.25 * by_head).all()  # the wrist, 0.3 m away instead of 1, outweighs it
    focus.confidence[:, 1] = 0.02  # an empty wrist map
    by_both = (locate(focus, views).position - points).norm(dim=-1)
    assert (by_both > 0.95 * by_head).all()


def test_nothing_seen_anywhere_is_the_middle_of_the_workspace_without_confidence():
    views, anchors, _ = scene()
    anchors[..., 2] = 0  # as a true anchor that is unknown
    found = locate(focus_on(anchors, confidence=0.0), views)
    assert torch.equal(found.position, views.workspace.mean(0).expand(6, 2, 3))
    assert found.confidence.abs().sum() == 0


def test_a_token_tells_where_and_how_sure():
    views, anchors, _ = scene()
    tokens = PointTokens(16, 2)
    here = tokens(locate(focus_on(anchors), views), views)
    assert here.shape == (6, 2, 16)
    moved = anchors.clone()
    moved[..., 2] *= 1.02
    assert not torch.allclose(here, tokens(locate(focus_on(moved), views), views))
    assert not torch.allclose(here, tokens(locate(focus_on(anchors, 0.5), views), views))


def network_with_points(**switches):
    net = network(anchor_depth="predicted", point_tokens=True, **switches)
    data = batch(net.config)
    data.views = tabletop()[0].views(states(4), whole(4))
    return net, data


def test_the_action_loss_reaches_depths_and_attention_through_the_token():
    net, data = network_with_points(spatial_loss=True)
    for layer in (net.action_transformer.head, net.depth_head.outer):
        torch.nn.init.normal_(layer.weight, std=0.1)
    for block in net.action_transformer.blocks:
        torch.nn.init.normal_(block.modulation.weight, std=0.1)
    sight = net.look(data.images, data.tokens, data.mask, data.state, None, data.views)
    net.action_loss(net.remember(data.images, sight, data.state), data, torch.Generator().manual_seed(0)).backward()
    used = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"depth_head", "point_tokens", "attentions"} <= used


def test_a_network_with_points_trains_with_and_without_the_end_anchor():
    for switches in ({}, {"end_anchor": False}, {"anchor_tokens": False}, {"maps": "ground_truth"}):
        net, data = network_with_points(**switches)
        loss, info = net.loss(data)
        loss.backward()
        assert torch.isfinite(loss) and all(torch.isfinite(value).all() for value in info.values())
        assert ("depth_loss" in info) == ("maps" not in switches)


def test_with_true_maps_the_points_are_the_true_ones():
    net, data = network_with_points(maps="ground_truth")
    geometry, cameras = tabletop()
    state, points = states(4), near_the_table(4)
    anchors = labels(points, state, cameras)
    sight = net.look(data.images, data.tokens, data.mask, data.state, anchors, geometry.views(state, whole(4)))
    inside = ((anchors[..., :2] >= 0) & (anchors[..., :2] < 1)).all(-1).any(1)
    assert inside.any()
    assert np.abs(sight.points.position.numpy() - points)[inside.numpy()].max() < 5e-6
