"""The attention overlay: right colours, right places."""

import numpy as np
import pytest

from posa_vla.evaluation.overlay import draw

GREY = np.full((32, 32, 3), 128, np.uint8)
NOWHERE = np.zeros((2, 8, 8))


def maps_at(task: tuple[int, int] | None, end: tuple[int, int] | None) -> np.ndarray:
    maps = np.zeros((2, 8, 8), np.float32)
    for index, cell in enumerate((task, end)):
        if cell:
            maps[index, cell[0], cell[1]] = 1
    return maps


def cell_colour(picture: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Colour at the centre of a cell of the 8 × 8 grid, relative to grey."""
    side = picture.shape[0] / 8
    row, column = (int((index + 0.5) * side) for index in cell)
    return picture[row, column].astype(int) - 128


def test_task_is_green_end_is_red_both_are_yellow_and_elsewhere_stays():
    picture = draw(GREY, maps_at((1, 1), (6, 6)), None)
    red, green, blue = cell_colour(picture, (1, 1))
    assert green > 50 > 0 > red
    assert blue < 0
    red, green, blue = cell_colour(picture, (6, 6))
    assert red > 50 > 0 > green
    red, green, blue = cell_colour(draw(GREY, maps_at((4, 4), (4, 4)), None), (4, 4))
    assert red > 50
    assert green > 50
    assert blue < 0
    assert np.abs(cell_colour(picture, (1, 6))).max() == 0


def test_a_stronger_map_shows_more():
    weak, strong = (draw(GREY, s * maps_at((3, 3), None), None)[112, 112, 1] for s in (0.2, 0.9))
    assert 128 < weak < strong


@pytest.mark.parametrize("uv", [(0.25, 0.75), (0.5, 0.5), (0.9, 0.1)])
def test_points_are_drawn_where_they_are(uv):
    points = np.array([uv, [np.nan, np.nan]])
    changed = np.abs(draw(GREY, NOWHERE, points, size=320).astype(int) - 128).sum(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert (columns.mean() + 0.5) / 320 == pytest.approx(uv[0], abs=0.003)
    assert (rows.mean() + 0.5) / 320 == pytest.approx(uv[1], abs=0.003)


def test_points_outside_and_absent_maps_change_nothing():
    plain = draw(GREY, None, None)
    assert plain.shape == (256, 256, 3)
    assert np.array_equal(draw(GREY, NOWHERE, np.array([[1.2, 0.5], [np.nan, 0.5]])), plain)


def test_the_input_is_left_alone_and_shapes_are_checked():
    image = GREY.copy()
    draw(image, maps_at((0, 0), None), np.full((2, 2), 0.5))
    assert np.array_equal(image, GREY)
    with pytest.raises(ValueError, match="uint8"):
        draw(image.astype(float), None, None)
    with pytest.raises(ValueError, match=r"\(2, Hp, Wp\)"):
        draw(image, np.zeros((3, 4, 4)), None)
    assert draw(np.zeros((20, 40, 3), np.uint8), None, None, size=80).shape == (40, 80, 3)
