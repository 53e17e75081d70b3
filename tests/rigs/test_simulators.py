"""The shipped rigs in their own simulators; run with -m libero or -m metaworld where the extra is installed."""

import pytest

from posa_vla.anchors.marker import marker_errors
from posa_vla.errors import PosaError
from posa_vla.rigs import simulators
from posa_vla.rigs.benchmark import libero_scenes, metaworld_scenes
from posa_vla.rigs.simulators import LIBERO_ASSETS, prepare_libero


def check(scenes) -> None:
    for scene in scenes:
        try:
            errors = marker_errors(scene, scene.rig, states=5)
        finally:
            scene.close()
        for camera, pixels in errors.pixels.items():
            assert pixels.max() < 2, (scene.name, camera)


@pytest.mark.libero
def test_a_ball_is_drawn_where_the_libero_rig_projects_it():
    check(libero_scenes())


@pytest.mark.metaworld
def test_a_ball_is_drawn_where_the_metaworld_rigs_project_it():
    check(metaworld_scenes())


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
