"""Image features as datasets in the wild have them: names with dots, a lone camera, depth maps, channels first."""

import numpy as np
import pytest
from toy_dataset import make_dataset

from posa_vla import contract
from posa_vla.data.cache import FrameCache, build_cache
from posa_vla.data.features import colour_cameras, feature_names, image_sides
from posa_vla.data.source import Source
from posa_vla.inspection.frames import FrameReader

VIDEO = {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}


@pytest.mark.parametrize("camera", ["head", "rgb.head"])
def test_a_cameras_name_is_the_whole_rest_of_its_key(camera):
    assert contract.camera_name(contract.image_key(camera)) == camera


def test_a_lone_camera_has_one_name_in_every_room(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(contract, "image_key", lambda _: contract.LONE_IMAGE)
        root = make_dataset(tmp_path / "lone", episodes=1, cameras=("image",), labelled=False)
    name = contract.camera_name(contract.LONE_IMAGE)
    assert [camera.name for camera in Source(root).cameras] == [name]
    assert FrameReader(root).read(name, np.arange(2)).shape == (2, 32, 32, 3)
    assert FrameCache.open(build_cache(root, progress=False)).image_keys == {name: contract.LONE_IMAGE}


@pytest.mark.parametrize(
    "flag",
    [
        {"info": {"is_depth_map": True}},
        {"info": {"video.is_depth_map": True}},
        {"video_info": {"video.is_depth_map": True}},
    ],
)
def test_depth_maps_are_no_colour_cameras_whichever_version_marked_them(flag):
    features = {
        "observation.images.head": VIDEO,
        "observation.images.depth": {**VIDEO, **flag},
        "observation.state": {"dtype": "float32", "shape": [8]},
    }
    assert list(colour_cameras(features)) == ["head"]


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ([48, 64, 3], ["height", "width", "channels"]),
        ([48, 64, 3], ["height", "width", "channel"]),
        ([3, 48, 64], ["channels", "height", "width"]),
        ([48, 64, 3], None),
        ([3, 48, 64], None),
        ([48, 64, 3], ["rows", "columns", "rgb"]),
        ([3, 48, 64], {"channels": 0, "height": 1, "width": 2}),
    ],
)
def test_height_and_width_whichever_way_the_channels_stand(shape, names):
    assert image_sides({"shape": shape, "names": names}) == (48, 64)


def test_names_decide_where_the_numbers_do_not():
    assert image_sides({"shape": [3, 64, 3], "names": ["channels", "height", "width"]}) == (64, 3)


@pytest.mark.parametrize("names", [["x", "y"], {"motors": ["x", "y"]}, {"arm": ["x"], "hand": ["y"]}, {"y": 1, "x": 0}])
def test_names_of_numbers_whichever_version_wrote_them(names):
    assert feature_names({"names": names}) == ["x", "y"] and feature_names({"names": None}) == []
