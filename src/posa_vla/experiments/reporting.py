"""``--report=true``: the file to commit, and from that file alone the tables and plots of docs/."""

import os
from pathlib import Path

from posa_vla.experiments import committed, plots, tables
from posa_vla.experiments.markdown import markers, replace_section
from posa_vla.experiments.spec import Experiment
from posa_vla.experiments.store import read_json

DOCUMENT, IMAGES = Path("docs/results.md"), Path("docs/images/experiments")


def project_of(path: Path) -> Path:
    """The folder whose docs/ an experiment's file reports to: above experiments/, or the file's own elsewhere."""
    folder = path.absolute().parent
    return folder.parent if folder.name == "experiments" else folder


def report(experiment: Experiment, output: Path) -> str:
    """Write results, plots and the document's section; returns what to print."""
    path = committed.results_path(experiment)
    before = committed.policies(experiment)
    committed.write(committed.collect(experiment, output), path)
    after = committed.policies(experiment)
    replaced = [name for name in after if before.get(name, after[name]) != after[name]]
    content = read_json(path) or {}
    root = project_of(experiment.path)
    images = plots.draw(content, root / IMAGES)
    document = root / DOCUMENT
    links = [f"![{image.stem}]({os.path.relpath(image, document.parent)})" for image in images]
    text = "\n\n".join([tables.render(content), *links])
    lines = [f"results: {path}", *(f"plot: {image}" for image in images)]
    lines += [f"replaced: {name}, by another training with the same options" for name in replaced]
    if replace_section(document, experiment.name, text):
        return "\n".join([*lines, f"tables: {document}"])
    begin, end = markers(experiment.name)
    return "\n".join([*lines, f"{document} has no {begin} … {end}: add both lines to have the tables there", "", text])
