"""Predicted against labelled anchors: a checkpoint looks at frames of a labelled dataset."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posa_vla.contract import ANCHOR_NAMES, END_ANCHOR, STATE, TASK_ANCHOR
from posa_vla.data.tables import read_columns
from posa_vla.errors import PosaError
from posa_vla.evaluation.anchor_error import distance
from posa_vla.evaluation.overlay import draw
from posa_vla.evaluation.runner import PolicyRunner, PolicySource
from posa_vla.inspection.charts import Line, histogram
from posa_vla.inspection.checks import inside
from posa_vla.inspection.frames import FrameReader
from posa_vla.inspection.pictures import captioned, marked, spread, tiled
from posa_vla.inspection.subject import Subject

BATCH = 32
WORST = 8
"""Frames drawn for each camera and anchor, no two of one episode."""

NEAR = 0.05
"""Of the image's short side: the share of the frames with a smaller error is reported."""

COMMON = 0.05
"""An interaction has rows of its own where at least this share of the frames leads up to it."""

WORST_TILE = 220
BINS = 40


@dataclass(frozen=True)
class Predictions:
    """What a policy made of R sampled frames; C of its cameras, in its order.

    Args:
        cameras: their names.
        sizes: (C, 2), width and height of the stored images, pixels.
        rows: (R,), of the dataset.
        uv: (R, C, 2, 2), predicted points of task and end; NaN where it predicts none.
        confidence: (R, C, 2), the highest value of each map.
        maps: (R, C, 2, Hp, Wp).
        labels: (R, C, 2, 4), contract `ANCHORS`.
        interactions: (R,) int, the interaction that the frame leads up to, from 0; after the last, how many there were.
    """

    cameras: tuple[str, ...]
    sizes: np.ndarray
    rows: np.ndarray
    uv: np.ndarray
    confidence: np.ndarray
    maps: np.ndarray
    labels: np.ndarray
    interactions: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """(R, C, 2), fractions of the image's short side; NaN where the label is unknown or out of the picture."""
        found = distance(self.uv, self.labels[..., :2].astype(np.float64), self.sizes[:, None])
        return np.where(inside(self.labels), found, np.nan)


@dataclass(frozen=True)
class ErrorRow:
    """The errors of one camera and anchor.

    Args:
        camera: its name.
        anchor: task or end.
        interaction: the only one whose frames count, from 0; None: all.
        constant: the labels are one point in every frame, as the hand in the view of its own camera.
        samples: frames with a known anchor in the picture.
        pixels: median, 90 %, 95 % quantile and maximum, pixels of the stored image; None without a sample.
        fractions: the same in fractions of the image's short side.
        near: share of the samples with an error below `NEAR`.
        confidence: median of the map's highest value where the anchor is in the picture.
        confidence_outside: the same where it is known to be outside; None where there is no such frame.
    """

    camera: str
    anchor: str
    interaction: int | None
    constant: bool
    samples: int
    pixels: list[float] | None
    fractions: list[float] | None
    near: float | None
    confidence: float | None
    confidence_outside: float | None

    @property
    def title(self) -> str:
        number = "" if self.interaction is None else f" {self.interaction + 1}"
        return f"{self.camera}, {self.anchor}{number}"


def load_runner(path: Path, device: str | None) -> PolicyRunner:
    """The policy, once it is seen to predict anchors."""
    runner = PolicyRunner(PolicySource(path, device))
    if not runner.has_attention:
        raise PosaError(f"the policy in {path} is a {runner.config.type}, which predicts no anchors to compare")
    if runner.needs_anchors:
        raise PosaError(
            f"the policy in {path} is given the true anchors (maps=ground_truth), so there is nothing to compare: "
            "choose one trained with --policy.maps=predicted"
        )
    return runner


def predict(runner: PolicyRunner, subject: Subject, reader: FrameReader, frames: int) -> Predictions:
    """The policy's anchors in ``frames`` evenly spread frames of the dataset.

    Raises:
        PosaError: the dataset lacks a camera of the policy, or has images or states of another size.
    """
    missing = [camera for camera in runner.cameras if camera not in subject.rig.camera_names]
    if missing:
        raise PosaError(
            f"the policy looks through {', '.join(runner.cameras)}, the dataset {subject.root} has anchors for "
            f"{', '.join(subject.rig.camera_names)}: inspect it on a dataset with the cameras it was trained on"
        )
    if STATE not in subject.info["features"]:
        raise PosaError(f"the policy wants {STATE}, which the dataset {subject.root} lacks")
    rows = np.array(spread(len(subject.anchors), frames))
    states = read_columns(subject.root, [STATE])[STATE].astype(np.float32)
    task_of = np.repeat(np.arange(len(subject.tasks)), [e.rows.stop - e.rows.start for e in subject.episodes])
    uv: list[np.ndarray] = []
    confidence: list[np.ndarray] = []
    maps: list[np.ndarray] = []
    for part in np.array_split(rows, -(-len(rows) // BATCH)):
        batch: dict[str, Any] = {
            reader.keys[camera]: torch.from_numpy(reader.read(camera, part)).movedim(-1, 1).float() / 255
            for camera in runner.cameras
        }
        batch[STATE] = torch.from_numpy(states[part])
        batch["task"] = [subject.tasks[number] for number in task_of[part]]
        view = runner.attention_of(runner.preprocess(batch))
        for values, found in ((uv, view.uv), (confidence, view.confidence), (maps, view.maps)):
            values.append(found.float().cpu().numpy())
    order = [subject.rig.camera_names.index(camera) for camera in runner.cameras]
    sizes = np.array([reader.size(camera) for camera in runner.cameras], np.float64)
    labels = subject.anchors[rows][:, order]
    points, peaks, seen = (np.concatenate(parts) for parts in (uv, confidence, maps))
    return Predictions(runner.cameras, sizes, rows, points, peaks, seen, labels, _interactions(subject)[rows])


def _interactions(subject: Subject) -> np.ndarray:
    """(N,) of each frame of the dataset the interaction it leads up to, as in `Predictions`."""
    return np.concatenate(
        [
            np.searchsorted(label.interactions.frames, np.arange(episode.rows.stop - episode.rows.start))
            for label, episode in zip(subject.labels, subject.episodes, strict=True)
        ]
    )


def error_table(found: Predictions) -> list[ErrorRow]:
    """Rows by camera and anchor; of the task anchor also by interaction, where several are common."""
    task = found.interactions[(found.labels[:, :, TASK_ANCHOR, 3] >= 0).any(1)]
    numbers, counts = np.unique(task, return_counts=True)
    common = [int(number) for number in numbers[counts >= COMMON * len(task)]]
    several = common if len(common) > 1 else []
    rows = []
    for c in range(len(found.cameras)):
        rows += [_row(found, c, TASK_ANCHOR), *(_row(found, c, TASK_ANCHOR, number) for number in several)]
        rows.append(_row(found, c, END_ANCHOR))
    return rows


def _row(found: Predictions, c: int, anchor: int, interaction: int | None = None) -> ErrorRow:
    chosen = np.full(len(found.rows), True) if interaction is None else found.interactions == interaction
    errors = found.errors[chosen, c, anchor]
    errors = errors[~np.isnan(errors)]
    seen = chosen & inside(found.labels[:, c, anchor])
    outside = chosen & (found.labels[:, c, anchor, 3] >= 0) & ~seen
    confidence = found.confidence[:, c, anchor]
    name = found.cameras[c], ANCHOR_NAMES[anchor], interaction
    outside_value = float(np.median(confidence[outside])) if outside.any() else None
    if not len(errors):
        return ErrorRow(*name, False, 0, None, None, None, None, outside_value)
    fractions = [*np.quantile(errors, (0.5, 0.9, 0.95)), errors.max()]
    return ErrorRow(
        *name,
        constant=is_constant(found, c, anchor),
        samples=len(errors),
        pixels=[float(value * found.sizes[c].min()) for value in fractions],
        fractions=[float(value) for value in fractions],
        near=float((errors < NEAR).mean()),
        confidence=float(np.median(confidence[seen])),
        confidence_outside=outside_value,
    )


def is_constant(found: Predictions, c: int, anchor: int) -> bool:
    """Whether the labels are one point in every frame: then a small error says nothing."""
    labels = found.labels[inside(found.labels[:, c, anchor]), c, anchor, :2]
    return anchor == END_ANCHOR and len(labels) > 0 and float(np.ptp(labels, axis=0).max()) < 1e-3


def error_chart(found: Predictions, c: int) -> str:
    """How the errors of one camera are distributed, in pixels, as an SVG element."""
    errors = found.errors[:, c] * found.sizes[c].min()  # (R, 2)
    top = 5 * np.ceil(np.nanquantile(errors, 0.99) / 5) if not np.isnan(errors).all() else 5.0
    top = max(float(top), 5.0)  # round ticks
    edges = np.linspace(0, top, BINS + 1)
    curves = []
    for anchor, name in enumerate(ANCHOR_NAMES):
        known = errors[~np.isnan(errors[:, anchor]), anchor]
        if len(known) and not is_constant(found, c, anchor):
            share = np.histogram(np.minimum(known, top), edges)[0] / len(known)
            curves.append(Line(share, name, name))
    title = f"distribution of the anchor error of camera {found.cameras[c]}"
    return histogram(curves, edges, "error, pixels of the stored image (the last bin holds all beyond)", title)


def worst_frames(found: Predictions, subject: Subject, reader: FrameReader, c: int, anchor: int) -> np.ndarray | None:
    """The largest errors drawn: maps tinted, predicted points as rings, labels as crosses. uint8 (H, W, 3)."""
    errors = found.errors[:, c, anchor]
    starts = np.array([episode.rows.start for episode in subject.episodes])
    episode_of = np.searchsorted(starts, found.rows, side="right") - 1
    chosen: dict[int, int] = {}
    for sample in np.argsort(-errors):  # NaN last
        if not np.isnan(errors[sample]) and len(chosen) < WORST:
            chosen.setdefault(int(episode_of[sample]), int(sample))
    if not chosen:
        return None
    tiles = []
    for episode, sample in chosen.items():
        row = found.rows[sample]
        (image,) = reader.read(found.cameras[c], np.array([row]))
        labels = found.labels[sample, c]
        label = np.where(inside(labels)[:, None], labels[:, :2], np.nan)
        only = np.arange(len(ANCHOR_NAMES)) == anchor  # the other anchor would hide this one
        maps = found.maps[sample, c] * only[:, None, None]
        uv = np.where(only[:, None], found.uv[sample, c], np.nan)
        tile = marked(draw(image, maps, uv, WORST_TILE), np.where(only[:, None], label, np.nan))
        pixels = errors[sample] * found.sizes[c].min()
        place = f"episode {subject.episodes[episode].number}, {row - starts[episode]}"
        tiles.append(captioned(tile, f"{place}: {pixels:.0f} px"))
    return tiled(tiles, columns=4)
