"""A dataset of an arm that posa-vla has no rig for, to try docs/your-robot.md on: a KUKA iiwa with a Rethink gripper.

    python examples/foreign_arm.py record --output=FOLDER     # FOLDER/data: a LeRobotDataset v3; FOLDER/truth.npz
    python examples/foreign_arm.py click  --output=FOLDER --camera=front --page=marks.html --marks=marks.csv
    python examples/foreign_arm.py check  --output=FOLDER --labelled=FOLDER_OF_POSA_VLA_LABEL

Needs the extra `sim` (MuJoCo, and robosuite's files of the arm), nothing of posa-vla. `click` stands for the person who
clicks in the page of `posa-vla calibrate mark`; `check` compares the labels with the simulator. Both, and nothing else,
read truth.npz. The motion is kinematic: joints follow by inverse kinematics, the cube is carried rigidly.
"""

import argparse
import csv
import importlib.util
import re
from pathlib import Path

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation, Slerp

FPS, WIDTH, HEIGHT = 20, 320, 240
TASK = "put the cube on the yellow mat"
START = np.array([0.0, 0.65, 0.0, -1.89, 0.0, 0.6, 0.0])  # rad
TIP = np.array([0.0, 0.0, 0.109])  # m, flange to the point between the fingertips
FINGER_OPEN, FINGER_SHUT = 0.0208, -0.0115  # m, each finger
HELD = 0.6  # how far the fingers are shut (0 to 1) around the cube
CUBE, MAT = 0.02, 0.05  # m, half sides
STEP, TURN = 0.016, 0.12  # m and rad per frame
CLICK_SIGMA = 1.0  # px, of a click along each axis, which is then rounded to whole pixels
CAMERAS = ("front", "hand")


def build() -> mujoco.MjModel:
    """World z up, origin at the arm's foot; the table is the plane z = 0."""
    assets = Path(str(importlib.util.find_spec("robosuite").submodule_search_locations[0])) / "models/assets"
    arm = mujoco.MjSpec.from_file(str(assets / "robots/iiwa/robot.xml"))
    gripper = mujoco.MjSpec.from_file(str(assets / "grippers/rethink_gripper.xml"))
    for spec in (arm, gripper):
        spec.compiler.degree = False
        for item in [*spec.cameras, *spec.sensors, *spec.actuators, *spec.equalities, *spec.tendons, *spec.sites]:
            spec.delete(item)
        for geom in [geom for geom in spec.geoms if geom.group == 0]:
            spec.delete(geom)
    hand = arm.body("right_hand")
    arm.attach(gripper, prefix="g_", frame=hand.add_frame())
    tilt = Rotation.from_euler("xyz", [180, 18, 90], degrees=True).as_quat(scalar_first=True)
    hand.add_camera(name="hand", pos=[0.09, 0.01, 0.02], quat=tilt, fovy=70)
    world = arm.worldbody
    eye, target = np.array([1.2, -0.45, 0.65]), np.array([0.5, 0.0, 0.16])
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0, 0, 1], back) / np.linalg.norm(np.cross([0, 0, 1], back))
    axes = np.stack([right, np.cross(back, right), back], axis=1)
    world.add_camera(name="front", pos=eye, quat=Rotation.from_matrix(axes).as_quat(scalar_first=True), fovy=48)
    box, plane = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_PLANE
    world.add_geom(name="table", type=plane, size=[2, 2, 0.1], rgba=[0.55, 0.45, 0.35, 1], group=1)
    world.add_light(pos=[0.5, 0, 2], dir=[0, 0, -1], diffuse=[0.5, 0.5, 0.5])
    for name, size, rgba in (
        ("cube", [CUBE] * 3, [0.8, 0.1, 0.1, 1]),
        ("mat", [MAT, MAT, 0.001], [0.9, 0.8, 0.1, 1]),
    ):
        world.add_body(name=name, mocap=True).add_geom(type=box, size=size, rgba=rgba, group=1)
    arm.visual.global_.offwidth, arm.visual.global_.offheight = WIDTH, HEIGHT
    arm.stat.extent, arm.stat.center = 1.0, (0.5, 0, 0.2)
    return arm.compile()


class Arm:
    """Joint values of the arm and the fingers; poses of the flange, of the tip and of things on the table."""

    def __init__(self):
        self.model = build()
        self.data = mujoco.MjData(self.model)
        self.flange = self.model.body("right_hand").id
        self.fingers = [self.model.joint(f"g_{side}_finger_joint").qposadr[0] for side in "lr"]
        self.data.qpos[:7] = START

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        return self.data.xpos[self.flange].copy(), self.data.xmat[self.flange].reshape(3, 3).copy()

    def tip(self) -> np.ndarray:
        position, turn = self.pose()
        return position + turn @ TIP

    def reach(self, tip: np.ndarray, turn: np.ndarray) -> None:
        """Damped least squares; redundancy pulls back to the start."""
        jacobian = np.zeros((6, self.model.nv))
        for _ in range(8):
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            position, now = self.pose()
            error = np.concatenate([tip - turn @ TIP - position, Rotation.from_matrix(turn @ now.T).as_rotvec()])
            mujoco.mj_jacBody(self.model, self.data, jacobian[:3], jacobian[3:], self.flange)
            J = jacobian[:, :7]
            inverse = J.T @ np.linalg.inv(J @ J.T + 1e-5 * np.eye(6))
            pull = (np.eye(7) - inverse @ J) @ (START - self.data.qpos[:7])
            self.data.qpos[:7] += inverse @ error + 0.1 * pull
        mujoco.mj_kinematics(self.model, self.data)

    def shut(self, share: float) -> None:
        place = FINGER_OPEN + share * (FINGER_SHUT - FINGER_OPEN)
        self.data.qpos[self.fingers] = place, -place

    def put(self, name: str, position: np.ndarray, turn: np.ndarray) -> None:
        index = self.model.body(name).mocapid[0]
        self.data.mocap_pos[index] = position
        self.data.mocap_quat[index] = Rotation.from_matrix(turn).as_quat(scalar_first=True)

    def camera(self, name: str) -> np.ndarray:
        """cam_from_world (4, 4), OpenCV's axes."""
        view = self.data.camera(name)
        turn = (view.xmat.reshape(3, 3) * (1, -1, -1)).T
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, -turn @ view.xpos
        return matrix


def downward(yaw: float, tilt: np.ndarray) -> np.ndarray:
    return (Rotation.from_rotvec([*tilt, 0]) * Rotation.from_euler("zx", [yaw, np.pi])).as_matrix()


def plan(rng: np.random.Generator) -> tuple[list, np.ndarray, np.ndarray, float]:
    """Steps (tip, turn, command) of one episode, the cube's and the mat's places and the cube's yaw."""
    cube, mat = np.zeros(2), np.zeros(2)
    while np.linalg.norm(cube - mat) < 0.15:
        cube, mat = rng.uniform([0.42, -0.22], [0.68, 0.22], (2, 2))
    yaw = rng.uniform(-0.6, 0.6)
    lean = lambda degrees: np.radians(rng.uniform(-degrees, degrees, 2))  # noqa: E731
    middle = (cube + mat) / 2
    start, high, over = [*rng.uniform([0.4, -0.2], [0.6, 0.2]), rng.uniform(0.25, 0.4)], rng.uniform(0.12, 0.22, 3), 0.1
    stops = [
        (start, downward(rng.uniform(-0.6, 0.6), lean(25)), 1),
        ([*cube, over + high[0]], downward(yaw, lean(22)), 1),
        ([*cube, CUBE], downward(yaw, lean(6)), 1),
        ([*cube, CUBE], None, 0),
        ([*middle, high[1]], downward(rng.uniform(-0.6, 0.6), lean(22)), 0),
        ([*mat, CUBE + 0.003], downward(rng.uniform(-0.6, 0.6), lean(6)), 0),
        ([*mat, CUBE + 0.003], None, 1),
        ([*mat, high[2]], downward(yaw, lean(15)), 1),
    ]
    steps = [(np.array(stops[0][0]), stops[0][1], 1)]
    for place, turn, command in stops[1:]:
        tip, now, _ = steps[-1]
        if turn is None:
            steps += [(tip, now, command)] * 8
            continue
        angle = np.linalg.norm(Rotation.from_matrix(turn @ now.T).as_rotvec())
        count = int(np.ceil(max(np.linalg.norm(place - tip) / STEP, angle / TURN)))
        turns = Slerp([0, 1], Rotation.from_matrix([now, turn]))
        for share in np.arange(1, count + 1) / count:
            eased = share * share * (3 - 2 * share)
            steps.append((tip + eased * (place - tip), turns(eased).as_matrix(), command))
    return steps, cube, mat, yaw


def record(folder: Path, episodes: int, seed: int) -> None:
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = ["x", "y", "z", "qx", "qy", "qz", "qw", "gripper_width"]
    features = {
        "observation.state": {"dtype": "float32", "shape": (8,), "names": names},
        "action": {"dtype": "float32", "shape": (7,), "names": ["dx", "dy", "dz", "drx", "dry", "drz", "gripper"]},
    }
    for camera in CAMERAS:
        shape = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
        features[f"observation.images.{camera}"] = shape
    encoder = RGBEncoderConfig(vcodec="h264", crf=20, preset="veryfast", extra_options={"threads": "1"})
    dataset = LeRobotDataset.create(
        "me/kuka", fps=FPS, features=features, root=folder / "data", robot_type="kuka_iiwa", rgb_encoder=encoder,
        streaming_encoding=True, encoder_queue_maxsize=1000, encoder_threads=1,
    )  # fmt: skip
    arm, rng, truth = Arm(), np.random.default_rng(seed), []
    renderer = mujoco.Renderer(arm.model, HEIGHT, WIDTH)
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    for episode in range(episodes):
        steps, cube, mat, yaw = plan(rng)
        share, held = 0.0, None
        arm.put("mat", np.array([*mat, 0.001]), np.eye(3))
        arm.put("cube", np.array([*cube, CUBE]), Rotation.from_euler("z", yaw).as_matrix())
        for t, (tip, turn, command) in enumerate(steps):
            arm.reach(tip, turn)
            arm.shut(share)
            position, now = arm.pose()
            cube_pose = (arm.data.body("cube").xpos.copy(), arm.data.body("cube").xmat.reshape(3, 3).copy())
            if share == HELD and held is None:
                held = now.T @ (cube_pose[0] - position), now.T @ cube_pose[1]
            if command and held is not None:
                held, place = None, cube_pose[0] * (1, 1, 0) + (0, 0, CUBE + 0.002)
                arm.put("cube", place, cube_pose[1])
            elif held is not None:
                arm.put("cube", position + now @ held[0], now @ held[1])
            mujoco.mj_kinematics(arm.model, arm.data)
            mujoco.mj_camlight(arm.model, arm.data)
            following = steps[min(t + 1, len(steps) - 1)]
            delta = [*(following[0] - tip), *Rotation.from_matrix(following[1] @ turn.T).as_rotvec()]
            frame = {
                "observation.state": np.float32(
                    [*position, *Rotation.from_matrix(now).as_quat(), 2 * (FINGER_OPEN - FINGER_SHUT) * (1 - share)]
                ),
                "action": np.float32([*delta, command]),
                "task": TASK,
            }
            for camera in CAMERAS:
                renderer.update_scene(arm.data, camera)
                frame[f"observation.images.{camera}"] = renderer.render()
            dataset.add_frame(frame)
            views = [arm.camera(camera) for camera in CAMERAS]
            rests = held is None and share == 0
            truth.append((episode, t, arm.data.qpos.copy(), arm.tip(), views, corners(arm), rests, command))
            share = max(share - 0.15, 0.0) if command else min(share + 0.15, HELD)
        dataset.save_episode()
    dataset.finalize()
    focals = [HEIGHT / 2 / np.tan(np.radians(arm.model.camera(camera).fovy[0]) / 2) for camera in CAMERAS]
    keys = ("episode", "frame", "qpos", "tip", "cam_from_world", "corners", "rests", "command")
    np.savez(
        folder / "truth.npz", focal=focals, **dict(zip(keys, map(np.array, zip(*truth, strict=True)), strict=True))
    )
    print(f"{episodes} episodes, {len(truth)} frames: {folder / 'data'}")


def corners(arm: Arm) -> np.ndarray:
    """(8, 3) m: the upper corners of the cube, then of the mat."""
    found = []
    for name, half, height in (("cube", CUBE, CUBE), ("mat", MAT, 0.001)):
        body = arm.data.body(name)
        square = np.array([[x * half, y * half, height] for x in (-1, 1) for y in (-1, 1)])
        found.append(square @ body.xmat.reshape(3, 3).T + body.xpos)
    return np.concatenate(found)


def project(truth: dict, rows: np.ndarray, camera: str, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) m -> (N, 3): pixels of the picture, 0 at its left and upper edge, and depth in metres."""
    index = CAMERAS.index(camera)
    view = truth["cam_from_world"][rows, index]
    inside = np.einsum("nij,nj->ni", view[:, :3, :3], points) + view[:, :3, 3]
    uv = truth["focal"][index] * inside[:, :2] / inside[:, 2:] + (WIDTH / 2, HEIGHT / 2)
    return np.concatenate([uv, inside[:, 2:]], axis=1)


def click(folder: Path, camera: str, page: Path, marks: Path, seed: int) -> None:
    """Clicks where the true point is, one pixel off and rounded; on the hand's camera, a corner at rest."""
    truth, rng = dict(np.load(folder / "truth.npz")), np.random.default_rng(seed)
    shown = [(int(e), int(f)) for e, f in re.findall(r'"episode": (\d+), "frame": (\d+)', page.read_text())]
    index = {(e, f): i for i, (e, f) in enumerate(zip(truth["episode"], truth["frame"], strict=True))}
    rows = np.array([index[item] for item in shown])
    places = truth["tip"][rows][:, None] if camera == "front" else truth["corners"][rows]
    seen = np.stack([project(truth, rows, camera, places[:, k]) for k in range(places.shape[1])], axis=1)
    visible = ((seen[..., :2] > 3) & (seen[..., :2] < (WIDTH - 3, HEIGHT - 3))).all(-1) & (seen[..., 2] > 0)
    if camera == "hand":
        visible[:, :4] &= truth["rests"][rows, None] & (truth["command"][rows, None] == 1)
        visible &= unhidden(truth, rows, places)
    with marks.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("episode", "frame", "u", "v"))
        for episode in np.unique(truth["episode"][rows]):
            mine = truth["episode"][rows] == episode
            corner = int(visible[mine].sum(axis=0).argmax())  # one point in each episode
            for i in np.flatnonzero(mine & visible[:, corner]):
                u, v = np.round(seen[i, corner, :2] + rng.normal(0, CLICK_SIGMA, 2)).astype(int)
                writer.writerow((*shown[i], u, v))


def unhidden(truth: dict, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N, K): nothing of the arm stands between the hand's camera and the point."""
    arm = Arm()
    free = np.ones(places.shape[:2], bool)
    for i, row in enumerate(rows):
        arm.data.qpos[:] = truth["qpos"][row]
        mujoco.mj_kinematics(arm.model, arm.data)
        mujoco.mj_camlight(arm.model, arm.data)
        eye = arm.data.camera("hand").xpos.copy()
        for k, point in enumerate(places[i]):
            way, hit = point - eye, np.zeros(1, np.int32)
            length = mujoco.mj_ray(arm.model, arm.data, eye, way / np.linalg.norm(way), None, 1, -1, hit)
            arms = hit[0] >= 0 and arm.model.body(arm.model.geom_bodyid[hit[0]]).mocapid[0] < 0
            table = hit[0] >= 0 and arm.model.geom(hit[0]).name == "table"
            free[i, k] = not (arms and not table and length < np.linalg.norm(way) - 0.005)
    return free


def check(folder: Path, labelled: Path) -> None:
    """Pixels between the labelled anchors and the true ones: median, 95 %, largest, of the frames in view."""
    import pyarrow.parquet as pq

    truth = dict(np.load(folder / "truth.npz"))
    tables = [pq.read_table(path) for path in sorted((labelled / "data").rglob("*.parquet"))]
    anchors = np.concatenate([np.array(table["observation.anchors"].to_pylist()) for table in tables])
    events = np.zeros(len(anchors), int) - 1
    for episode in np.unique(truth["episode"]):
        rows = np.flatnonzero(truth["episode"] == episode)
        changes = rows[1:][np.diff(truth["command"][rows]) != 0]
        for row in rows:
            later = changes[changes >= row]
            events[row] = later[0] if len(later) else -1
    for c, camera in enumerate(CAMERAS):
        for a, (name, rows) in enumerate((("task", np.flatnonzero(events >= 0)), ("end", np.arange(len(events))))):
            points = truth["tip"][events[rows]] if name == "task" else truth["tip"][rows]
            true = project(truth, rows, camera, points)
            inside = ((true[:, :2] > 0) & (true[:, :2] < (WIDTH, HEIGHT))).all(1) & (true[:, 2] > 0)
            error = np.linalg.norm(anchors[rows, c, a, :2] * (WIDTH, HEIGHT) - true[:, :2], axis=1)[inside]
            depth = 1000 * np.abs(anchors[rows, c, a, 2] - true[:, 2])[inside]
            said = "never in view"
            if len(error):
                middle, most, worst = np.quantile(error, (0.5, 0.95, 1.0))
                said = f"median {middle:.1f}, 95 % {most:.1f}, largest {worst:.1f} px; depth {np.median(depth):.0f} mm"
            print(f"{camera:6}{name:5}{len(error):5} frames ({inside.mean():.0%} in view): {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("record", "click", "check"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--camera", choices=CAMERAS, default="front")
    parser.add_argument("--page", type=Path, default=Path("marks.html"))
    parser.add_argument("--marks", type=Path, default=Path("marks.csv"))
    parser.add_argument("--labelled", type=Path)
    args = parser.parse_args()
    if args.step == "record":
        record(args.output, args.episodes, args.seed)
    elif args.step == "click":
        click(args.output, args.camera, args.page, args.marks, args.seed)
    elif args.labelled is None:
        parser.error("check needs --labelled=FOLDER, the output of posa-vla label")
    else:
        check(args.output, args.labelled)


if __name__ == "__main__":
    main()
