"""``posa-vla validate DATASET``: names every corrupt episode and file of a LeRobotDataset v3."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import av
import draccus
from tqdm import tqdm

from posa_vla.errors import PosaError, unknown_name
from posa_vla.inspection.findings import Finding, as_table
from posa_vla.inspection.layout import Layout, read_layout
from posa_vla.inspection.statistics import check_statistics
from posa_vla.inspection.tables import check_tables
from posa_vla.inspection.videos import check_videos

DECODE = ("ends", "full")


@dataclass
class DatasetArgs:
    """Args:
    root: folder of the LeRobotDataset v3.
    """

    root: Path


@dataclass
class ValidateConfig:
    """posa-vla validate DATASET: names every corrupt episode and file; exit status 1 if there is one.

    Args:
        dataset: the dataset, `DATASET` or `--dataset.root=DATASET`; it is only read.
        decode: ends (default) decodes the first and last frame of each episode, full decodes every frame. Either way
            each video's frames are counted.
        json: print JSON in place of the table.
    """

    dataset: DatasetArgs
    decode: str = "ends"
    json: bool = False


@dataclass(frozen=True)
class Validation:
    """The result.

    Args:
        findings: what is wrong, in the order of the checks; empty for a sound dataset.
        episodes: episodes that the metadata lists.
        frames: frames of them, once per camera and once for the tables.
        seconds: how long it took.
    """

    findings: list[Finding]
    episodes: int
    frames: int
    seconds: float

    @property
    def corrupt_episodes(self) -> tuple[int, ...]:
        return tuple(sorted({episode for finding in self.findings for episode in finding.episodes}))


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=ValidateConfig, args=_flags(argv))
    av.logging.set_level(av.logging.PANIC)  # what the decoders would print is in the findings
    result = validate(config.dataset.root, config.decode, progress=not config.json)
    if config.json:
        content = {
            "findings": [finding.to_dict() for finding in result.findings],
            "corrupt_episodes": list(result.corrupt_episodes),
            "episodes": result.episodes,
        }
        print(json.dumps(content, indent=1))
    else:
        print(_summary(config.dataset.root, result))
    return 1 if result.findings else 0


def validate(root: Path, decode: str = "ends", progress: bool = False) -> Validation:
    """Every check over the dataset at ``root``.

    Raises:
        PosaError: ``root`` is no LeRobotDataset v3.
    """
    if decode not in DECODE:
        raise unknown_name("decode", decode, DECODE)
    begun = time.perf_counter()
    layout, findings = read_layout(Path(root))
    if layout is None:
        return Validation(findings, 0, 0, time.perf_counter() - begun)
    total = _work(layout)
    with tqdm(total=total, unit="frames", desc="validate", disable=not progress, leave=False, file=sys.stderr) as bar:
        tables = check_tables(layout, decode == "full", bar.update)
        findings += tables.findings
        findings += check_videos(layout, decode == "full", bar.update)
    findings += check_statistics(layout, tables)
    return Validation(findings, len(layout.episodes["length"]), total, time.perf_counter() - begun)


def _work(layout: Layout) -> int:
    return int(layout.episodes["length"].sum()) * (1 + len(layout.keys_of("video")))


def _summary(root: Path, result: Validation) -> str:
    done = f"{result.episodes} episodes, {result.frames} frames of tables and videos in {result.seconds:.1f} s"
    done += f" ({result.frames / max(result.seconds, 1e-9):,.0f} frames/s)"
    if not result.findings:
        return f"{root}: no fault found; {done}"
    corrupt = f"{len(result.findings)} faults in {len(result.corrupt_episodes)} episodes"
    return f"{as_table(result.findings)}\n{root}: {corrupt}; {done}"


def _flags(argv: list[str]) -> list[str]:
    """A folder without a flag is the dataset; ``--json`` alone means true."""
    folders, rest, wants_value = [], [], False
    for argument in argv:
        is_flag = argument.startswith("-")
        if is_flag or wants_value:
            rest.append("--json=true" if argument == "--json" else argument)
        else:
            folders.append(argument)
        wants_value = is_flag and "=" not in argument and argument != "--json"
    if len(folders) > 1:
        raise PosaError(f"expected one dataset, found {' '.join(folders)}: validate them one by one")
    rest += [f"--dataset.root={folder}" for folder in folders]
    asks_for_help = any(argument in ("-h", "--help") for argument in rest)
    if not asks_for_help and not any(argument.startswith(("--dataset", "--config_path")) for argument in rest):
        raise PosaError("say which dataset: posa-vla validate DATASET")
    return rest
