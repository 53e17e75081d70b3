"""What an evaluation would have written, with outcomes that the test chooses."""

from typing import Any

from posa_vla.evaluation.metrics import summarise
from posa_vla.evaluation.provenance import host
from posa_vla.evaluation.records import FAILURE, SUCCESS, EpisodeRecord, Motion, to_json


def episode(condition: str, seed: int, solved: bool) -> EpisodeRecord:
    """A solved episode looks at the target, 0.02 off in the head view and in space (m); a failed one 0.3 beside it."""
    error = 0.02 if solved else 0.3
    true = [[[0.5, 0.5], [0.1, 0.1]], [[0.5, 0.5], [0.1, 0.1]]]
    predicted = [[[0.5 + error, 0.5], [0.1, 0.1]], [[0.5, 0.5], [0.1, 0.1]]]
    return EpisodeRecord(
        condition,
        seed,
        SUCCESS if solved else FAILURE,
        target="red cube",
        motion=Motion(40 if solved else 150, 0.66, -5.0),
        expert=Motion(30, 0.6, -4.0) if solved else None,
        target_distance=0.03,
        policy_seconds=0.4 if solved else 1.5,
        env_seconds=0.2,
        anchors={
            "cameras": ["head", "wrist"],
            "image_sizes": [[64, 64], [64, 64]],
            "steps": [0, 10],
            "predicted": [predicted, predicted],
            "true": [true, [[[None, None], [0.1, 0.1]], true[1]]],
            "random_object": [[[0.3, 0.5], [0.3, 0.5]]] * 2,
            "space": [[[error, 0.1], [None, 0.1], [error, 0.1]], [[None, 0.1], [None, 0.1], [0.1, 0.1]]],
        },
    )


def results(solved: int) -> dict[str, Any]:
    """results.json of ``posa-vla eval`` over basic:4,lights:4 with the first `solved` scenes of each solved."""
    records = [episode(name, seed, seed < solved) for name in ("basic", "lights") for seed in range(4)]
    return {
        "policy": {"sha256": "0" * 64, "n_action_steps": None, "integration_steps": None},
        "versions": {"python": "3.12"},
        "machine": host(),
        "finished": "2026-01-01 00:00:00 UTC",
        "summary": summarise(records),
        "records": [to_json(record) for record in records],
    }
