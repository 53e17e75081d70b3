"""An episode as one row, and the file of all of them."""

import csv

from posa_vla.evaluation.episode_table import COLUMNS, episode_row, episodes_csv
from posa_vla.evaluation.records import FAILURE, EpisodeRecord, Motion

# Two samples of (task, end) in the head and the wrist view; in the second the target has risen, so that the head view
# has no true task anchor.
TRUE = [[[[0.5, 0.5], [0.1, 0.1]], [[0.5, 0.5], [0.1, 0.1]]], [[[None, None], [0.1, 0.1]], [[0.5, 0.5], [0.1, 0.1]]]]
PREDICTED = [[[[0.8, 0.5], [0.1, 0.1]], [[0.5, 0.5], [0.1, 0.1]]]] * 2
RECORD = EpisodeRecord(
    "basic",
    7,
    FAILURE,
    target="red cube",
    motion=Motion(150, 0.66, -5.0),
    target_distance=0.03,
    policy_seconds=1.5,
    env_seconds=0.2,
    anchors={
        "cameras": ["head", "wrist"],
        "image_sizes": [[64, 64], [64, 64]],
        "steps": [0, 10],
        "predicted": PREDICTED,
        "true": TRUE,
        "random_object": [[[0.3, 0.5], [0.3, 0.5]]] * 2,
    },
)


def test_an_episode_is_one_row():
    row = dict(zip(COLUMNS, episode_row(RECORD), strict=True))
    assert (row["condition"], row["seed"], row["outcome"], row["steps"]) == ("basic", 7, "failure", 150)
    assert row["reason"] == "reached the target, no grasp" and row["expert_steps"] is None
    assert (row["head_first"], row["head_mean"], row["head_late"], row["wrist_mean"]) == (0.3, 0.3, 0.3, 0.0)


def test_the_file_has_a_line_per_episode_and_nothing_where_nothing_is_known():
    first, second = csv.DictReader(episodes_csv([RECORD, RECORD]).splitlines())
    assert first == second and tuple(first) == COLUMNS
    assert (first["seed"], first["expert_steps"], first["path"], first["head_late"]) == ("7", "", "0.66", "0.3")
