"""Does the image move where the anchors move? And would it, if the rig were wrong in a usual way?

The end anchor moves with the hand through a camera fixed in the world; the task anchor moves through the view of
a camera on the hand, over a scene that stands still until the interaction. Either way optical flow at the anchor
should be the anchor's own velocity. Their agreement, a cosine over all sampled pairs of frames,

    A = Σ flow·velocity / sqrt(Σ |flow|² Σ |velocity|²),

is near 1 when cameras, poses and images belong together. A mirrored image, another quaternion order, millimetres
or a late image lower it, and undoing the mistake raises it again: so every usual mistake is tried.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from posa_vla.anchors.camera import Camera
from posa_vla.anchors.interaction import next_event
from posa_vla.anchors.pose import RotationFormat, Transform, homogeneous, world_from_ee
from posa_vla.inspection.frames import Images
from posa_vla.inspection.subject import Subject
from posa_vla.rigs import PoseSource

STATED = "as stated"
SHIFTS = tuple(shift for shift in range(-8, 9) if shift)
BASELINE_SECONDS = 0.05
"""Between the two frames of a flow: an arm moves by a pixel or more, and by less than the flow can follow."""

FLOW_SIDE = 128
"""Images are shrunk to this longer side, pixels."""

LONGEST = 80
"""Frames looked at in one episode: those that lead to its last interaction."""

FAR = 3.0
"""Metres: positions beyond are tried as millimetres and centimetres."""


@dataclass(frozen=True)
class Guess:
    """What may be wrong.

    Args:
        name: `STATED`, or the mistake that is undone.
        kind: flip, rotation, unit, frame, matrix or time; empty for `STATED`.
        shift: image t belongs to pose t + shift.
    """

    name: str
    kind: str
    shift: int = 0


@dataclass(frozen=True)
class Agreement:
    """How well one camera's images move with the anchors if a guess holds.

    Args:
        guess: that guess.
        sums: (E, 4), of each sampled episode: Σ flow·velocity, Σ|flow|², Σ|velocity|², pairs.
    """

    guess: Guess
    sums: np.ndarray

    @property
    def value(self) -> float:
        """A over all episodes, in [-1, 1]; 0 without a single pair."""
        return float(cosine(self.sums.sum(axis=0)))

    @property
    def pairs(self) -> int:
        return int(self.sums[:, 3].sum())


@dataclass(frozen=True)
class Assumption:
    """A guess about one camera in one episode: the camera and world_from_ee (T, 4, 4) as they would be."""

    guess: Guess
    camera: Camera
    hand: Transform


def cosine(sums: np.ndarray) -> np.ndarray:
    """(..., 4) sums -> (...) agreement."""
    return sums[..., 0] / np.sqrt(np.maximum(sums[..., 1] * sums[..., 2], 1e-12))


def agreements(subject: Subject, reader: Images, episodes: np.ndarray) -> dict[str, list[Agreement]]:
    """By camera: `STATED` first, then every guess that could be tried, on some episodes (positions)."""
    found = {}
    for camera in subject.rig.camera_names:
        per_episode = [dict(_episode_sums(subject, reader, camera, int(episode))) for episode in episodes]
        guesses = dict.fromkeys(guess for sums in per_episode for guess in sums)
        nothing = np.zeros(4)
        found[camera] = [
            Agreement(guess, np.stack([sums.get(guess, nothing) for sums in per_episode])) for guess in guesses
        ]
    return found


def _episode_sums(subject: Subject, reader: Images, name: str, episode: int) -> Iterator[tuple[Guess, np.ndarray]]:
    rows = subject.episodes[episode].rows
    events = subject.labels[episode].interactions.frames
    length = rows.stop - rows.start
    stride = max(1, round(BASELINE_SECONDS * subject.fps))
    stop = int(events[-1]) + 1 if len(events) else length
    start = max(0, stop - LONGEST)
    if stop - start <= stride:
        return
    images_stop = min(stop + max(SHIFTS), length)  # where a late image shows what led to the interaction
    flow = _flow(reader.read(name, np.arange(rows.start + start, rows.start + images_stop)), stride)
    rig = subject.placed[episode]
    for assumption in assumptions(subject, rig.camera(name), rows):
        track, usable = track_of(assumption, events, rig.pose.tool)
        yield assumption.guess, _sums(flow, track[:stop], usable[:stop], start + assumption.guess.shift, stride)


def _flow(images: np.ndarray, stride: int) -> np.ndarray:
    """Dense flow from frame t to t + stride, smoothed: uint8 (T, H, W, 3) -> (T - stride, h, w, 2) pixels."""
    scale = FLOW_SIDE / max(images.shape[1:3])
    size = (round(images.shape[2] * scale), round(images.shape[1] * scale))
    grey = [cv2.resize(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for i in images]
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    pairs = zip(grey[:-stride], grey[stride:], strict=True)
    return np.stack([cv2.blur(finder.calc(a, b, None), (7, 7)) for a, b in pairs])  # type: ignore[call-overload]


def assumptions(subject: Subject, camera: Camera, rows: slice) -> Iterator[Assumption]:
    """The stated rig and each usual mistake undone, for the rows of one episode."""
    hand = subject.poses_of(rows)
    yield Assumption(Guess(STATED, ""), camera, hand)
    for horizontal, vertical, text in ((1, 0, "left-right"), (0, 1, "top-bottom"), (1, 1, "both ways")):
        mirrored = replace(
            camera,
            flip_horizontal=camera.flip_horizontal ^ bool(horizontal),
            flip_vertical=camera.flip_vertical ^ bool(vertical),
        )
        yield Assumption(Guess(f"image mirrored {text}", "flip"), mirrored, hand)
    inverse = np.linalg.inv(camera.cam_from_mount)
    inverse[3] = (0, 0, 0, 1)
    yield Assumption(Guess("cam_from_mount inverted", "matrix"), replace(camera, cam_from_mount=inverse), hand)
    if camera.mount == "world":
        for degrees in (90, 180, 270):
            yield Assumption(Guess(f"world turned {degrees}° about z", "frame"), camera, _turned(hand, degrees))
    else:
        yield from _other_rotations(subject, camera, rows)
    if np.abs(subject.hand.matrix[:, :3, 3]).max() > FAR:
        for factor, unit in ((1e-3, "millimetres"), (1e-2, "centimetres")):
            yield Assumption(Guess(f"positions in {unit}", "unit"), camera, _scaled(hand, factor))
    for shift in SHIFTS:
        late = f"image {abs(shift)} frames {'late' if shift < 0 else 'early'}"
        yield Assumption(Guess(late, "time", shift), camera, hand)


def _other_rotations(subject: Subject, camera: Camera, rows: slice) -> Iterator[Assumption]:
    """The quaternion read in the other order; a world camera does not see the hand's rotation."""
    source = subject.rig.pose
    if not isinstance(source, PoseSource) or not source.rotation_format.startswith("quaternion"):
        return
    values = subject.columns[source.column][rows].astype(np.float64)[:, list(source.indices)]
    other: RotationFormat = "quaternion_wxyz" if source.rotation_format == "quaternion_xyzw" else "quaternion_xyzw"
    yield Assumption(Guess(f"quaternion is {other[-4:]}", "rotation"), camera, world_from_ee(values, other))


def _turned(hand: Transform, degrees: int) -> Transform:
    angle = np.deg2rad(degrees)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Transform(hand.dst, hand.src, homogeneous(turn, np.zeros(3)) @ hand.matrix)


def _scaled(hand: Transform, factor: float) -> Transform:
    matrix = hand.matrix.copy()
    matrix[:, :3, 3] *= factor
    return Transform(hand.dst, hand.src, matrix)


def track_of(assumption: Assumption, events: np.ndarray, tool: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The anchor whose motion this camera shows: u, v (T, 2), and where it is known and in front (T,)."""
    position = assumption.hand.apply(np.array(tool))
    usable: np.ndarray = np.ones(len(position), bool)
    if assumption.camera.mount != "world":
        event = next_event(events, len(position))
        position, usable = position[event], event >= 0
    uvd = assumption.camera.project(position, assumption.hand)
    return uvd[:, :2], usable & (uvd[:, 2] > 0)


def _sums(flow: np.ndarray, track: np.ndarray, usable: np.ndarray, start: int, stride: int) -> np.ndarray:
    """Σ flow·velocity, Σ|flow|², Σ|velocity|², pairs; flow[i] goes from frame start + i of the track to + stride."""
    pairs, height, width = flow.shape[:3]
    at = np.arange(pairs) + start
    inside = (at >= 0) & (at + stride < len(track))
    index, at = np.arange(pairs)[inside], at[inside]
    pixels = track * [width, height]
    velocity = pixels[at + stride] - pixels[at]
    here = np.floor(pixels[at]).astype(np.int64)
    use = usable[at] & usable[at + stride] & (here >= 0).all(axis=1) & (here < [width, height]).all(axis=1)
    use &= np.abs(velocity).max(axis=1) < width / 4  # farther than the flow can follow
    index, here, velocity = index[use], here[use], velocity[use]
    found = flow[index, here[:, 1], here[:, 0]].astype(np.float64)
    return np.array([(found * velocity).sum(), (found**2).sum(), (velocity**2).sum(), len(found)])
