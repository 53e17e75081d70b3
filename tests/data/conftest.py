"""One small dataset of each kind for the whole room's tests."""

from pathlib import Path

import pytest
from label_toy import make_source, rig
from toy_dataset import make_dataset

from posa_vla.data.labelling import label_dataset


@pytest.fixture(scope="session")
def video_dataset(tmp_path_factory):
    """Labelled, videos of 32 px, 4 episodes of 12 to 15 frames."""
    return make_dataset(tmp_path_factory.mktemp("toy") / "video")


@pytest.fixture(scope="session")
def image_dataset(tmp_path_factory):
    """Unlabelled, images of 24 px (head) and 16 px (wrist), 3 episodes of 5 to 7 frames."""
    root = tmp_path_factory.mktemp("toy") / "image"
    sizes = {"head": 24, "wrist": 16}
    return make_dataset(root, episodes=3, length=5, image_size=sizes, labelled=False, use_videos=False)


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """Unlabelled, videos of 32 px, 3 episodes that each close once."""
    return make_source(tmp_path_factory.mktemp("label") / "source")


@pytest.fixture(scope="session")
def labelled(source, tmp_path_factory) -> Path:
    """`source`, labelled into a folder that did not exist."""
    output = tmp_path_factory.mktemp("label") / "deep" / "labelled"
    label_dataset(source, rig(), output)
    return output
