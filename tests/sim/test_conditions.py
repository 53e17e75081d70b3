import numpy as np
import pytest

from posa_vla.errors import PosaError
from posa_vla.sim.conditions import CONDITIONS, OCCLUSION, RANDOMISED, SPLITS, check_names, episode_seed, split_pairs
from posa_vla.sim.episode import Options
from posa_vla.sim.families import get_family
from posa_vla.sim.instructions import PICKING
from posa_vla.sim.layout import GRID, SPACING, WORKSPACE, grasp_yaw
from posa_vla.sim.objects import CATALOGUE, CATEGORIES, COLOURS, UNSEEN_CATEGORIES
from posa_vla.sim.robot import REACH_HIGH
from posa_vla.sim.scene import HEAD_POSITION
from posa_vla.sim.screen import PARKED
from posa_vla.sim.textures import (
    RANDOMISED_PATTERNS,
    TRAINING_TABLES,
    UNSEEN_PATTERNS,
    randomised_surface,
    training_surface,
    unseen_surface,
)

FOUR = (("cube", "can", "bowl", "bottle"), ("red", "green", "blue", "yellow"))


def episodes(condition, split="train", count=40, pairs=None, others=4):
    options = Options(condition, split, pairs or split_pairs(), others)
    return [get_family("pick").sample(options, seed) for seed in range(count)]


def named(episode):
    return [(o.colour, o.category) for o in episode.objects]


@pytest.mark.parametrize(
    "names", [(CATEGORIES, COLOURS), FOUR, (CATEGORIES[:2], COLOURS[:2]), (CATEGORIES, COLOURS[:2])]
)
def test_held_out_pairs_are_new_combinations_of_known_words(names):
    categories, colours = names
    pairs = split_pairs(categories, colours)
    assert pairs.held_out
    assert set(pairs.seen) | set(pairs.held_out) == {(c, k) for c in colours for k in categories}
    assert not set(pairs.seen) & set(pairs.held_out)
    assert {c for c, _ in pairs.seen} == set(colours)
    assert {k for _, k in pairs.seen} == set(categories)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_named_pairs_are_held_out_instead(condition):
    pairs = split_pairs(*FOUR, held_out=("red cube", "blue bowl"))
    assert set(pairs.held_out) == {("red", "cube"), ("blue", "bowl")} and len(pairs.seen) == 14
    for episode in episodes(condition, pairs=pairs):
        target, *others = named(episode)
        assert (target in pairs.held_out) == (condition == "objects")
        assert not set(pairs.held_out) & set(others)


def test_what_cannot_be_held_out_is_refused():
    with pytest.raises(PosaError, match="unknown pair to hold out 'cyan cube': choose one of blue bottle"):
        split_pairs(*FOUR, held_out=("cyan cube",))
    with pytest.raises(PosaError, match="every pair of the chosen"):
        split_pairs(("cube",), ("red", "blue"), held_out=("red cube", "blue cube"))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_held_out_pairs_appear_only_as_targets_of_the_objects_condition(condition):
    held_out = set(split_pairs().held_out)
    for episode in episodes(condition):
        target, *others = named(episode)
        assert (target in held_out) == (condition == "objects")
        assert not held_out & {p for p in others if p[1] in CATEGORIES}


def test_splits_map_seeds_to_disjoint_ranges():
    seeds = {episode_seed(split, seed) for split in SPLITS for seed in (0, 1, 2**32 - 1)}
    assert len(seeds) == 9
    with pytest.raises(PosaError, match="seed must lie in"):
        episode_seed("train", 2**32)
    with pytest.raises(PosaError, match="choose one of eval, train, val"):
        episode_seed("test", 0)


def test_an_episode_is_a_pure_function_of_its_seed():
    first, again = episodes("lights", count=5), episodes("lights", count=5)
    for a, b in zip(first, again, strict=True):
        assert a.objects == b.objects
        assert a.instruction == b.instruction
        np.testing.assert_array_equal(a.look.table, b.look.table)
        np.testing.assert_array_equal(a.look.lamp_diffuse, b.look.lamp_diffuse)
    other = episodes("lights", split="val", count=5)
    assert all(a.objects != b.objects for a, b in zip(first, other, strict=True))


def test_conditions_change_one_thing_each():
    basic, background, lights = (episodes(c, count=8) for c in ("basic", "background", "lights"))
    for a, b, c in zip(basic, background, lights, strict=True):
        assert a.objects == b.objects == c.objects
        assert a.instruction == b.instruction == c.instruction
        assert (a.look.table != b.look.table).any()
        np.testing.assert_array_equal(a.look.table, c.look.table)
        np.testing.assert_array_equal(a.look.lamp_diffuse, b.look.lamp_diffuse)
        assert not np.allclose(a.look.lamp_direction, c.look.lamp_direction)


def test_unseen_surfaces_are_none_of_the_training_ones():
    rng = np.random.default_rng(0)
    known = [training_surface(name).astype(float) for name in TRAINING_TABLES]
    for _ in range(20):
        surface = unseen_surface(rng)
        assert min(np.abs(surface - other).mean() for other in known) > 5


def test_distractors_adds_two_to_four_unseen_categories():
    counts = set()
    for episode in episodes("distractors"):
        unseen = [k for _, k in named(episode) if k in UNSEEN_CATEGORIES]
        assert episode.objects[0].category in CATEGORIES
        counts.add(len(unseen))
        assert len(episode.objects) == 5 + len(unseen)
    assert counts == {2, 3, 4}
    assert all(k in CATEGORIES for e in episodes("basic") for _, k in named(e))


@pytest.mark.parametrize("pairs", [split_pairs(), split_pairs(*FOUR)])
def test_the_sentence_is_needed(pairs):
    """Some other object shares the target's colour, some its category, and names are unique."""
    for episode in episodes("basic", pairs=pairs):
        (colour, category), *others = named(episode)
        assert any(c == colour for c, _ in others)
        assert any(k == category for _, k in others)
        assert len(set(named(episode))) == 5


def test_objects_stand_near_their_cell_and_apart():
    reach = (GRID - 1) / 2 * SPACING + 0.016
    for episode in episodes("distractors", count=20):
        xy = np.array([o.position[:2] for o in episode.objects])
        assert (np.abs(xy - WORKSPACE) <= reach).all()
        radii = [CATALOGUE[o.category].radius for o in episode.objects]
        for i in range(len(xy)):
            for j in range(i):
                assert np.linalg.norm(xy[i] - xy[j]) > radii[i] + radii[j]


def test_grasp_yaw_is_the_symmetric_one_nearest_to_zero():
    assert grasp_yaw("can", 1.0) == 0
    assert grasp_yaw("cube", 1.2) == pytest.approx(1.2 - np.pi / 2)
    assert grasp_yaw("bread", 3.0) == pytest.approx(3.0 - np.pi)
    assert grasp_yaw("mug", 0.4) == pytest.approx(0.4)


def test_held_out_phrasings_are_for_evaluation_only():
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        drawn = [PICKING.draw(split, rng, thing="red cube") for _ in range(100)]
        assert not any(held_out for _, held_out in drawn)
        assert len({sentence for sentence, _ in drawn}) == len(PICKING.training)
    drawn = {PICKING.draw("eval", rng, thing="red cube") for _ in range(300)}
    assert len(drawn) == len(PICKING.training) + len(PICKING.held_out)
    assert sum(held_out for _, held_out in drawn) == len(PICKING.held_out)


def test_task_ids_number_goals_not_sentences():
    ids = {}
    for episode in episodes("basic", count=200):
        ids.setdefault(episode.target, set()).add(episode.task_id)
    assert all(len(found) == 1 for found in ids.values())
    assert len({next(iter(found)) for found in ids.values()}) == len(ids)


def test_names_are_checked_and_ordered():
    assert check_names("colour", ("blue", "red"), COLOURS) == ("red", "blue")
    assert check_names("colour", None, COLOURS) == COLOURS
    with pytest.raises(PosaError, match="unknown colour 'pink': choose one of blue, cyan"):
        check_names("colour", ("pink",), COLOURS)


def test_impossible_options_say_what_to_do():
    with pytest.raises(PosaError, match="at least 2 categories and 2 colours"):
        episodes("objects", pairs=split_pairs(("cube",), COLOURS))
    with pytest.raises(PosaError, match="allow more categories or colours"):
        episodes("basic", pairs=split_pairs(("cube", "can"), ("red", "blue")), others=6)
    with pytest.raises(PosaError, match="at most 12"):
        episodes("basic", others=14)


def test_randomised_training_shares_no_look_and_no_object_with_the_tests():
    assert not set(RANDOMISED_PATTERNS) & set(UNSEEN_PATTERNS)
    pairs = split_pairs()
    shown = episodes(RANDOMISED, count=60)
    tested = [episode.look.lamp_direction for episode in episodes("lights", count=60)]
    assert max(-d[2] / np.linalg.norm(d) for d in tested) <= np.sin(np.radians(60))
    for look in (episode.look for episode in shown):
        high = -look.lamp_direction[2] / np.linalg.norm(look.lamp_direction) > np.sin(np.radians(61))
        assert high or np.ptp(look.lamp_diffuse) == 0, "a tinted lamp from a low side is the test's"
        assert 0.45 < look.lamp_diffuse.max() < 0.85
    for episode in shown:
        assert 5 <= len(episode.objects) <= 9
        assert {(placed.colour, placed.category) for placed in episode.objects} <= set(pairs.seen)
    assert len({len(episode.objects) for episode in shown}) == 5


def test_randomised_surfaces_are_pictures_of_many_colours():
    surfaces = [randomised_surface(np.random.default_rng(seed)) for seed in range(24)]
    assert all(s.shape == (256, 256, 3) and s.dtype == np.uint8 for s in surfaces)
    assert len({tuple(s.mean((0, 1)).astype(int)) for s in surfaces}) == 24


def test_occlusion_is_basic_with_a_screen_and_none_of_the_default_conditions():
    assert OCCLUSION not in CONDITIONS
    for plain, hidden in zip(episodes("basic"), episodes(OCCLUSION), strict=True):
        assert plain.screen is None
        assert hidden.screen is not None
        assert (plain.layout, plain.instruction) == (hidden.layout, hidden.instruction)
        np.testing.assert_array_equal(plain.look.table, hidden.look.table)
        np.testing.assert_array_equal(plain.home_noise, hidden.home_noise)


def test_the_screen_stands_in_the_line_of_sight_beyond_the_hand_s_reach_for_a_while():
    for episode in episodes(OCCLUSION):
        screen, target = episode.screen, np.array(episode.objects[0].position)
        sight, way = target - HEAD_POSITION, screen.place[:3] - np.array(HEAD_POSITION)
        assert np.linalg.norm(np.cross(sight, way)) / np.linalg.norm(sight) < 1e-9
        assert screen.place[0] > REACH_HIGH[0] + 0.02
        there = [screen.pose(step) != PARKED for step in range(40)]
        assert 10 <= sum(there) <= 24
        assert there.index(True) <= 6
        assert not there[-1]
