"""The whole network: presets, switches, gradients, unknown anchors, and cached keys and values."""

import math

import pytest
import torch

from posa_vla.anchors.heatmap import anchor_maps
from posa_vla.errors import PosaError
from posa_vla.model import network as network_module
from posa_vla.model.anchor_attention import predicted_focus
from posa_vla.model.configuration import preset
from posa_vla.model.network import Batch, PosaNetwork

SMALL = {"image_size": 96, "vision_width": 32, "width": 32, "depth": 2, "heads": 2, "chunk_size": 4, "memory_grid": 4}
END_TOKENS = torch.tensor([106, 117, 1])


def network(**overrides):
    torch.manual_seed(0)
    return PosaNetwork(preset("tiny", **(SMALL | overrides)), END_TOKENS)


def batch(config, B=4, visibility=1.0):
    generator = torch.Generator().manual_seed(1)
    S, T = config.image_size, config.chunk_size
    anchors = torch.rand(B, config.num_cameras, 2, 4, generator=generator)
    anchors[..., 3] = visibility
    return Batch(
        images=torch.rand(B, config.num_cameras, 3, S, S, generator=generator),
        tokens=torch.randint(3, 200, (B, 16), generator=generator),
        mask=torch.ones(B, 16, dtype=torch.bool),
        state=torch.randn(B, config.state_dim, generator=generator),
        actions=torch.randn(B, T, config.action_dim, generator=generator),
        action_is_pad=torch.zeros(B, T, dtype=torch.bool),
        anchors=anchors,
        steps_to_interaction=torch.tensor([[0.0], [3.0], [50.0], [-1.0]])[:B],
        task=torch.tensor([0, 1, 0, 2])[:B],
    )


SWITCHES = [
    {},
    {"spatial_loss": False},
    {"contrastive": "none"},
    {"contrastive": "visual"},
    {"spatial_loss": False, "contrastive": "none"},
    {"spatial_loss": False, "alpha": 1.0},
    {"end_anchor": False},
    {"gate": "none"},
    {"gate": "sum"},
    {"gate": "concat"},
    {"anchor_tokens": False},
    {"task_labels": "event_frames"},
    {"maps": "ground_truth"},
    {"maps": "ground_truth", "end_anchor": False, "gate": "concat"},
    {"memory_grid": 0},
    {"flow_samples": 1, "flow_time": "beta_literal"},
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_ablation_trains(switches):
    net = network(**switches)
    for module in (net.action_transformer.head, *net.action_transformer.blocks):
        layer = getattr(module, "modulation", module)
        torch.nn.init.normal_(layer.weight, std=0.02)  # past adaLN-zero's first step, so that gradients reach all
    loss, info = net.loss(batch(net.config))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(value).all() for value in info.values())
    for name, parameter in net.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    used = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    attends = {"attentions"} if net.config.maps == "predicted" else set()
    assert {"text_encoder", "vision_encoder", "action_transformer", "embed_patches"} | attends <= used


def test_unknown_anchors_give_zero_focal_loss_and_no_nan():
    net = network(contrastive="none")
    loss, info = net.loss(batch(net.config, visibility=-1.0), anchor_only=True)
    loss.backward()
    assert info["focal_loss"].item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_unknown_anchors_in_the_contrastive_term_are_zero_padded():
    net = network(spatial_loss=False)
    loss, _ = net.loss(batch(net.config, visibility=-1.0), anchor_only=True)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in net.vision_encoder.parameters())


def test_an_anchor_out_of_frame_is_trained_to_an_empty_map():
    net = network(contrastive="none")
    data = batch(net.config, B=1)
    data.anchors[..., 0] = 1.5
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    first = net.look(data.images, data.tokens, data.mask, data.state).maps.max().item()
    for _ in range(30):
        optimiser.zero_grad()
        net.loss(data, anchor_only=True)[0].backward()
        optimiser.step()
    last = net.look(data.images, data.tokens, data.mask, data.state).maps.max().item()
    assert last < 0.5 * first


def test_anchor_only_stage_leaves_the_action_transformer_alone():
    net = network()
    net.loss(batch(net.config), anchor_only=True)[0].backward()
    assert all(p.grad is None for p in net.action_transformer.parameters())


def test_cached_keys_and_values_give_the_same_actions_to_the_bit():
    net = network().eval()
    for parameter in net.action_transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    data = batch(net.config)
    with torch.no_grad():
        sight = net.look(data.images, data.tokens, data.mask, data.state)
        memory = net.remember(data.images, sight, data.state)
        noise = torch.randn(4, net.config.chunk_size, net.config.action_dim)
        cached = net.sample_actions(memory, noise, steps=5)
        x, transformer = noise, net.action_transformer
        for modulations in zip(*transformer.modulations(torch.arange(5) / 5), strict=True):
            x = x + transformer.velocity(x, modulations, transformer.remember(memory)) / 5
    assert torch.equal(cached, x)


def test_an_open_gate_equals_no_gate():
    gated, free = network(gate="max", anchor_tokens=False).eval(), network(gate="none", anchor_tokens=False).eval()
    data = batch(gated.config)
    sight = gated.look(data.images, data.tokens, data.mask, data.state)
    sight.focus = predicted_focus(torch.full_like(sight.focus.logits, 1e4), sight.grid)  # sigmoid = 1 exactly
    assert torch.equal(gated.remember(data.images, sight, data.state), free.remember(data.images, sight, data.state))


def test_with_true_maps_the_anchors_decide_and_nothing_attends():
    net = network(maps="ground_truth", contrastive="paper").eval()
    assert not net.attentions
    assert not hasattr(net, "contrastive")
    data = batch(net.config)
    loss, info = net.loss(data)
    assert torch.equal(loss, info["action_loss"])
    sight = net.look(data.images, data.tokens, data.mask, data.state, data.anchors)
    other = net.look(data.images, data.tokens, data.mask, data.state, data.anchors.flip(0))
    memory = net.remember(data.images, sight, data.state)
    assert not torch.equal(memory, net.remember(data.images, other, data.state))
    assert torch.equal(sight.maps, anchor_maps(data.anchors, sight.grid).maps)


@pytest.mark.parametrize("anchor", [(0.0, 0.0, 0.0, -1.0), (1.5, 0.5, 1.0, 1.0), (-1.0, -1.0, -0.2, 1.0)])
def test_true_anchors_that_are_not_in_the_picture_give_an_empty_map_and_no_confidence(anchor):
    net = network(maps="ground_truth").eval()
    data = batch(net.config)
    data.anchors[:, :, 0] = torch.tensor(anchor)
    sight = net.look(data.images, data.tokens, data.mask, data.state, data.anchors)
    assert sight.maps[:, :, 0].abs().sum() == 0
    assert sight.focus.confidence[0].tolist() == [[0.0, 1.0]] * 2
    assert torch.equal(sight.focus.uv[:, :, 1], data.anchors[:, :, 1, :2])
    assert net.remember(data.images, sight, data.state).isfinite().all()


def test_event_frames_masks_frames_far_from_an_interaction():
    net = network(task_labels="event_frames", event_window=5)
    known = net._targets(batch(net.config), (12, 12)).known[:, 0, 0]
    assert known.tolist() == [True, True, False, False]


def test_a_target_is_round_in_a_picture_that_is_wider_than_high():
    data = batch(network().config)
    data.anchors[..., :2] = 0.5
    maps = network(aspect=4 / 3)._targets(data, (12, 16)).maps  # as many patches per pixel along both sides
    middle = maps[..., 2:-2]
    torch.testing.assert_close(middle, middle.mT)
    nearest = math.exp(-2 * (0.5 / 12) ** 2 / (2 * 0.1**2))  # half a patch off both ways; σ = 1/10 of the height
    assert maps[0, 0, 0, 5:7, 7:9].flatten().tolist() == pytest.approx([nearest] * 4)


def test_a_true_anchors_map_has_the_proportions_of_the_picture_too():
    net = network(maps="ground_truth", aspect=4 / 3).eval()
    data = batch(net.config)
    sight = net.look(data.images, data.tokens, data.mask, data.state, data.anchors)
    torch.testing.assert_close(sight.maps, anchor_maps(data.anchors, sight.grid, (640, 480)).maps)


@pytest.mark.parametrize(
    ("switches", "pairs"),
    [({}, 1), ({"contrastive": "visual"}, 1), ({"contrastive": "none"}, None), ({"alpha": 1.0}, None)],
)
def test_same_task_pairs_are_counted_where_the_contrastive_term_has_weight(switches, pairs):
    net = network(**switches)
    assert net.loss(batch(net.config), anchor_only=True)[1].get("same_task_pairs") == pairs


def test_same_task_pairs_are_those_of_all_processes(monkeypatch):
    net = network()
    monkeypatch.setattr(network_module, "gather", lambda task: torch.cat([task, task]))
    _, info = net.loss(batch(net.config), anchor_only=True)
    assert info["same_task_pairs"] == 6 + 1 + 1  # of four, two and two samples


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "sim"])
def test_full_size_presets_run_without_a_download(name):
    net = PosaNetwork(preset(name, pretrained=False, tokenizer="bytes"), END_TOKENS)
    data = batch(net.config, B=1)
    net.loss(data)[0].backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(("name", "value"), [("gate", "min"), ("contrastive", "simclr"), ("flow_time", "cosine")])
def test_unknown_choices_list_the_valid_ones(name, value):
    with pytest.raises(PosaError, match="choose one of"):
        preset("tiny", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("heads", 0),
        ("integration_steps", 0),
        ("flow_samples", 0),
        ("chunk_size", -1),
        ("memory_grid", -1),
        ("sigma_task", 0.0),
        ("aspect", 0.0),
        ("focal_gamma", float("nan")),
        ("alpha", 1.5),
        ("vision_width", 100),
    ],
)
def test_numbers_that_cannot_work_are_one_sentence(name, value):
    with pytest.raises(PosaError, match=f"{name}.*found"):
        preset("tiny", **{name: value})
