"""How near the labelled interactions of pushes lie to the true touches: `posa-vla bench interactions`.

The truth is the recorded `contract.CONTACT` itself: the first and the last frame in which the hand touches anything.
So for the contact detector the numbers say what its threshold and its debouncing cost, and no more; for dwell, which
sees the hand's motion alone, they are a test.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import numpy as np

from posa_vla import contract
from posa_vla.anchors.contact import ContactConfig
from posa_vla.anchors.detectors import DetectorConfig
from posa_vla.anchors.dwell import DwellConfig
from posa_vla.anchors.pose import Transform
from posa_vla.data.detection import Detection, check_found, detect_all, detector_columns
from posa_vla.data.label_episodes import split_episodes
from posa_vla.data.label_features import check_features
from posa_vla.data.label_poses import hand_poses
from posa_vla.data.tables import read_columns, read_info
from posa_vla.errors import PosaError
from posa_vla.rigs import Rig, load_rig

NEAR = 0.02  # m, a finger's width
IMAGE_SIZE = 16  # pixels, of the pictures that are not drawn
TOUCH = ContactConfig(on=0.1, off=0.02)  # N; the simulator's contact has no noise
ANY_TOUCH = "--contact.on=0.1 --contact.off=0.02"
OPTIONS = {
    "--detectors=gripper": DetectorConfig(),
    "--detectors=contact": DetectorConfig(("contact",)),
    "--detectors=contact --contact.gap_seconds=0": DetectorConfig(("contact",), contact=ContactConfig(gap_seconds=0)),
    f"--detectors=contact {ANY_TOUCH}": DetectorConfig(("contact",), contact=TOUCH),
    "--detectors=dwell": DetectorConfig(("dwell",)),
    "--detectors=dwell --dwell.share=0.2": DetectorConfig(("dwell",), DwellConfig(share=0.2)),
    "--detectors=dwell --dwell.min_seconds=0.15": DetectorConfig(("dwell",), DwellConfig(min_seconds=0.15)),
    f"--detectors=contact,dwell {ANY_TOUCH}": DetectorConfig(("contact", "dwell"), contact=TOUCH),
}
"""What is compared, written as for `posa-vla label`."""


@dataclass
class InteractionBenchConfig:
    """Measure labelled interactions against true touches.

    Args:
        root: a dataset with the column `contact`, as `posa-vla record --family=push` writes it; None: the same
            demonstrations are played here, without pictures, which the detectors do not need.
        rig: its rig.
        episodes, seed, split, family, action_noise: as for `posa-vla record`, where they are played here.
    """

    root: Path | None = None
    rig: str = "tabletop"
    episodes: int = 60
    seed: int = 0
    split: str = "val"
    family: str = "push"
    action_noise: float = 0.2


@dataclass(frozen=True)
class Demos:
    """The numbers of some demonstrations, as a dataset's tables hold them: `columns` (N, numbers per frame) by name."""

    columns: dict[str, np.ndarray]
    info: dict[str, Any]


@dataclass(frozen=True)
class Gaps:
    """One set of options on one dataset; E episodes.

    Args:
        events: all that were found.
        first: (E,) metres from the hand at the first touch to where the first event says it acts; inf without one.
        nearest_first, nearest_last: (E,) metres from the hand at the first and the last touch to the nearest event.
    """

    events: int
    first: np.ndarray
    nearest_first: np.ndarray
    nearest_last: np.ndarray


def read_demos(root: Path, rig: Rig) -> Demos:
    """The columns of a dataset that some detector reads."""
    info = read_info(root)
    if contract.CONTACT not in info["features"]:
        raise PosaError(
            f"{root} has no column {contract.CONTACT}, which says where the true touches are: record it with "
            "posa-vla record --family=push, or --contact=true"
        )
    check_features(info["features"], rig, True)
    keys = {rig.pose.column, "episode_index", "frame_index"}.union(
        *(detector_columns(info["features"], rig, detectors) for detectors in OPTIONS.values())
    )
    return Demos(read_columns(root, sorted(keys)), info)


def play_demos(config: InteractionBenchConfig) -> Demos:
    """What `posa-vla record` would record of the same seeds, without pictures; failed attempts are left out."""
    from posa_vla.sim.env import TabletopEnv
    from posa_vla.sim.families import make_expert
    from posa_vla.sim.recording_episode import Demonstration, demonstrate
    from posa_vla.sim.recording_shards import features

    env = TabletopEnv(split=config.split, image_size=IMAGE_SIZE, family=config.family, contacts=True)
    env.renderer.close()
    env.renderer = Blind(IMAGE_SIZE)  # type: ignore[assignment]
    shown: list[Demonstration] = []
    expert, seed = make_expert(env), config.seed
    while len(shown) < config.episodes:
        demo = demonstrate(env, expert, seed, config.action_noise, contact=True)
        shown += [demo] if demo.success else []
        seed += 1
        if seed - config.seed > 2 * config.episodes + 10:
            raise PosaError(f"the expert of {config.family} fails more often than not: lower --action_noise")
    lengths = [len(demo) for demo in shown]
    columns = {
        contract.STATE: np.concatenate([demo.state for demo in shown]),
        contract.ACTION: np.concatenate([demo.action for demo in shown]),
        contract.EE_POSE: np.concatenate([demo.ee_pose for demo in shown]),
        contract.CONTACT: np.concatenate([demo.contact for demo in shown if demo.contact is not None]),
        "episode_index": np.repeat(np.arange(len(shown)), lengths)[:, None],
        "frame_index": np.concatenate([np.arange(length) for length in lengths])[:, None],
    }
    info = {"features": features(IMAGE_SIZE, contact=True), "fps": contract.FPS, "total_frames": sum(lengths)}
    return Demos(columns, info | {"total_episodes": len(shown)})


class Blind:
    """A renderer that draws nothing."""

    def __init__(self, size: int):
        self.size = size

    def render(self, *_: Any) -> np.ndarray:
        return np.zeros((self.size, self.size, 3), np.uint8)

    def upload_texture(self, *_: Any) -> None:
        """No texture is ever seen."""


def detect_in(demos: Demos, rig: Rig, detectors: DetectorConfig) -> tuple[Detection, list[np.ndarray]]:
    """What `posa-vla label` would find, and the recorded contact (T,) N of each episode.

    Raises:
        PosaError: what `posa-vla label` raises, among it that no episode has an interaction.
    """
    columns, info = demos.columns, demos.info
    episodes = split_episodes(columns, info)
    hand = hand_poses(columns, rig.pose, episodes)
    hands = [Transform(hand.dst, hand.src, hand.matrix[episode.rows]) for episode in episodes]
    found = detect_all(columns, info["features"], rig, hands, episodes, detectors, float(info["fps"]))
    without = sum(len(episode.frames) == 0 for episode in found.interactions)
    dropped = sum(episode.dropped for episode in found.interactions)
    counts = {"episodes": len(episodes), "episodes_without_interaction": without, "dropped_closes": dropped}
    check_found(found, counts)
    return found, [columns[contract.CONTACT][episode.rows].reshape(-1) for episode in episodes]


def measure_gaps(found: Detection, contacts: list[np.ndarray]) -> Gaps:
    """Distances between detected events and true touches, over the episodes in which the hand touches anything."""
    rows = []
    for signals, interactions, contact in zip(found.signals, found.interactions, contacts, strict=True):
        touching = np.flatnonzero(contact > 0)
        if len(touching):
            at = signals.position[interactions.frames]  # (events, 3)
            gaps = [np.linalg.norm(at - signals.position[frame], axis=1) for frame in touching[[0, -1]]]
            rows.append([gaps[0][0], gaps[0].min(), gaps[1].min()] if len(at) else [np.inf] * 3)
    if not rows:
        raise PosaError("the hand touches nothing in any episode, so there is nothing to measure against")
    events = sum(len(interactions.frames) for interactions in found.interactions)
    return Gaps(events, *np.array(rows).T)


def table(demos: Demos, rig: Rig) -> str:
    """A Markdown table, one row for each of `OPTIONS`; below it what is refused, in `posa-vla label`'s own words."""
    lines = [
        "| options | events | episodes without | first event to first touch, median | within 2 cm "
        "| nearest event to first touch | to last touch |",
        "|---|---|---|---|---|---|---|",
    ]
    refused = []
    for name, detectors in OPTIONS.items():
        try:
            gaps = measure_gaps(*detect_in(demos, rig, detectors))
        except PosaError as error:
            lines.append(f"| `{name}` | refused | all | – | – | – | – |")
            refused.append(f"{name}: {error}")
            continue
        without, near = int(np.isinf(gaps.first).sum()), int((gaps.first < NEAR).sum())
        medians = [_cm(values) for values in (gaps.first, gaps.nearest_first, gaps.nearest_last)]
        share = f"{near} of {len(gaps.first)}"
        lines.append(f"| `{name}` | {gaps.events} | {without} | {medians[0]} | {share} | {medians[1]} | {medians[2]} |")
    return "\n".join([*lines, "", *refused])


def _cm(gaps: np.ndarray) -> str:
    """The median over all episodes, those without an event counting as infinitely far."""
    median = float(np.median(gaps))
    return f"{100 * median:.1f} cm" if np.isfinite(median) else "none"


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=InteractionBenchConfig, args=argv)
    if config.episodes < 1:
        raise PosaError(f"--episodes must be at least 1, found {config.episodes}")
    rig = load_rig(config.rig)
    demos = play_demos(config) if config.root is None else read_demos(config.root, rig)
    print(f"{len(split_episodes(demos.columns, demos.info))} demonstrations, {demos.info['total_frames']} frames\n")
    print(table(demos, rig))
    return 0
