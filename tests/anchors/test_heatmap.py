"""Anchor maps and Ω+ against the written formula, and what each kind of label supervises."""

import math
import time

import pytest
import torch

from posa_vla.anchors.heatmap import SIGMA_END, SIGMA_TASK, anchor_maps, positives


def anchors(*rows: tuple[float, float, float, float]) -> torch.Tensor:
    """One camera per row, the same label for task and end: (1, C, 2, 4)."""
    return torch.tensor(rows).view(1, -1, 1, 4).expand(1, -1, 2, 4).contiguous()


@pytest.mark.parametrize(("grid", "size"), [((14, 14), (224, 224)), ((7, 12), (320, 180)), ((9, 5), (64, 200))])
def test_maps_equal_the_written_formula(grid, size):
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(3, 2, 2, 4, generator=generator, dtype=torch.float64)
    targets = anchor_maps(labels, grid, size)
    (rows, columns), (W, H) = grid, size
    for b, c, a in torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(2)).tolist():
        u, v = labels[b, c, a, :2].tolist()
        sigma = (SIGMA_TASK, SIGMA_END)[a] * min(W, H)
        for r in range(rows):
            for k in range(columns):
                x, y = (k + 0.5) * W / columns, (r + 0.5) * H / rows
                expected = math.exp(-((x - u * W) ** 2 + (y - v * H) ** 2) / (2 * sigma**2))
                assert targets.maps[b, c, a, r, k].item() == pytest.approx(expected, abs=1e-12)


def test_no_image_size_means_a_square_image():
    labels = torch.rand(4, 2, 2, 4)
    assert torch.equal(anchor_maps(labels, (6, 6)).maps, anchor_maps(labels, (6, 6), (96, 96)).maps)


def test_what_is_known_what_is_in_frame_and_what_it_weighs():
    labels = anchors(
        (0.5, 0.5, 1.0, 1.0),  # seen
        (0.5, 0.5, 1.0, 0.25),  # mostly hidden
        (0.5, 0.5, 1.0, 0.0),  # fully hidden, still known
        (0.5, 0.5, 1.0, -1.0),  # unknown
        (1.2, 0.5, 1.0, 1.0),  # right of the image
        (0.5, -0.01, 1.0, 1.0),  # above it
        (-1.0, -1.0, -0.3, 1.0),  # behind the camera
    )
    targets = anchor_maps(labels, (14, 14))
    assert targets.known[0, :, 0].tolist() == [True, True, True, False, True, True, True]
    assert targets.in_frame[0, :, 0].tolist() == [True, True, True, False, False, False, False]
    assert targets.weight[0, :, 1].tolist() == [1.0, 0.25, 0.0, 0.0, 1.0, 1.0, 1.0]
    empty = ~targets.in_frame
    assert (targets.maps[empty] == 0).all() and not positives(targets)[empty].any()
    assert (targets.maps[~empty].amax((-2, -1)) > 0.5).all()


def test_a_point_behind_the_camera_never_peaks_even_if_it_projects_into_the_image():
    targets = anchor_maps(anchors((0.5, 0.5, -1.0, 1.0), (0.5, 0.5, 0.0, 1.0)), (8, 8))
    assert targets.known.all() and targets.maps.sum() == 0


@pytest.mark.parametrize("grid", [(8, 8), (14, 14), (3, 9)])
def test_positives_are_above_tau_or_hold_the_anchor(grid):
    labels = torch.rand(200, 2, 2, 4, generator=torch.Generator().manual_seed(1))
    targets = anchor_maps(labels, grid, (128, 96))
    chosen = positives(targets)
    assert chosen.flatten(3).any(-1).all()  # never empty in frame
    assert (chosen | (targets.maps <= 0.7)).all()
    extra = chosen & (targets.maps <= 0.7)
    assert extra.flatten(3).sum(-1).max() <= 1
    peak = targets.maps.flatten(3).argmax(-1, keepdim=True)
    assert chosen.flatten(3).gather(-1, peak).all()  # the nearest patch is the map's peak


def test_a_coarse_grid_needs_the_nearest_patch():
    labels = torch.rand(2000, 1, 2, 4, generator=torch.Generator().manual_seed(2))
    above = (anchor_maps(labels, (8, 8)).maps[:, :, 1] > 0.7).flatten(2).any(-1)
    assert 0.3 < 1 - above.float().mean() < 0.42  # 36 % of the places have no patch over τ_pos


def test_moving_the_anchor_by_one_patch_moves_the_map_by_one_patch():
    first = anchor_maps(anchors((0.3, 0.4, 1.0, 1.0)), (10, 10)).maps
    second = anchor_maps(anchors((0.4, 0.6, 1.0, 1.0)), (10, 10)).maps
    torch.testing.assert_close(first[..., :8, :9], second[..., 2:, 1:], atol=1e-6, rtol=1e-4)


def test_a_wrong_shape_says_what_was_expected():
    with pytest.raises(ValueError, match=r"\(B, C, 2, 4\), got \(2, 2, 4\)"):
        anchor_maps(torch.zeros(2, 2, 4), (8, 8))


def test_a_training_batch_takes_well_under_two_milliseconds():
    labels = torch.rand(64, 2, 2, 4)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        positives(anchor_maps(labels, (14, 14), (224, 224)))
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3  # the best of many: the machine may be busy
