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
    names = " | ".join(BENCHMARKS)
    if not argv:
        raise PosaError(f"name what to measure: posa-vla bench {names}")
    if argv[0] in ("-h", "--help"):
        print(f"usage: posa-vla bench NAME [--flag=value ...]   (posa-vla bench NAME --help)\n\nNAME: {names}")
        return 0
    name, *arguments = argv
    if name not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    return importlib.import_module(BENCHMARKS[name]).main(arguments)
