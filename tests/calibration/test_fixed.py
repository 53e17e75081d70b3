"""Fixed cameras without a board: exact without noise, robust to mistakes, and honest about their errors."""

import numpy as np
import pytest
from camera_fakes import HIGH, LOW, SIZE, fit_fixed, looking, spoiled

PLACES = [(1.1, 0.0, 0.6), (0.9, 0.7, 0.5), (0.2, -0.9, 0.9)]


def points(rng, count):
    return rng.uniform(LOW, HIGH, (count, 3))


def errors(found, camera, rng):
    held_out = points(rng, 300)
    return np.linalg.norm(found.project(held_out) - camera.project(held_out), axis=1)


@pytest.mark.parametrize("place", PLACES)
def test_exact_marks_give_the_exact_camera(place):
    rng = np.random.default_rng(0)
    camera = looking(place, (0.45, 0, 0.1), 700.0)
    marked = points(rng, 12)
    estimate = fit_fixed(marked, camera.project(marked), SIZE)
    assert abs(estimate.camera.focal - 700) < 1e-3
    assert np.abs(estimate.camera.position - place).max() < 1e-6
    assert estimate.trusted.all()


def test_a_known_focal_length_is_kept():
    rng = np.random.default_rng(1)
    camera = looking(PLACES[0], (0.45, 0, 0.1), 700.0)
    marked = points(rng, 20)
    estimate = fit_fixed(marked, spoiled(rng, camera.project(marked), share=0)[0], SIZE, focal=700.0)
    assert estimate.camera.focal == 700
    assert estimate.covariance.shape == (6, 6)


@pytest.mark.parametrize("place", PLACES)
def test_a_fifth_of_wrong_marks_does_not_matter(place):
    rng = np.random.default_rng(2)
    camera = looking(place, (0.45, 0, 0.1), 650.0)
    marked = points(rng, 40)
    pixels, wrong = spoiled(rng, camera.project(marked))
    estimate = fit_fixed(marked + rng.normal(size=marked.shape) * 0.002, pixels, SIZE)
    assert not estimate.trusted[wrong].any()
    assert errors(estimate.camera, camera, rng).mean() < 2


def test_the_promised_error_is_the_true_one():
    rng = np.random.default_rng(3)
    camera = looking(PLACES[0], (0.45, 0, 0.1), 650.0)
    true, promised, standardised = [], [], []
    for _ in range(12):
        marked = points(rng, 40)
        pixels, _ = spoiled(rng, camera.project(marked), share=0.1)
        estimate = fit_fixed(marked + rng.normal(size=marked.shape) * 0.002, pixels, SIZE)
        true.append(np.sqrt((errors(estimate.camera, camera, rng) ** 2).mean()))
        promised.append(np.sqrt((estimate.projection_sigma(points(rng, 300)) ** 2).mean()))
        off = np.append(estimate.camera.position - camera.position, np.log(estimate.camera.focal / camera.focal))
        inverse = np.linalg.inv(estimate.covariance[3:, 3:])
        standardised.append(off @ inverse @ off)
    assert 0.6 < np.sqrt(np.mean(np.square(true)) / np.mean(np.square(promised))) < 1.5
    assert 1.5 < np.mean(standardised) < 9  # chi-squared with four degrees of freedom: 4 ± 0.8
