"""``posa-vla bench NAME --flags``: every number in docs/results.md that is a speed or an accuracy of a tool."""

import importlib

from posa_vla.errors import PosaError, unknown_name

BENCHMARKS = {
    "model": "posa_vla.model.benchmark",
    "peers": "posa_vla.training.peer_benchmark",
    "anchors": "posa_vla.anchors.benchmark",
    "cache": "posa_vla.data.benchmark",
    "calibrate": "posa_vla.calibration.benchmark",
    "inspect": "posa_vla.inspection.benchmark",
    "interactions": "posa_vla.data.interaction_benchmark",
    "rigs": "posa_vla.rigs.benchmark",
    "sim": "posa_vla.sim.benchmark",
}


def main(argv: list[str]) -> int | None:
    if not argv:
        raise PosaError(f"name what to measure: posa-vla bench {' | '.join(BENCHMARKS)}")
    name, *arguments = argv
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    return importlib.import_module(BENCHMARKS[name]).main(arguments)
