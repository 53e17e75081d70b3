"""``experiments/results/NAME.json``: all finished cells of an experiment in one file, meant to be committed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from posa_vla.data.files import write_bytes
from posa_vla.errors import PosaError
from posa_vla.experiments.cells import by_name, grid
from posa_vla.experiments.spec import Experiment
from posa_vla.experiments.store import DONE, RESULT, STALE, CellFolder, read_json

PUBLIC_OUTPUT = Path("outputs/experiments")
"""How commands in the file call the output folder, wherever it was."""


def results_path(experiment: Experiment) -> Path:
    return experiment.path.parent / "results" / f"{experiment.name}.json"


def collect(experiment: Experiment, output: Path) -> dict[str, Any]:
    """The finished cells in `output`, and those of the committed file that are still cells of this experiment.

    Raises:
        PosaError: a cell in `output` is stale, or there is no finished cell at all.
    """
    cells = by_name(grid(experiment))
    states = {name: CellFolder(cell, output).state() for name, cell in cells.items()}
    stale = [name for name, state in states.items() if state == STALE]
    if stale:
        raise PosaError(
            f"cells of other options than {experiment.path} has now: {', '.join(stale)}: run them again with "
            "--rerun_stale=true before reporting"
        )
    found = {result["cell"]: result for result in committed_cells(experiment)}
    kept = {name: found[name] for name in found if name in cells and found[name]["hash"] == cells[name].hash}
    for name, state in states.items():
        if state == DONE:
            kept[name] = _public(CellFolder(cells[name], output).path / RESULT, output)
    if not kept:
        raise PosaError(f"no cell of {experiment.name} is finished in {output}: run posa-vla experiment first")
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "notes": experiment.notes,
        "reference": experiment.reference,
        "against": {name: variant.against for name, variant in experiment.variants.items()},
        "tables": experiment.tables,
        "variants": list(experiment.variants),
        "datasets": {name: data.record for name, data in experiment.datasets.items()},
        "missing": sorted(cells.keys() - kept.keys()),
        "trained_again": _trained_again(experiment, kept),
        "cells": [kept[name] for name in sorted(kept)],
    }


def _trained_again(experiment: Experiment, kept: dict[str, dict[str, Any]]) -> list[str]:
    """Cells whose policy is not the one in the committed results of the experiment it is taken from."""
    if experiment.source is None:
        return []
    known = policies(experiment.source)
    sources = {cell.name: cell.policy_of.name for cell in grid(experiment) if cell.policy_of}
    return sorted(name for name in kept if known.get(sources[name], (found := kept[name]["policy"]["sha256"])) != found)


def policies(experiment: Experiment) -> dict[str, str]:
    """Cell -> checksum of the weights that its committed result is about."""
    return {cell["cell"]: cell["policy"]["sha256"] for cell in committed_cells(experiment)}


def committed_cells(experiment: Experiment) -> list[dict[str, Any]]:
    return (read_json(results_path(experiment)) or {"cells": []})["cells"]


def write(content: dict[str, Any], path: Path) -> None:
    """One line per cell, so that a difference between two commits names the cells that changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {key: value for key, value in content.items() if key != "cells"}
    lines = ",\n".join(_compact(cell) for cell in content["cells"])
    text = f'{json.dumps(head, indent=1, ensure_ascii=False)[:-2]},\n "cells": [\n{lines}\n]}}\n'
    write_bytes(path, text.encode())


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _public(path: Path, output: Path) -> dict[str, Any]:
    """A result whose commands name `PUBLIC_OUTPUT` instead of where this run's folder happened to be."""
    result = read_json(path) or {}
    places = _longest_first({str(output), str(output.absolute())})
    for name, command in result["commands"].items():
        for place in places:
            command = command.replace(place, str(PUBLIC_OUTPUT))
        result["commands"][name] = command
    return result


def _longest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)
