"""Verdicts from `whatif`'s agreements: is the rig right, and if not, which usual mistake explains the images?"""

from collections.abc import Mapping, Sequence

import numpy as np

from posa_vla.inspection.checks import Check, Verdict
from posa_vla.inspection.whatif import Agreement, cosine

ENOUGH_PAIRS = 30
"""Pairs of frames with a moving anchor in view, over all episodes; fewer judge nothing."""

ENOUGH_COVER = 0.3
"""Of the pairs of the assumption that has most: one that keeps the anchor out of the picture proves nothing."""

GOOD, POOR = 0.6, 0.3
"""Agreement of a rig that fits, and of one that does not. docs/inspect.md has what was measured."""

CLEARLY = 0.15
"""By how much undoing a mistake must raise the agreement; smaller differences are left alone."""

CLEARLY_LATE = 0.03
"""The same for a delay: a frame more or less changes the agreement smoothly, by 0.05 to 0.1."""

LATE = 0.1
"""Seconds between image and pose from which on it is wrong; real cameras are a frame or two late."""

SURE = 0.95
"""Share of bootstrap samples of the episodes in which an assumption must beat the stated rig."""

RESAMPLES = 200

CAUSES = {
    "flip": "the stored image is mirrored: set flip_horizontal / flip_vertical of this camera in the rig",
    "rotation": "the rotation is read in the wrong order: correct pose.rotation_format in the rig",
    "unit": "positions are not in metres: scale the column",
    "frame": "pose and calibration use different world frames: one is turned against the other about z",
    "matrix": "cam_from_mount holds its inverse: write the matrix that takes mount coordinates to the camera's",
    "time": "images and poses are not of the same moment: shift one of them when recording",
}


def check_motion(agreements: Mapping[str, Sequence[Agreement]], fps: float) -> list[Check]:
    """One verdict on geometry and one on time for each camera."""
    checks = []
    for camera, tried in agreements.items():
        if max((one.pairs for one in tried), default=0) < ENOUGH_PAIRS:
            found = "too little motion of the anchor in view"
            checks.append(Check(f"Image motion: {camera}", "unknown", found))
            continue
        usable = covered(tried)
        # A delay lowers the agreement without any fault of the geometry, which is judged with the delay undone.
        best_time = max((one for one in usable if one.guess.kind in ("", "time")), key=_value, default=tried[0])
        others = [one for one in usable if one.guess.kind not in ("", "time")]
        geometry = _geometry(camera, tried[0], best_time, others)
        checks.append(geometry)
        if geometry.verdict == "good":
            checks.append(_timing(camera, tried[0], best_time, fps))
    return checks


def covered(tried: Sequence[Agreement]) -> list[Agreement]:
    """Those under which the anchor is in the picture often enough to be judged."""
    most = max(one.pairs for one in tried)
    return [one for one in tried if one.pairs >= max(ENOUGH_PAIRS, ENOUGH_COVER * most)]


def _geometry(camera: str, stated: Agreement, best_time: Agreement, others: Sequence[Agreement]) -> Check:
    name = f"Image motion: {camera}"
    found = f"agreement {stated.value:.2f} over {stated.pairs} pairs of frames"
    best = max(others, key=_value, default=stated)
    seen = best_time.pairs >= ENOUGH_COVER * max(best.pairs, best_time.pairs)
    reference = best_time.value if seen else 0.0
    if best.value >= POOR and best.value - reference > CLEARLY and (not seen or confidence(best, best_time) >= SURE):
        found += f"; {best.value:.2f} with: {best.guess.name}"
        return Check(name, "wrong", found, f"{best.guess.name}? {CAUSES[best.guess.kind]}")
    if reference >= GOOD:
        return Check(name, "good", found)
    cause = "the image does not move as the anchors do, and no usual mistake explains it: extrinsics or pose are wrong"
    if reference >= POOR:
        cause = "the image moves only roughly as the anchors do: a rough calibration, or other things move too"
    return Check(name, "look" if reference >= POOR else "wrong", found, cause)


def _timing(camera: str, stated: Agreement, best: Agreement, fps: float) -> Check:
    name = f"Time offset: {camera}"
    if best.value - stated.value <= CLEARLY_LATE or confidence(best, stated) < SURE:
        return Check(name, "good", "none found")
    found = f"agreement {best.value:.2f} instead of {stated.value:.2f} with: {best.guess.name}"
    verdict: Verdict = "wrong" if abs(best.guess.shift) >= LATE * fps else "look"
    return Check(name, verdict, found, f"{best.guess.name}? {CAUSES['time']}")


def _value(one: Agreement) -> float:
    return one.value


def confidence(one: Agreement, other: Agreement) -> float:
    """Share of bootstrap samples of the episodes in which ``one`` agrees better than ``other``."""
    draws = np.random.default_rng(0).integers(0, len(one.sums), (RESAMPLES, len(one.sums)))
    return float((cosine(one.sums[draws].sum(1)) > cosine(other.sums[draws].sum(1))).mean())
