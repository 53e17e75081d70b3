"""Pairs that an evaluation calls unseen and training has named."""

from toy_dataset import make_dataset

from posa_vla.evaluation.held_out import warning_of_known_pairs
from posa_vla.evaluation.records import EnvOptions

FOUR = ("red", "green", "blue", "yellow")


def test_pairs_that_training_names_are_said_whatever_the_order_of_the_names(tmp_path):
    """Six colours hold out other pairs than four: a policy trained on six may know what four hold out."""
    tasks = {"pick up the yellow cube": 0, "the blue bottle, pick it up": 1}
    root = make_dataset(tmp_path / "toy", episodes=2, use_videos=False, tasks=tasks)
    four = warning_of_known_pairs(root, EnvOptions(categories=("bottle", "cube"), colours=FOUR[::-1]))
    assert "holds out yellow cube, blue bottle" in four and "name yellow cube, blue bottle:" in four
    assert warning_of_known_pairs(root, EnvOptions(categories=("cube", "bottle"))) is None
    chosen = warning_of_known_pairs(root, EnvOptions(held_out=("cyan cube", "blue bottle")))
    assert "holds out cyan cube, blue bottle, and" in chosen and "name blue bottle:" in chosen
