"""``posa-vla COMMAND --flag=value``: one line per command, imported only when it is called."""

import importlib
import os
import re
import signal
import sys

from draccus.utils import DecodingError

from posa_vla.errors import PosaError

COMMANDS = {
    "record": ("posa_vla.sim.recording", "record demonstrations of the scripted expert as a LeRobotDataset"),
    "label": ("posa_vla.data.labelling", "add pose-conditioned anchors to a LeRobotDataset"),
    "calibrate": ("posa_vla.calibration.command", "cameras into a rig file: board | demos | mark"),
    "cache": ("posa_vla.data.cache", "decode a dataset once into memory-mapped frames"),
    "train": ("posa_vla.training.trainer", "train PosA-VLA in two stages, anchors first"),
    "eval": ("posa_vla.evaluation.command", "run seeded episodes and write JSON and an HTML report"),
    "analyse": ("posa_vla.evaluation.anchor_analysis", "anchor error against success, failures by attention"),
    "validate": ("posa_vla.inspection.validate", "name every corrupt episode and file of a LeRobotDataset"),
    "inspect": ("posa_vla.inspection.command", "look at a dataset's anchors: pictures, timelines, automatic checks"),
    "experiment": ("posa_vla.experiments.command", "run a grid of trainings and evaluations, resumable cell by cell"),
    "export": ("posa_vla.policy.export", "copy a checkpoint in half precision, to share it"),
    "bench": ("posa_vla.benchmarks", "measure anchors, cache, calibrate, inspect, interactions, model, rigs, sim …"),
    "demo": ("posa_vla.demo", "run the shipped policy; or record, label, cache, train and evaluate one"),
}

HOME = re.compile(r"^(--[\w.]+=)~(?=/|$)")
"""Shells leave the ~ of --flag=~/folder as it is, and a folder called ~ would be written."""


def usage() -> str:
    lines = [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "usage: posa-vla COMMAND [--flag=value ...]   (posa-vla COMMAND --help)\n\n" + "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again as it exits
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print(f"posa-vla {argv[0]}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return status


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    command, *arguments = argv
    if command not in COMMANDS:
        print(f"posa-vla: unknown command {command!r}: choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    home = os.path.expanduser("~")
    arguments = [HOME.sub(lambda match: match[1] + home, word) for word in arguments]
    os.environ.setdefault("MUJOCO_GL", "egl")  # must be set before mujoco is imported
    try:
        return importlib.import_module(COMMANDS[command][0]).main(arguments) or 0
    except (PosaError, DecodingError) as error:  # the latter: a flag of the wrong type
        print(f"posa-vla {command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
