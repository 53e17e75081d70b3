"""One HTML file about a calibration from marks: pictures with marks and projections, residuals, uncertainty."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posa_vla.calibration.demos import DemoCalibration, DemoSetup
from posa_vla.calibration.marks import Marks
from posa_vla.calibration.poses import EpisodePoses
from posa_vla.data.files import write_bytes
from posa_vla.errors import PosaError
from posa_vla.inspection.frames import FrameReader
from posa_vla.pages import picture_uri, render

PICTURES = 40
"""The marks with the largest errors and, to compare, some of the others."""
MARK_COLOUR, WRONG_COLOUR, PROJECTED_COLOUR = (60, 140, 255), (255, 60, 40), (0, 255, 90)
LONGER_SIDE = 480


def write_demo_report(
    path: Path,
    root: Path,
    camera: str,
    poses: EpisodePoses,
    marks: Marks,
    setup: DemoSetup,
    result: DemoCalibration,
) -> None:
    """The page at ``path``; the dataset's marked frames are decoded for it."""
    estimate = result.estimate
    sigma = np.sqrt(np.diag(estimate.covariance))
    page = render(
        "calibration.html",
        title=f"camera {camera} of {root.resolve().name}",
        cards=_cards(result, setup, sigma),
        plot=_plot(marks, setup, result),
        pictures=_pictures(root, camera, poses, marks, setup, result),
        wrong=int((~estimate.trusted).sum()),
        sigmas=_sigmas(result, setup, sigma),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, page.encode())
    except OSError as error:
        raise PosaError(f"cannot write the report {path}: {error}") from error


def stored_pixels(pixels: np.ndarray, setup: DemoSetup) -> np.ndarray:
    """OpenCV's pixels of the unflipped image (N, 2) -> continuous pixels of the stored one."""
    return np.where(setup.flips, np.asarray(setup.size) - (pixels + 0.5), pixels + 0.5)


def projections(marks: Marks, setup: DemoSetup, result: DemoCalibration) -> np.ndarray:
    """(N, 2) where the calibrated camera sees what was marked, continuous pixels of the stored image."""
    return stored_pixels(marks.unflipped(setup.size, setup.flips) + result.estimate.errors, setup)


def _cards(result: DemoCalibration, setup: DemoSetup, sigma: np.ndarray) -> list[dict[str, str]]:
    estimate = result.estimate
    focal = "given" if setup.focal is not None else f"± {estimate.camera.focal * sigma[6]:.1f} px"
    return [
        {
            "label": "marks that agree",
            "figure": f"{int(estimate.trusted.sum())} of {len(estimate.trusted)}",
            "note": "the rest is drawn in red",
        },
        {
            "label": "error of the marks",
            "figure": f"{estimate.rms():.2f} px",
            "note": f"root mean square, {setup.size[0]}×{setup.size[1]} pictures",
        },
        {
            "label": "expected error in the workspace",
            "figure": f"{np.median(result.predicted):.1f} px",
            "note": f"95 % of points below {np.quantile(result.predicted, 0.95):.1f} px",
        },
        {"label": "focal length", "figure": f"{estimate.camera.focal:.0f} px", "note": focal},
    ]


def _sigmas(result: DemoCalibration, setup: DemoSetup, sigma: np.ndarray) -> list[tuple[str, str]]:
    camera = result.estimate.camera
    place = [f"{axis} {x:.4f} ± {s:.4f} m" for axis, x, s in zip("xyz", camera.position, sigma[3:6], strict=True)]
    turns = [f"{axis} ± {np.degrees(s):.2f}°" for axis, s in zip("xyz", sigma[:3], strict=True)]
    rows = [
        (f"position in the {'world' if setup.mount == 'world' else 'hand’s'} frame", ", ".join(place)),
        ("orientation, about the camera's axes", ", ".join(turns)),
    ]
    points = result.estimate.landmarks
    if setup.resting:
        found = points[np.isfinite(points).all(axis=1)]
        rows.append(("points found, world, m", "; ".join(np.array2string(p, precision=3) for p in found[:12])))
    return rows


def _plot(marks: Marks, setup: DemoSetup, result: DemoCalibration) -> dict[str, Any]:
    """Marks and, ten times as long as they are, their errors, in pixels of the stored picture."""
    ends = projections(marks, setup, result)
    lines = [
        {"u": m[0], "v": m[1], "du": 10 * (p - m)[0], "dv": 10 * (p - m)[1], "wrong": not trusted}
        for m, p, trusted in zip(marks.uv, ends, result.estimate.trusted, strict=True)
    ]
    return {"width": setup.size[0], "height": setup.size[1], "lines": lines}


def _pictures(
    root: Path, camera: str, poses: EpisodePoses, marks: Marks, setup: DemoSetup, result: DemoCalibration
) -> list[dict[str, Any]]:
    estimate = result.estimate
    order = np.argsort(-estimate.lengths)
    order = order if len(order) <= PICTURES else order[np.linspace(0, len(order) - 1, PICTURES).astype(int)]
    rows = marks.rows(poses)[order]
    unique, where = np.unique(rows, return_inverse=True)
    images = FrameReader(root).read(camera, unique)
    ends = projections(marks, setup, result)
    return [
        {
            "image": picture_uri(_drawn(images[where[i]], marks.uv[n], ends[n], bool(estimate.trusted[n]))),
            "episode": int(marks.episode[n]),
            "frame": int(marks.frame[n]),
            "error": float(estimate.lengths[n]),
            "wrong": not estimate.trusted[n],
        }
        for i, n in enumerate(order)
    ]


def _drawn(image: np.ndarray, mark: np.ndarray, end: np.ndarray, trusted: bool) -> np.ndarray:
    """The picture with a cross at the mark and a ring at the projection."""
    scale = LONGER_SIDE / max(image.shape[:2])
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    # The centre of pixel k lies at k + 0.5; OpenCV draws it at k, in sixteenths of a pixel with shift=4.
    mark, end = (np.clip(np.round((point * scale - 0.5) * 16), -30_000, 30_000).astype(int) for point in (mark, end))
    for thickness, ink in ((3, (0, 0, 0)), (1, MARK_COLOUR if trusted else WRONG_COLOUR)):
        for step in ((112, 0), (0, 112)):
            cv2.line(canvas, tuple(mark - step), tuple(mark + step), ink, thickness, cv2.LINE_AA, shift=4)
    for thickness, ink in ((3, (0, 0, 0)), (1, PROJECTED_COLOUR)):
        cv2.circle(canvas, tuple(end), 112, ink, thickness, cv2.LINE_AA, shift=4)
    return canvas
