"""What the attention did until the grasp: one kind per episode, read off the sampled task anchors of one view.

In longer tasks "until the grasp" is until the last interaction.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from posa_vla.contract import TASK_ANCHOR
from posa_vla.errors import PosaError
from posa_vla.evaluation.anchor_error import distance
from posa_vla.evaluation.records import EpisodeRecord

ON_TARGET, ON_OTHER = "on the target", "on another object"
JUMPING, NOWHERE = "jumping between objects", "nowhere"
SAME_CATEGORY, SAME_COLOUR, NEITHER = "same category", "same colour", "neither"
RELATIONS = (SAME_CATEGORY, SAME_COLOUR, NEITHER)

FLAT = 0.2
"""Maps whose highest value is less than this above their median say nothing: low everywhere, or high everywhere."""
NEAR = 0.06
"""Fractions of the short side within which a point is on an object; in the head view neighbours are 0.09 apart."""
STEADY = 0.8
"""Share of the samples on any object that must be on the same one."""


@dataclass(frozen=True)
class Attention:
    """Args:
    kind: `ON_TARGET`, `ON_OTHER`, `JUMPING` or `NOWHERE` (most samples flat, or on no object).
    object: the object of `ON_OTHER`; relation: what it has in common with the target, one of `RELATIONS`.
    """

    kind: str
    object: str | None = None
    relation: str | None = None


def until_grasp(track: dict[str, Any]) -> np.ndarray:
    """(S,) bool: samples that still have an interaction ahead."""
    return np.cumsum(_points(track, "ahead") == 0) == 0


def task_errors(track: dict[str, Any], view: int) -> np.ndarray:
    """Distances (S',) from the predicted task anchor to the true point at the samples until the grasp; NaN: unseen."""
    size = np.array(track["image_sizes"][view], np.float64)
    predicted, true = (_points(track, name)[:, view, TASK_ANCHOR] for name in ("predicted", "true"))
    return distance(predicted, true, size)[until_grasp(track)]


def looked_at(track: dict[str, Any], view: int, target: str) -> list[str | None]:
    """For each sample until the grasp the object that the task anchor is on; None: a flat map, or no object there.

    Where the next interaction is away from `target`, at a lid or beside a plate, that place counts as the target, too.
    """
    size = np.array(track["image_sizes"][view], np.float64)
    predicted, place = (_points(track, name)[:, view, TASK_ANCHOR] for name in ("predicted", "true"))  # each (S, 2)
    objects = _points(track, "object_uv")[:, view]  # (S, n, 2)
    at_target = distance(place, objects[:, track["objects"].index(target)], size) <= NEAR
    place = np.where(at_target[:, None], np.nan, place)
    gaps = distance(predicted[:, None], np.concatenate([objects, place[:, None]], axis=1), size)  # (S, n + 1)
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    contrast = _points(track, "contrast")[:, view, TASK_ANCHOR]
    names = [*track["objects"], target]
    nearest = gaps.argmin(axis=1)
    found = (gaps.min(axis=1) <= NEAR) & (contrast >= FLAT)
    return [names[nearest[sample]] if found[sample] else None for sample in np.flatnonzero(until_grasp(track))]


def attention_kind(record: EpisodeRecord, view: int = 0) -> Attention:
    """What the task anchor of one view did until the grasp; `record` must have anchor samples."""
    assert record.anchors is not None
    looks = looked_at(record.anchors, view, record.target)
    on = Counter(look for look in looks if look is not None)
    if 2 * on.total() < len(looks) or not on:
        return Attention(NOWHERE)
    name, count = on.most_common(1)[0]
    if count < STEADY * on.total():
        return Attention(JUMPING)
    return Attention(ON_TARGET) if name == record.target else Attention(ON_OTHER, name, relation(name, record.target))


def relation(name: str, target: str) -> str:
    """What two "{colour} {category}" have in common."""
    (colour, _, category), (target_colour, _, target_category) = name.partition(" "), target.partition(" ")
    if category == target_category:
        return SAME_CATEGORY
    return SAME_COLOUR if colour == target_colour else NEITHER


def _points(track: dict[str, Any], name: str) -> np.ndarray:
    """Nested lists of a track as an array, NaN for null."""
    if name not in track:
        raise PosaError(
            f"expected {name} in the episodes' anchor samples, found records that an older version wrote: run the "
            "evaluation again with another --output"
        )
    return np.array(track[name], np.float64)
