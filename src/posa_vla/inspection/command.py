"""``posa-vla inspect``: are these anchors right? Automatic checks, pictures and timelines in one HTML file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from posa_vla import options
from posa_vla.anchors.contact import ContactConfig
from posa_vla.anchors.detectors import DetectorConfig, detector_names
from posa_vla.anchors.dwell import DwellConfig
from posa_vla.anchors.events import GRIPPER
from posa_vla.data.files import write_bytes
from posa_vla.data.labelling import DatasetArgs
from posa_vla.errors import PosaError
from posa_vla.inspection.checks import Check, check_labels
from posa_vla.inspection.frames import FrameReader, Images
from posa_vla.inspection.motion_checks import check_motion
from posa_vla.inspection.pictures import spread
from posa_vla.inspection.subject import Subject, open_subject
from posa_vla.inspection.whatif import Agreement, agreements

PAGE, RECORDING = "inspect.html", "inspect.rrd"


@dataclass
class PolicyArgs:
    """A checkpoint whose anchors are compared with the labels.

    Args:
        path: LeRobot's pretrained_model folder; None leaves it out.
        device: torch device; None picks an accelerator where there is one.
    """

    path: Path | None = None
    device: str | None = None


@dataclass
class InspectConfig:
    """posa-vla inspect: look at a dataset's anchors; exit status 1 if a check says that something is wrong.

    Args:
        dataset: the dataset; it is only read.
        rig: a rig's name or .yaml file, whose anchors are shown whatever the dataset holds; None: the dataset's own
            anchors, with the rig and the detectors that they were made with.
        detectors: with a rig: what counts as an interaction, as for posa-vla label.
        dwell: as for posa-vla label.
        contact: as for posa-vla label.
        merge_seconds: as for posa-vla label.
        output: folder of the page; None: DATASET.inspection beside the dataset. An earlier page is replaced.
        episodes: episodes with a timeline and pictures; by default 12.
        motion_episodes: episodes whose images are compared with the motion of the anchors, by default 24; 0 leaves it
            out.
        recording: also write the shown episodes as a recording for the rerun viewer (extra `viz`).
        policy: compare this checkpoint's anchors with the labels.
        frames: frames of the dataset that the policy looks at, evenly spread; by default 1000.
    """

    dataset: DatasetArgs = field(default_factory=DatasetArgs)
    rig: str | None = None
    detectors: str = GRIPPER
    dwell: DwellConfig = field(default_factory=DwellConfig)
    contact: ContactConfig = field(default_factory=ContactConfig)
    merge_seconds: float = 0.5
    output: Path | None = None
    episodes: int = 12
    motion_episodes: int = 24
    recording: bool = False
    policy: PolicyArgs = field(default_factory=PolicyArgs)
    frames: int = 1000


@dataclass(frozen=True)
class Judgement:
    """Every verdict on a dataset, and what the images' motion said of each guess, by camera."""

    checks: list[Check]
    agreements: dict[str, list[Agreement]]

    @property
    def wrong(self) -> list[Check]:
        return [check for check in self.checks if check.verdict == "wrong"]


def main(argv: list[str]) -> int:
    config = options.parse(InspectConfig, argv)
    _check_numbers(config)
    detectors = DetectorConfig(detector_names(config.detectors), config.dwell, config.contact, config.merge_seconds)
    if config.rig is None and detectors != DetectorConfig():
        raise PosaError(
            "--detectors and their thresholds are for the anchors of a rig: give --rig too, or leave them out to see "
            "the dataset's own anchors, with the detectors that made them"
        )
    if config.recording:
        from posa_vla.inspection.recording import require_rerun

        require_rerun()
    av.logging.set_level(av.logging.PANIC)  # a damaged video is an error with a sentence, not the decoder's words
    root = config.dataset.folder()
    output = config.output or _beside(root)
    if root.resolve() in (output.resolve(), *output.resolve().parents):
        raise PosaError(f"{output} lies inside the dataset {root}, which must not change: choose another --output")
    subject, reader = open_subject(root, config.rig, detectors), FrameReader(root)
    judgement = judge(subject, reader, config.motion_episodes)
    page, policy_table = _page(config, subject, reader, judgement)
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_bytes(output / PAGE, page.encode())
    except OSError as error:
        raise PosaError(f"cannot write the page into {output}: {error}") from error
    if config.recording:
        from posa_vla.inspection.page import chosen_episodes
        from posa_vla.inspection.recording import write_recording

        write_recording(output / RECORDING, subject, reader, chosen_episodes(subject, config.episodes))
    if policy_table:
        print(policy_table)
    print(summary(judgement.checks))
    print(f"page: {output / PAGE}" + (f"\nrecording: {output / RECORDING}" if config.recording else ""))
    return 1 if judgement.wrong else 0


def _beside(root: Path) -> Path:
    """The page's folder; of ``.`` and ``..``, which have no name, by the folder that they are."""
    named = root if root.name not in ("", "..") else root.resolve()
    return named.with_name(root.resolve().name + ".inspection")


def judge(subject: Subject, reader: Images, motion_episodes: int) -> Judgement:
    """All checks; those of the images' motion on so many evenly spread episodes."""
    checks = check_labels(subject)
    if not motion_episodes:
        return Judgement(checks, {})
    found = agreements(subject, reader, np.array(spread(len(subject.episodes), motion_episodes)))
    return Judgement([*checks, *check_motion(found, subject.fps)], found)


def summary(checks: Sequence[Check]) -> str:
    """One line per check that is not good, wrong ones first, and how many are."""
    lines = []
    for verdict, word in (("wrong", "WRONG"), ("look", "look"), ("unknown", "?")):
        for check in (one for one in checks if one.verdict == verdict):
            lines.append(
                f"{word:<6} {check.name}: {check.cause or check.found}" + f" ({check.found})" * bool(check.cause)
            )
    counts = Counter(check.verdict for check in checks)
    counted = f"{counts['good']} of {len(checks)} checks are good, {counts['wrong']} say that something is wrong"
    return "\n".join([*lines, f"{counted}, {counts['look']} want a look, {counts['unknown']} could not be judged"])


def _page(config: InspectConfig, subject: Subject, reader: FrameReader, judgement: Judgement) -> tuple[str, str]:
    """The page, and the policy's errors as text ('' without a policy)."""
    from posa_vla.inspection.page import text_table, write_page

    found, text = None, ""
    if config.policy.path is not None:
        from posa_vla.inspection.predictions import error_table, load_runner, predict

        found = predict(load_runner(config.policy.path, config.policy.device), subject, reader, config.frames)
        text = text_table(error_table(found))
    page = write_page(
        subject, reader, judgement.checks, judgement.agreements, config.episodes, found, str(config.policy.path)
    )
    return page, text


def _check_numbers(config: InspectConfig) -> None:
    for name, least in (("episodes", 1), ("motion_episodes", 0), ("frames", 1)):
        value = getattr(config, name)
        if value < least:
            raise PosaError(f"expected --{name} of at least {least}, got {value}")
