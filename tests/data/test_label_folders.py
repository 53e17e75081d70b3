"""posa-vla label on datasets as they lie on disks: linked, downloaded, in several tables, half recorded."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from label_toy import column, digests, rig

from posa_vla import contract
from posa_vla.data.files import dataset_files
from posa_vla.data.labelling import DatasetArgs, label_dataset
from posa_vla.data.source import dataset_fingerprint
from posa_vla.errors import PosaError

TABLE = "data/chunk-000/file-000.parquet"


@pytest.fixture
def copy(source, tmp_path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(source, tmp_path / "copy"))


def replace_pose(root: Path, change: Callable[[list], list], kind: pa.DataType, path: str = TABLE) -> None:
    """Another content of `ee_pose`, without Hugging Face's note about its type."""
    table = pq.read_table(root / path)
    place = table.column_names.index(contract.EE_POSE)
    values = pa.array(change(table[contract.EE_POSE].to_pylist()), kind)
    pq.write_table(table.set_column(place, contract.EE_POSE, values).replace_schema_metadata(None), root / path)


def in_two_tables(root: Path) -> Path:
    """Moves the last episode to a second table and returns that one's path."""
    table, second = pq.read_table(root / TABLE), root / TABLE.replace("file-000", "file-001")
    is_last = pc.equal(table["episode_index"], 2)
    pq.write_table(table.filter(is_last), second)
    pq.write_table(table.filter(pc.invert(is_last)), root / TABLE)
    return second


@pytest.mark.parametrize("folder", ["videos", "data", "meta"])
def test_folders_that_are_linked_into_the_dataset_are_carried_over(source, copy, tmp_path, folder):
    (copy / folder).rename(tmp_path / "elsewhere")
    (copy / folder).symlink_to(tmp_path / "elsewhere")
    label_dataset(copy, rig(), tmp_path / "out")
    label_dataset(source, rig(), tmp_path / "expected")
    given, expected = (digests(tmp_path / name) for name in ("out", "expected"))
    assert given.keys() == expected.keys()
    differing = {name for name in given if given[name] != expected[name]}
    assert differing <= {contract.ANCHORS_FILE}  # it names its source


def test_a_change_in_a_linked_folder_changes_the_fingerprint(copy, tmp_path):
    (copy / "meta").rename(tmp_path / "elsewhere")
    (copy / "meta").symlink_to(tmp_path / "elsewhere")
    before = dataset_fingerprint(copy)
    (tmp_path / "elsewhere/stats.json").write_text("{}")
    assert dataset_fingerprint(copy) != before


def test_links_that_lead_nowhere_or_round_in_circles_are_named(copy, tmp_path):
    (copy / "videos/lost.mp4").symlink_to(tmp_path / "nowhere.mp4")
    with pytest.raises(PosaError, match=r"lost\.mp4 is a link to a file that is not there: copy or download"):
        label_dataset(copy, rig(), tmp_path / "out")
    (copy / "videos/lost.mp4").unlink()
    (copy / "videos/all").symlink_to(copy)
    with pytest.raises(PosaError, match="all is a link to a folder that it lies in: remove it"):
        label_dataset(copy, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == ["copy"]


def test_one_folder_may_be_linked_twice(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_text("a")
    for name in ("front", "hand"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "videos")
    found = [path.relative_to(tmp_path / "root").as_posix() for path in dataset_files(tmp_path / "root")]
    assert found == ["front/a.mp4", "hand/a.mp4"]


def test_a_dataset_that_lerobot_downloaded_is_found_by_its_name(source, tmp_path, monkeypatch):
    monkeypatch.setattr("lerobot.utils.constants.HF_LEROBOT_HOME", tmp_path)
    monkeypatch.setattr("lerobot.utils.constants.HF_LEROBOT_HUB_CACHE", tmp_path / "hub")
    with pytest.raises(PosaError, match=r"no dataset me/toy at .*, nor among LeRobot's downloads in .*hub"):
        DatasetArgs(repo_id="me/toy").folder()
    store, commit = tmp_path / "hub/datasets--me--toy", "0" * 40
    (store / "refs").mkdir(parents=True)
    (store / "refs/v3.0").write_text(commit)
    for name in digests(source):
        link = store / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source / name)
    root = DatasetArgs(repo_id="me/toy").folder()
    label_dataset(root, rig(), tmp_path / "out")
    assert digests(tmp_path / "out").keys() == digests(source).keys() | {contract.ANCHORS_FILE}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_a_table_without_rows_beside_others_does_not_matter(source, copy, tmp_path):
    second = copy / TABLE.replace("file-000", "file-001")
    pq.write_table(pq.read_table(copy / TABLE).slice(0, 0), second)
    label_dataset(copy, rig(), tmp_path / "out")
    label_dataset(source, rig(), tmp_path / "expected")
    assert (column(tmp_path / "out", contract.ANCHORS) == column(tmp_path / "expected", contract.ANCHORS)).all()
    pq.write_table(pq.read_table(copy / TABLE).slice(0, 0), copy / TABLE)
    with pytest.raises(PosaError, match="hold no frame"):
        label_dataset(copy, rig(), tmp_path / "none")


def test_columns_that_are_not_what_they_are_said_to_be(copy, tmp_path):
    numbers, texts = pa.list_(pa.float32()), pa.list_(pa.string())
    second = in_two_tables(copy).relative_to(copy).as_posix()
    replace_pose(copy, lambda rows: [[*row, 0] for row in rows], numbers, second)
    with pytest.raises(PosaError, match="tables hold 7 and 8 numbers of ee_pose"):
        label_dataset(copy, rig(), tmp_path / "out")
    replace_pose(copy, lambda rows: [[*row, 0] for row in rows], numbers)
    with pytest.raises(PosaError, match="promises 7 numbers of ee_pose in each frame, the tables hold 8"):
        label_dataset(copy, rig(), tmp_path / "out")
    replace_pose(copy, lambda rows: [[str(number) for number in row] for row in rows], texts)
    with pytest.raises(PosaError, match=r"'ee_pose' holds list<.*string>: expected numbers"):
        label_dataset(copy, rig(), tmp_path / "out")
    table = pq.read_table(copy / TABLE)
    names = ["tcp" if name == "ee_pose" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), copy / TABLE)
    with pytest.raises(PosaError, match=r"lacks the columns \['ee_pose'\] that meta/info.json promises \(it has .*tcp"):
        label_dataset(copy, rig(), tmp_path / "out")
    (copy / TABLE).write_bytes(b"PAR1")  # what a recording that was not finalised leaves
    with pytest.raises(PosaError, match=r"cannot read .*copy or record it again \(recording ends with .*finalize"):
        label_dataset(copy, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.pop("features"), "no usable features: copy the dataset again"),
        (lambda info: info.pop("total_frames"), "no usable total_frames"),
        (lambda info: info.update(fps=0), "no usable fps"),
        (lambda info: info["features"]["action"].pop("shape"), r"no usable features\.action \(dtype and shape\)"),
        (
            lambda info: info["features"]["observation.images.head"].update(shape=[32, 32]),
            r"expected images of shape \(height, width, channels\), found \[32, 32\]",
        ),
    ],
)
def test_an_incomplete_info_is_named(copy, tmp_path, change, message):
    path = copy / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))
    with pytest.raises(PosaError, match=message):
        label_dataset(copy, rig(), tmp_path / "out")
    path.write_text("[]")
    with pytest.raises(PosaError, match="expected a JSON object"):
        label_dataset(copy, rig(), tmp_path / "out")
    assert os.listdir(tmp_path) == ["copy"]
