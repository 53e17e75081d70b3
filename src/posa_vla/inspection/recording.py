"""The shown episodes as a recording for the rerun viewer: cameras in 3D, images with anchors, gripper, events."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posa_vla.anchors.camera import Camera
from posa_vla.contract import ANCHOR_NAMES
from posa_vla.errors import PosaError
from posa_vla.evaluation.overlay import END_COLOUR, TASK_COLOUR
from posa_vla.inspection.checks import inside
from posa_vla.inspection.events import explain_episode
from posa_vla.inspection.frames import FrameReader
from posa_vla.inspection.subject import Subject

COLOURS = (TASK_COLOUR, END_COLOUR)
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]
RADIUS = 4.0
"""Of an anchor, pixels on the screen; rerun takes negative numbers for those."""


def require_rerun() -> Any:
    """The module, or one sentence on how to get it."""
    try:
        import rerun
    except ImportError:
        raise PosaError(
            "--recording needs the rerun SDK, which is not installed: pip install 'lerobot_policy_posa_vla[viz]', or "
            "leave the option out"
        ) from None
    return rerun


def write_recording(path: Path, subject: Subject, reader: FrameReader, episodes: list[int]) -> None:
    """Writes the episodes (positions), each under its own name, on the timeline ``frame``."""
    rr = require_rerun()
    stream = rr.RecordingStream("posa-vla inspect")
    stream.save(str(path))
    for number in episodes:
        _episode(rr, stream, subject, reader, number)
    stream.flush()
    stream.disconnect()


def _episode(rr: Any, stream: Any, subject: Subject, reader: FrameReader, number: int) -> None:
    place = f"episode_{subject.episodes[number].number}"
    rows = subject.episodes[number].rows
    every_row = np.arange(rows.start, rows.stop)
    hand = subject.poses_of(rows)
    rig = subject.placed[number]
    position = hand.apply(np.array(rig.pose.tool))
    stream.log(f"{place}/world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    stream.log(f"{place}/world/path", rr.LineStrips3D([position]), static=True)
    images = {camera.name: reader.read(camera.name, every_row) for camera in rig.cameras}
    for camera in rig.cameras:
        height, width = images[camera.name].shape[1:3]
        view = rr.Pinhole(image_from_camera=_lens(camera, height, width), resolution=[width, height])
        stream.log(f"{place}/world/{camera.name}", view, static=True)
    for frame, row in enumerate(every_row):
        stream.set_time("frame", sequence=frame)
        if subject.gripper is not None:
            stream.log(f"{place}/gripper", rr.Scalars(float(subject.gripper.signal[row])))
        stream.log(f"{place}/world/hand", rr.Points3D([position[frame]], colors=[END_COLOUR], radii=0.01))
        for c, camera in enumerate(rig.cameras):
            entity = f"{place}/world/{camera.name}"
            matrix = camera.cam_from_world(subject.poses_of(slice(row, row + 1))).inverse().matrix.reshape(-1, 4, 4)[0]
            stream.log(entity, rr.Transform3D(translation=matrix[:3, 3], mat3x3=matrix[:3, :3]))
            _picture(rr, stream, entity, *_unflipped(camera, images[camera.name][frame], subject.anchors[row, c]))
    for one in explain_episode(subject, number):
        stream.set_time("frame", sequence=one.frame)
        stream.log(f"{place}/events", rr.TextLog(f"{one.detector}, {one.kind}: {one.why}"))


def _lens(camera: Camera, height: int, width: int) -> np.ndarray:
    """image_from_camera (3, 3) of a picture of that size, in rerun's pixels, whose edges are at integers."""
    matrix = camera.matrix
    matrix[:2, 2] += 0.5
    return np.diag([width / camera.width, height / camera.height, 1]) @ matrix


def _unflipped(camera: Camera, image: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A stored picture (H, W, 3) and its anchors (2, 4) as the camera took them: a lens in space cannot mirror."""
    flips = (camera.flip_vertical, camera.flip_horizontal)
    image = np.flip(image, [axis for axis, is_flipped in enumerate(flips) if is_flipped])
    uv = np.where(flips[::-1], 1 - anchors[:, :2], anchors[:, :2])
    return image, np.concatenate([uv, anchors[:, 2:]], axis=1)


def _picture(rr: Any, stream: Any, entity: str, image: np.ndarray, anchors: np.ndarray) -> None:
    """An image uint8 (H, W, 3) and the anchors (2, 4) that lie in it."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], JPEG)
    assert done
    stream.log(f"{entity}/image", rr.EncodedImage(contents=data.tobytes(), media_type="image/jpeg"))
    shown = inside(anchors)
    points = anchors[shown, :2] * [image.shape[1], image.shape[0]]
    names = [name for name, is_shown in zip(ANCHOR_NAMES, shown, strict=True) if is_shown]
    colours = [colour for colour, is_shown in zip(COLOURS, shown, strict=True) if is_shown]
    stream.log(f"{entity}/image/anchors", rr.Points2D(points, colors=colours, labels=names, radii=-RADIUS))
