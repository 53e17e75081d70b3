"""The shipped rigs in their own simulators; run with -m libero or -m metaworld where the extra is installed."""

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from posa_vla.anchors.marker import marker_errors
from posa_vla.contract import ANCHORS, TASK_ANCHOR
from posa_vla.data.labelling import label_dataset
from posa_vla.errors import PosaError
from posa_vla.rigs import load_rig, simulators
from posa_vla.rigs.benchmark import libero_scenes, metaworld_scenes
from posa_vla.rigs.simulators import LIBERO_ASSETS, MetaworldScene, prepare_libero


def check(scenes) -> set[str]:
    """The names of the rigs that were looked through."""
    names = set()
    for scene in scenes:
        names.add(scene.rig.name)
        try:
            errors = marker_errors(scene, scene.rig, states=5)
        finally:
            scene.close()
        for camera, pixels in errors.pixels.items():
            assert pixels.max() < 2, (scene.name, camera)
    return names


@pytest.mark.libero
def test_a_ball_is_drawn_where_the_libero_rig_projects_it():
    assert check(libero_scenes()) == {f"libero/{name}" for name in load_rig("libero").scene_names}


@pytest.mark.metaworld
def test_a_ball_is_drawn_where_the_metaworld_rigs_project_it():
    assert check(metaworld_scenes()) == {"metaworld", "metaworld_gripper"}


def test_a_simulator_that_is_not_installed_says_which_extra_it_needs(monkeypatch):
    monkeypatch.setattr(simulators.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PosaError, match=r"libero is not installed: pip install .*\[libero\]"):
        prepare_libero()


def test_libero_assets_that_are_none_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(simulators, "_require", lambda name: None)
    (tmp_path / "config.yaml").write_text("{}")
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    monkeypatch.setenv(LIBERO_ASSETS, str(tmp_path))
    with pytest.raises(PosaError, match="has no folder scenes: expected LIBERO's assets"):
        prepare_libero()


@pytest.mark.metaworld
def test_a_recorded_demonstration_gets_its_anchor_on_the_object(tmp_path):
    """LeRobot's keys, its wrapper's pictures and state, Meta-World's expert: record, label, look where the puck is."""
    scene = MetaworldScene(load_rig("metaworld"), "pick-place-v3", "image")
    vector = {"dtype": "float32", "shape": (4,), "names": None}
    image = {"dtype": "image", "shape": (480, 480, 3), "names": ["height", "width", "channels"]}
    features = {"observation.image": image, "observation.state": vector, "action": vector}
    dataset = LeRobotDataset.create("local/mw", fps=80, root=tmp_path / "mw", features=features, use_videos=False)
    pucks = []
    try:
        for seed in range(2):
            scene.reset(seed)
            pucks.append(scene.env._env.unwrapped._get_pos_objects()[:3].copy())
            for _ in range(60):
                raw = scene.env._env._get_obs()
                action = np.clip(scene.env.expert_policy.get_action(raw), -1, 1).astype(np.float32)
                frame = {"observation.image": scene.picture("image", None), "observation.state": raw[:4].astype("f4")}
                dataset.add_frame({**frame, "action": action, "task": scene.env.task_description})
                scene.env._env.step(action)
            dataset.save_episode()
    finally:
        scene.close()
    dataset.finalize()
    provenance = label_dataset(tmp_path / "mw", load_rig("metaworld"), tmp_path / "out")
    assert provenance["counts"]["closes"] == 2 and provenance["cameras"] == ["image"]
    labelled = LeRobotDataset("local/mw", root=tmp_path / "out")
    for episode, puck in enumerate(pucks):
        anchor = labelled[60 * episode][ANCHORS][0, TASK_ANCHOR, :2].numpy()
        expected = load_rig("metaworld").camera("image").project(puck)[:2]
        assert np.linalg.norm(anchor - expected) * 480 < 15  # the hand closes 2 cm above the puck's centre
