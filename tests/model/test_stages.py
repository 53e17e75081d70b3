"""Stages: one sentence in one scene asks for different places, depending on what has been done."""

import pytest
import torch

from test_network import batch, network  # isort: skip


def of_one_scene(stages: int):
    """A network and a batch of four samples: one scene, one sentence, two states, each with its own target."""
    net = network(contrastive="none", stages=stages)
    data = batch(net.config)
    for tensor in (data.images, data.tokens, data.anchors):
        tensor[:] = tensor[:1].clone()
    data.state[:] = -1.0
    data.state[::2] = 1.0
    data.anchors[..., :2] = 0.25
    data.anchors[::2, ..., :2] = 0.75
    return net, data


@pytest.mark.parametrize("stages, told_apart", [(1, False), (3, True)])
def test_the_state_tells_what_to_look_for_next(stages, told_apart):
    net, data = of_one_scene(stages)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        optimiser.zero_grad()
        net.loss(data, anchor_only=True)[0].backward()
        optimiser.step()
    with torch.no_grad():
        uv = net.look(data.images, data.tokens, data.mask, data.state).focus.uv[:, :, 0]  # (4, 2, 2)
    error = (uv - data.anchors[:, :, 0, :2]).norm(dim=-1).mean()
    assert (error < 0.1) == told_apart
    assert torch.equal(uv[0], uv[1]) != told_apart


def test_the_end_anchor_asks_the_same_in_every_stage():
    net, data = of_one_scene(3)
    with torch.no_grad():
        maps = net.look(data.images, data.tokens, data.mask, data.state).maps
    torch.testing.assert_close(maps[0, :, 1], maps[1, :, 1])
    assert not torch.allclose(maps[0, :, 0], maps[1, :, 0], atol=1e-6)


def test_new_questions_begin_close_to_the_papers_query():
    net, data = of_one_scene(3)
    with torch.no_grad():
        sight = net.look(data.images, data.tokens, data.mask, data.state)
        asked = net.stage_query(sight.text, sight.patches, data.state)
        questions = net.stage_query.questions(sight.text)
    near = (asked - sight.text).norm(dim=-1) / sight.text.norm(dim=-1)
    assert (near > 0.005).all() and (near < 0.2).all()
    assert questions.std() > 0  # alike, they would all learn the same


def test_one_stage_is_the_papers_query_and_costs_nothing():
    assert not [name for name in network().state_dict() if "stage" in name]
    assert [name for name in network(stages=2).state_dict() if "stage" in name]
    assert not [name for name in network(stages=2, maps="ground_truth").state_dict() if "stage" in name]
