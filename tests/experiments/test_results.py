"""What is kept of a cell: thinned curves, and how large its policy is."""

import itertools
import json
import struct

from posa_vla.experiments.results import count_numbers, thinned, training_curve


def test_curves_are_thinned_evenly_with_both_ends(tmp_path):
    assert thinned([1, 2, 3]) == [1, 2, 3]
    kept = thinned(list(range(1000)))
    assert len(kept) == 50 and (kept[0], kept[-1]) == (0, 999)
    assert {b - a for a, b in itertools.pairwise(kept)} <= {20, 21}
    lines = [{"step": s, "loss": 0.123456789, "seconds": s / 2, "lr": 1.0} for s in range(1, 201)]
    lines.insert(100, {"step": 100, "eval_success": 0.5, "eval_episodes": 20})
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = training_curve(path)
    assert (training["steps"], training["seconds"], len(training["curve"])) == (200, 100.0, 50)
    assert training["curve"][-1] == {"step": 200, "seconds": 100.0, "loss": 0.12346}
    assert training["evaluations"] == [{"step": 100, "eval_success": 0.5, "eval_episodes": 20.0}]


def test_parameters_are_counted_from_the_header(tmp_path):
    header = json.dumps({"__metadata__": {"a": "b"}, "w": {"shape": [3, 4]}, "s": {"shape": []}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert count_numbers(path) == 13
