"""``posa-vla calibrate demos``: one camera of a rig from marked frames of the user's own demonstrations."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import draccus
import numpy as np

from posa_vla.calibration.clicks import MARKS_ARE
from posa_vla.calibration.closes import read_closes
from posa_vla.calibration.demos import LONGEST, DemoCalibration, DemoSetup, calibrate_demos
from posa_vla.calibration.marks import read_marks
from posa_vla.calibration.poses import image_size, read_poses
from posa_vla.calibration.rigfile import GripperArgs, PoseArgs, open_rig
from posa_vla.data.labelling import DatasetArgs
from posa_vla.errors import PosaError, unknown_name
from posa_vla.rigs import Rig

MOUNTS = ("world", "end_effector")
LOOSE = 0.01
"""Of the picture's longer side: a larger median error of the marks is worth a warning."""


@dataclass
class DemosConfig:
    """posa-vla calibrate demos: a camera from marked pixels and the hand's poses.

    Args:
        dataset: the LeRobotDataset whose frames were marked.
        marks: CSV of episode, frame, u, v (pixels of the stored picture, 0 at the left/top edge); optionally camera,
            which is then checked; and, for resting points, optionally point: which of them the mark shows.
        rig: rig file to update or, with --pose.* and, if there is one, --gripper.*, to create.
        camera: its name in the dataset, observation.images.NAME; by default head.
        mount: world (default; marks show the hand) or end_effector.
        marks_are: mount end_effector: grasp (default; where the gripper will close next, marked before it does) or
            resting (any point that rests in the world; the hand has to tilt).
        pose: of a new rig: where the EE pose is.
        gripper: of a new rig: where the gripper command is; left out on a robot without a gripper.
        focal: focal length in pixels where it is known; else it is estimated.
        principal: principal point in OpenCV's pixels where it is known; else the image's centre.
        point_height: metres, world height of all the points marked, where it is known (resting).
        shared_points: equal point names mean the same place in all episodes (resting).
        flip_horizontal: the stored picture is mirrored left-right.
        flip_vertical: the stored picture is mirrored top-bottom.
        report: HTML file with pictures and residuals; by default RIG.CAMERA.html beside the rig; "none" leaves it out.
    """

    dataset: DatasetArgs = field(default_factory=DatasetArgs)
    marks: Path | None = None
    rig: Path | None = None
    camera: str = "head"
    mount: str = "world"
    marks_are: str = "grasp"
    pose: PoseArgs = field(default_factory=PoseArgs)
    gripper: GripperArgs = field(default_factory=GripperArgs)
    focal: float | None = None
    principal: tuple[float, float] | None = None
    point_height: float | None = None
    shared_points: bool = False
    flip_horizontal: bool = False
    flip_vertical: bool = False
    report: Path | None = None


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=DemosConfig, args=argv)
    if config.marks is None or config.rig is None:
        raise PosaError("--marks=FILE.csv is missing" if config.marks is None else "--rig=FILE.yaml is missing")
    if config.mount not in MOUNTS:
        raise unknown_name("mount", config.mount, MOUNTS)
    if config.marks_are not in MARKS_ARE:
        raise unknown_name("meaning of the marks", config.marks_are, MARKS_ARE)
    root = config.dataset.folder()
    rig = open_rig(config.rig, config.pose, config.gripper)
    size = image_size(root, config.camera)
    _check_lens(config, size)
    check_mount(config.mount, rig.rig)
    poses = read_poses(root, rig.rig)
    marks = read_marks(config.marks, size, config.camera)
    setup = DemoSetup(
        config.mount,  # type: ignore[arg-type]
        size,
        (config.flip_horizontal, config.flip_vertical),
        config.focal,
        config.principal,
        rig.rig.pose.tool,
        config.point_height,
        config.shared_points,
        config.marks_are,
    )
    if (setup.height is not None or setup.shared) and not setup.resting:
        raise PosaError("--point_height and --shared_points are about resting points: give --marks_are=resting too")
    closes = read_closes(root, rig.rig, poses) if setup.grasp else None
    result = calibrate_demos(poses, marks, setup, closes)
    camera = result.estimate.camera.camera(config.camera, size, setup.mount, setup.flips)
    report = config.report or config.rig.with_name(f"{config.rig.stem}.{config.camera}.html")
    if report.name != "none":
        from posa_vla.calibration.report import write_demo_report

        write_demo_report(report, root, config.camera, poses, marks, setup, result)
    rig.with_camera(camera, remark(result, len(marks)))
    print(summary(result, setup))
    for line in warnings(result, size):
        print(f"warning: {line}", file=sys.stderr)
    print(f"rig: {rig.changed(config.camera)}" + (f"\nreport: {report}" if report.name != "none" else ""))
    return 0


def check_mount(mount: str, rig: Rig) -> None:
    """A camera on the hand needs the hand's rotation."""
    if mount == "end_effector" and not rig.pose.has_rotation:
        raise PosaError(
            "a camera on the hand turns with it: give the rig's pose a rotation (its rotation_format is none)"
        )


def _check_lens(config: DemosConfig, size: tuple[int, int]) -> None:
    """What the user says of the lens, for pictures of a (width, height)."""
    if config.focal is not None and not 0 < config.focal <= LONGEST * max(size):
        raise PosaError(
            f"--focal={config.focal:g}: expected pixels above 0 and at most {LONGEST * max(size):g}, for pictures of "
            f"{size[0]}x{size[1]}"
        )
    principal = config.principal
    if principal is not None and not all(0 <= at < side for at, side in zip(principal, size, strict=True)):
        raise PosaError(
            f"--principal={principal[0]:g},{principal[1]:g}: expected pixels inside the {size[0]}x{size[1]} picture"
        )


def remark(result: DemoCalibration, count: int) -> str:
    estimate = result.estimate
    return (
        f"from {int(estimate.trusted.sum())} of {count} marks (posa-vla calibrate demos), "
        f"{estimate.rms():.1f} px rms, expected error {np.median(result.predicted):.1f} px"
    )


def summary(result: DemoCalibration, setup: DemoSetup) -> str:
    """Camera, fit and uncertainty (one standard deviation), one line each."""
    estimate = result.estimate
    sigma = np.sqrt(np.diag(estimate.covariance))
    known = setup.focal is not None
    frame = "world" if setup.mount == "world" else "hand's frame"
    position = ", ".join(f"{x:.3f} ± {s:.3f}" for x, s in zip(estimate.camera.position, sigma[3:6], strict=True))
    lines = [
        f"{int(estimate.trusted.sum())} of {len(estimate.trusted)} marks agree, error {estimate.rms():.2f} px rms "
        f"(median {np.median(estimate.lengths[estimate.trusted]):.2f}, largest "
        f"{estimate.lengths[estimate.trusted].max():.2f})",
        f"focal length {estimate.camera.focal:.1f} px "
        + ("(given)" if known else f"± {estimate.camera.focal * sigma[6]:.1f}"),
        f"position in the {frame}: {position} m",
        f"orientation ± {np.degrees(np.linalg.norm(sigma[:3])):.2f} degrees",
        f"expected error of a projected point in the workspace: median {np.median(result.predicted):.1f} px, "
        f"95 % below {np.quantile(result.predicted, 0.95):.1f} px",
    ]
    return "\n".join(lines)


def warnings(result: DemoCalibration, size: tuple[int, int]) -> list[str]:
    lines = []
    wrong = int((~result.estimate.trusted).sum())
    if wrong:
        lines.append(f"{wrong} marks disagree with the others and were left out: look at them in the report")
    if result.lag:
        when = "earlier" if result.lag < 0 else "later"
        lines.append(
            f"poses {abs(result.lag)} frames {when} than the pictures fit {1 - result.lag_gain:.0%} better: the "
            "dataset's pictures and poses seem out of step, and labels will be off while the hand moves fast"
        )
    if result.tool is not None:
        hint, cause = result.tool
        place = ", ".join(f"{x:.3f}" for x in hint.tool)
        lines.append(
            f"the marks fit to {hint.after:.1f} px instead of {hint.before:.1f} (median) if the point clicked lies at "
            f"[{place}] m ± {1000 * hint.sigma:.0f} mm in the recorded frame{cause and ', and '}{cause}. Is the pose "
            "the flange's? If your gripper agrees, remove the new rig and give --pose.tool (in a rig of yours: tool)"
        )
    elif np.median(result.estimate.lengths) > LOOSE * max(size):
        lines.append(
            f"the marks fit to {np.median(result.estimate.lengths):.1f} px only (median): if the clicks are careful, "
            "the rig's rotation_format or tool is wrong"
        )
    return lines
