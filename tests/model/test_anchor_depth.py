"""The depth head and its loss: where gradients go, what counts, and that it learns."""

import math

import pytest
import torch

from posa_vla.errors import PosaError
from posa_vla.model.anchor_attention import predicted_focus
from posa_vla.model.anchor_depth import START, DepthHead, depth_loss
from posa_vla.model.configuration import preset
from posa_vla.model.network import PosaNetwork

from test_network import batch, network  # isort: skip


def test_an_untrained_head_answers_the_same_everywhere():
    focus = predicted_focus(torch.randn(2, 2, 2, 16), (4, 4))
    depth = DepthHead(8, 2, 2)(focus, torch.randn(2, 2, 16, 8))
    torch.testing.assert_close(depth, torch.full((2, 2, 2), START))


def test_the_loss_is_about_shares_of_the_distance_and_robust():
    anchors = torch.ones(1, 1, 2, 4)
    anchors[..., 2] = torch.tensor([0.2, 1.2])
    weight, seen = torch.ones(1, 1, 2), torch.ones(1, 1, 2, dtype=torch.bool)
    near, far = (depth_loss(anchors[..., 2] * factor, anchors, weight, seen) for factor in (1.05, 1 / 1.05))
    assert near.item() == pytest.approx(far.item(), rel=1e-4) == pytest.approx(math.log(1.05) ** 2 / 0.2, rel=1e-4)
    once, twice = (depth_loss(anchors[..., 2] * math.e**n, anchors, weight, seen).item() for n in (1, 2))
    assert twice - once == pytest.approx(1.0)  # linear, whatever the outlier
    single = depth_loss(torch.tensor([[[0.4, 1.2]]]), anchors, weight, seen)
    assert single.item() == pytest.approx((math.log(2) - 0.05) / 2)


def test_what_is_not_seen_counts_neither_above_nor_below_the_line():
    anchors = torch.ones(1, 1, 2, 4)
    depth = torch.full((1, 1, 2), 2.0, requires_grad=True)
    seen = torch.tensor([[[True, False]]])
    loss = depth_loss(depth, anchors, torch.ones(1, 1, 2), seen)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) - 0.05)
    assert depth.grad[0, 0, 0] > 0 and depth.grad[0, 0, 1] == 0
    half = depth_loss(depth.detach(), anchors, torch.full((1, 1, 2), 0.5), seen)
    assert half.item() == pytest.approx(loss.item() / 2)
    nothing = depth_loss(depth.detach(), anchors, torch.ones(1, 1, 2), torch.zeros(1, 1, 2, dtype=torch.bool))
    assert nothing.item() == 0


def test_depth_teaches_the_features_and_leaves_the_attention_alone():
    net = network(anchor_depth="predicted")
    torch.nn.init.normal_(net.depth_head.outer.weight)  # zero at first: the gradient would stop there
    data = batch(net.config)
    sight = net.look(data.images, data.tokens, data.mask, data.state)
    targets = net._targets(data, sight.grid)
    net._depth_loss(sight.focus.depth, targets, targets.weight, data.anchors).backward()
    used = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {name.split(".")[0] for name in used} == {"vision_encoder", "depth_head"}


def test_a_network_learns_depths_it_can_see():
    """The depth is the brightness of the picture, over one octave."""
    net = network(anchor_depth="predicted", contrastive="none")
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(80):
        data = batch(net.config, B=4)
        depth = 0.5 * 2 ** torch.rand(4, 2, generator=generator)
        data.images[:] = (depth - 0.4)[..., None, None, None]
        data.anchors[..., 2] = depth.unsqueeze(-1)
        optimiser.zero_grad()
        loss, info = net.loss(data, anchor_only=True)
        loss.backward()
        optimiser.step()
        errors.append(info["depth_loss"].item())
    assert sum(errors[-10:]) < 0.1 * sum(errors[:10])


def test_true_maps_bring_true_depths_and_no_head():
    net = network(maps="ground_truth", anchor_depth="predicted")
    assert not hasattr(net, "depth_head")
    data = batch(net.config)
    data.anchors[0, :, :, 3] = -1
    sight = net.look(data.images, data.tokens, data.mask, data.state, data.anchors)
    assert torch.equal(sight.focus.depth[1:], data.anchors[1:, ..., 2])
    assert sight.focus.depth[0].abs().sum() == 0


def test_off_by_default_and_then_no_parameter_of_it_exists():
    for name in ("paper", "sim", "tiny"):
        config = preset(name)
        assert config.anchor_depth == "none" and not config.point_tokens
        assert not config.visibility_weighting
    assert not [name for name in network().state_dict() if "depth" in name or "point" in name]
    sight = network().look(*_inputs())
    assert sight.focus.depth is None and sight.points is None


def _inputs():
    data = batch(network().config)
    return data.images, data.tokens, data.mask, data.state


def test_what_cannot_work_is_refused():
    with pytest.raises(PosaError, match="spatial_loss=false never teaches it"):
        preset("tiny", anchor_depth="predicted", spatial_loss=False)
    with pytest.raises(PosaError, match="set anchor_depth=predicted"):
        preset("tiny", point_tokens=True)
    preset("tiny", point_tokens=True, maps="ground_truth")
    with pytest.raises(PosaError, match="choose one of"):
        preset("tiny", anchor_depth="metric")


def test_visibility_weighting_decides_whether_a_hidden_anchor_counts():
    weighted, plain = network(contrastive="none", visibility_weighting=True), network(contrastive="none")
    assert isinstance(weighted, PosaNetwork)
    seen, hidden = batch(weighted.config), batch(weighted.config, visibility=0.0)
    half = batch(weighted.config, visibility=0.5)

    def focal(net, data):
        return net.loss(data, anchor_only=True)[1]["focal_loss"].item()

    assert focal(weighted, hidden) == 0
    assert focal(weighted, half) == pytest.approx(focal(weighted, seen) / 2)
    assert focal(plain, hidden) == focal(plain, seen) == focal(weighted, seen)
    unknown = batch(weighted.config, visibility=-1.0)
    assert focal(plain, unknown) == 0


def test_a_hidden_view_does_not_describe_the_object():
    """The contrastive term pools over the cameras that see an anchor; with weights 1 nothing changes."""
    weighted, plain = network(visibility_weighting=True), network()
    data = batch(weighted.config)

    def contrast(net):
        return net.loss(data, anchor_only=True)[1]["contrastive_loss"].item()

    assert contrast(weighted) == contrast(plain)
    data.anchors[:, 0, :, 3] = 0
    assert contrast(weighted) != contrast(plain)


def test_mixed_precision_does_not_round_depths():
    net = network(anchor_depth="predicted").eval()
    torch.nn.init.normal_(net.depth_head.outer.weight)
    data = batch(net.config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sight = net.look(data.images, data.tokens, data.mask, data.state)
    assert torch.equal(sight.focus.depth, net.depth_head(sight.focus, sight.patches.float()))
