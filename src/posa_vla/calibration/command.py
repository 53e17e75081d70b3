"""``posa-vla calibrate board | demos | mark``: cameras of a robot set-up into a rig file."""

import importlib

from posa_vla.errors import PosaError, unknown_name

WAYS = {
    "board": ("posa_vla.calibration.board_command", "from pictures of a ChArUco board or chessboard and EE poses"),
    "demos": ("posa_vla.calibration.demos_command", "from marked pixels in demonstrations, without a board"),
    "mark": ("posa_vla.calibration.mark_command", "one HTML page in which to click those pixels"),
}


def main(argv: list[str]) -> int | None:
    lines = "\n".join(f"  {name:<6} {summary}" for name, (_, summary) in WAYS.items())
    if argv and argv[0] in ("-h", "--help", "help"):
        print(f"usage: posa-vla calibrate WAY [--flag=value ...]   (posa-vla calibrate WAY --help)\n\n{lines}")
        return 0
    if not argv:
        raise PosaError(f"say how to calibrate: posa-vla calibrate {' | '.join(WAYS)}")
    way, *arguments = argv
    if way not in WAYS:
        raise unknown_name("way to calibrate", way, WAYS)
    return importlib.import_module(WAYS[way][0]).main(arguments)
