"""The frame cache holds what LeRobot decodes, goes on where it stopped, and says so when it is damaged."""

import errno
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from toy_dataset import TASKS, frame_grey, make_dataset

from posa_vla import cli, contract
from posa_vla.data import cache_build
from posa_vla.data.cache import FrameCache, build_cache
from posa_vla.data.decode import decode_segment
from posa_vla.errors import PosaError


@pytest.fixture(scope="module")
def cache_root(video_dataset, tmp_path_factory):
    return build_cache(video_dataset, tmp_path_factory.mktemp("cache") / "video", progress=False)


@pytest.fixture
def damaged_root(cache_root, tmp_path):
    return Path(shutil.copytree(cache_root, tmp_path / "cache"))


def copy_dataset(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to))


def rewrite_column(root: Path, key: str, change: Callable[[list], list]) -> None:
    """Replaces a column of the dataset's only table."""
    path = next((root / "data").rglob("*.parquet"))
    table = pq.read_table(path)
    position = table.schema.get_field_index(key)
    values = pa.array(change(table[key].to_pylist()), table.schema.field(key).type)
    pq.write_table(table.set_column(position, table.schema.field(key), values), path)


@pytest.mark.parametrize("kind", ["video_dataset", "image_dataset"])
def test_every_frame_and_column_equals_lerobots(kind, request, tmp_path):
    root = request.getfixturevalue(kind)
    cache = FrameCache.open(build_cache(root, tmp_path / "cache", progress=False), verify=True)
    dataset = LeRobotDataset("local/toy", root=root, return_uint8=True)
    assert cache.num_frames == len(dataset) and cache.num_episodes == dataset.num_episodes
    assert [cache.image_keys[name] for name in cache.images] == dataset.meta.camera_keys
    for row in range(len(dataset)):
        item = dataset[row]
        for name, key in cache.image_keys.items():
            image = item[key] if item[key].dtype == torch.uint8 else (item[key] * 255).round().byte()
            assert np.array_equal(cache.images[name][row], image.permute(1, 2, 0))
        for key, column in cache.columns.items():
            assert torch.equal(torch.from_numpy(np.asarray(column[row])).reshape(item[key].shape), item[key])
        assert cache.tasks[cache.columns[contract.TASK_INDEX][row]] == item["task"]
    assert (contract.ANCHORS in cache.columns) == (kind == "video_dataset")


def test_frames_are_the_recorded_ones(cache_root):
    """Against what was drawn, not against another reader of the same file."""
    cache = FrameCache.open(cache_root)
    for number, name in enumerate(contract.CAMERAS):
        corners = cache.images[name][:, 0, 0].astype(int)
        expected = np.array([frame_grey(row, number) for row in range(cache.num_frames)])
        assert np.abs(corners - expected[:, None]).max() <= 3


def test_metadata_is_kept(cache_root, video_dataset):
    cache = FrameCache.open(cache_root, dataset_root=video_dataset)
    meta = LeRobotDataset("local/toy", root=video_dataset).meta
    assert cache.tasks == list(TASKS) and cache.task_ids.tolist() == list(TASKS.values())
    assert cache.fps == meta.fps and cache.features == meta.features
    assert cache.features[contract.ANCHORS]["names"] == meta.features[contract.ANCHORS]["names"]
    for key, entry in meta.stats.items():
        for name, value in entry.items():
            assert np.allclose(cache.stats[key][name], value)
    assert cache.episode_bounds.tolist() == [[0, 12], [12, 25], [25, 39], [39, 54]]


def test_several_video_files_and_image_sizes(tmp_path):
    """An episode per file, in LeRobot's default codec, decoded side by side, land in their own rows."""
    root = make_dataset(
        tmp_path / "toy",
        episodes=3,
        length=5,
        image_size={"head": 64, "wrist": 80},
        video_files_size_in_mb=0.0001,
        vcodec="libsvtav1",
    )
    assert len(list((root / "videos").rglob("*.mp4"))) == 6
    cache = FrameCache.open(build_cache(root, workers=2, progress=False), verify=True)
    assert cache.root == root.with_name("toy.cache")
    assert {name: images.shape for name, images in cache.images.items()} == {
        "head": (18, 64, 64, 3),
        "wrist": (18, 80, 80, 3),
    }
    greys = np.array([frame_grey(row, 1) for row in range(18)])
    assert np.abs(cache.images["wrist"][:, 0, 0, 0].astype(int) - greys).max() <= 3


def test_up_to_date_cache_is_left_alone_and_a_changed_dataset_rebuilt(video_dataset, tmp_path):
    root, target = copy_dataset(video_dataset, tmp_path / "toy"), tmp_path / "cache"
    build_cache(root, target, progress=False)
    before = (target / "manifest.json").stat().st_mtime_ns
    build_cache(root, target, progress=False)
    assert (target / "manifest.json").stat().st_mtime_ns == before
    os.utime(root / "meta" / "info.json")  # a new date is no change
    FrameCache.open(target, dataset_root=root)

    rewrite_column(root, contract.STEPS_TO_INTERACTION, lambda values: [value + 1 for value in values])
    with pytest.raises(PosaError, match="has changed since"):
        FrameCache.open(target, dataset_root=root)
    old = FrameCache.open(target)
    build_cache(root, target, progress=False)
    new = FrameCache.open(target, dataset_root=root, verify=True)
    steps = contract.STEPS_TO_INTERACTION
    assert np.array_equal(new.columns[steps], old.columns[steps] + 1)
    assert np.array_equal(new.images["head"], old.images["head"])  # mapped files outlive the rebuild


def test_resumes_where_it_stopped(video_dataset, tmp_path, monkeypatch):
    """The camera that was finished is not decoded again, and a frame spoilt meanwhile is noticed."""
    decoded: list[str] = []

    def failing(segment, key, fps):
        decoded.append(segment.camera)
        if segment.camera == "wrist" and len(decoded) == 2:
            raise KeyboardInterrupt
        return decode_segment(segment, key, fps)

    monkeypatch.setattr(cache_build, "decode_segment", failing)
    with pytest.raises(KeyboardInterrupt):
        build_cache(video_dataset, tmp_path / "cache", workers=1, progress=False)
    assert not (tmp_path / "cache").exists()
    build_cache(video_dataset, tmp_path / "cache", workers=1, progress=False)
    assert decoded == ["head", "wrist", "wrist"]
    FrameCache.open(tmp_path / "cache", verify=True)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_spoilt_partial_camera_is_decoded_again(video_dataset, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_build._Build, "_write_column", stop)
        with pytest.raises(KeyboardInterrupt):
            build_cache(video_dataset, tmp_path / "cache", progress=False)
    with (tmp_path / "cache.partial" / "head.u8").open("r+b") as file:
        file.write(bytes(100))
    FrameCache.open(build_cache(video_dataset, tmp_path / "cache", progress=False), verify=True)


def test_killed_at_any_moment_it_completes_on_the_next_run(video_dataset, tmp_path):
    """SIGKILL during the build: either no cache is visible yet, or a whole one."""
    target = tmp_path / "cache"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["posa_vla.data.cache_build"])
    partial = target.with_name("cache.partial")

    def progress() -> int:
        path = partial / cache_build.PROGRESS
        return path.stat().st_mtime_ns if path.exists() else 0

    interrupted = 0
    for delay in (0.0, 0.01, 0.03, 0.1):
        process = context.Process(target=build_cache, args=(video_dataset, target, 2, False, False))
        before = progress()
        process.start()
        while progress() == before and not target.exists() and process.is_alive():
            time.sleep(0.002)
        time.sleep(delay)  # counted from the moment when writing begins or goes on
        process.kill()
        process.join()
        if target.exists():
            FrameCache.open(target, verify=True)
            shutil.rmtree(target)
        interrupted += partial.exists()
    assert interrupted > 0
    cache = FrameCache.open(build_cache(video_dataset, target, progress=False), verify=True)
    assert cache.num_frames == 54


def test_a_second_builder_is_kept_out(video_dataset, tmp_path):
    with (
        cache_build._locked(tmp_path / "cache.partial"),
        pytest.raises(PosaError, match="another process is building"),
    ):
        build_cache(video_dataset, tmp_path / "cache", progress=False)


def test_full_disk_is_found_before_decoding(video_dataset, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(PosaError, match=r"1,000 bytes free where 1,\d+,\d+ are needed"):
        build_cache(video_dataset, tmp_path / "cache", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_disk_filling_up_meanwhile_gives_the_room_back(video_dataset, tmp_path, monkeypatch, capsys):
    """ENOSPC in the middle of decoding, as file systems that reserve nothing give it."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    arguments = [f"--dataset.root={video_dataset}", f"--output={tmp_path / 'cache'}"]
    assert cli.main(["cache", *arguments]) == 2
    assert "bytes free where" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_truncated_files_are_refused(damaged_root):
    with (damaged_root / "head.u8").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(PosaError, match=r"damaged, head.u8: expected 165,888 bytes, found 1000: build it again"):
        FrameCache.open(damaged_root)
    (damaged_root / "head.u8").unlink()
    with pytest.raises(PosaError, match="found no file"):
        FrameCache.open(damaged_root)


@pytest.mark.parametrize("name", ["wrist.u8", "action.npy"])
def test_flipped_bits_are_found_by_verify(damaged_root, name):
    with (damaged_root / name).open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    FrameCache.open(damaged_root)  # sizes are right
    with pytest.raises(PosaError, match=name):
        FrameCache.open(damaged_root, verify=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "cannot be read"), ('{"format": "posa-vla frame cache", "version": 99}', "version 99")],
)
def test_unreadable_manifests_are_refused(damaged_root, content, message):
    (damaged_root / "manifest.json").write_text(content)
    with pytest.raises(PosaError, match=message):
        FrameCache.open(damaged_root)


def test_no_cache_and_foreign_folders(video_dataset, tmp_path):
    with pytest.raises(PosaError, match="no frame cache at"):
        FrameCache.open(tmp_path / "nothing")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    with pytest.raises(PosaError, match="is no frame cache"):
        build_cache(video_dataset, tmp_path / "thesis", progress=False)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "precious"
    with pytest.raises(PosaError, match=r"found no meta/info\.json"):
        build_cache(tmp_path / "nowhere", tmp_path / "cache")


def replace_video(root: Path, frames: int) -> None:
    """Overwrites the head video by one of another length."""
    path = next((root / "videos" / "observation.images.head").rglob("*.mp4"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("frames", "message"),
    [(20, "ends after 20 frames where episode 1 needs 12 to 24"), (60, "more frames than the 54.*episode 3")],
)
def test_video_of_another_length_names_the_episode(video_dataset, tmp_path, frames, message):
    root = copy_dataset(video_dataset, tmp_path / "toy")
    replace_video(root, frames)
    with pytest.raises(PosaError, match=message):
        build_cache(root, tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache").exists()


def test_undecodable_video_names_the_file_and_episodes(video_dataset, tmp_path):
    root = copy_dataset(video_dataset, tmp_path / "toy")
    path = next((root / "videos" / "observation.images.head").rglob("*.mp4"))
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(PosaError, match=r"file-000.mp4 \(episodes 0 to 3\) cannot be decoded"):
        build_cache(root, tmp_path / "cache", progress=False)


def test_nan_is_refused_by_episode(video_dataset, tmp_path):
    root = copy_dataset(video_dataset, tmp_path / "toy")
    rewrite_column(root, contract.STATE, lambda values: [*values[:30], [np.nan] * 8, *values[31:]])
    with pytest.raises(PosaError, match=r"observation.state holds NaN or infinity in episode 2, frame 5"):
        build_cache(root, tmp_path / "cache", progress=False)


def test_command(video_dataset, tmp_path, capsys):
    target = tmp_path / "cache"
    arguments = ["cache", f"--dataset.root={video_dataset}", f"--output={target}", "--workers=1"]
    assert cli.main([*arguments, "--verify=true"]) == 0
    assert "54 frames of 4 episodes, cameras head, wrist" in capsys.readouterr().out
    manifest = json.loads((target / "manifest.json").read_text())
    with (target / "head.u8").open("r+b") as file:
        file.write(bytes(10))
    assert cli.main([*arguments, "--verify=true"]) == 2
    assert "--rebuild=true" in capsys.readouterr().err
    assert cli.main([*arguments, "--verify=true", "--rebuild=true"]) == 0
    assert json.loads((target / "manifest.json").read_text()) == manifest
    assert cli.main(["cache", f"--dataset.root={tmp_path}"]) == 2


@pytest.mark.parametrize("cell", [None, {"bytes": None, "path": "elsewhere.png"}])
def test_an_empty_image_cell_names_the_file_and_the_row(image_dataset, tmp_path, cell):
    root = copy_dataset(image_dataset, tmp_path / "dataset")
    rewrite_column(root, "observation.images.wrist", lambda cells: [*cells[:3], cell, *cells[4:]])
    with pytest.raises(PosaError, match=r"file-000\.parquet .*row 3 holds no readable image"):
        build_cache(root, tmp_path / "cache", progress=False)


@pytest.mark.parametrize(("key", "cell"), [(contract.ACTION, None), (contract.TASK_INDEX, None)])
def test_an_empty_cell_of_numbers_names_the_column(image_dataset, tmp_path, key, cell):
    root = copy_dataset(image_dataset, tmp_path / "dataset")
    rewrite_column(root, key, lambda cells: [*cells[:3], cell, *cells[4:]])
    with pytest.raises(PosaError, match=f"number.* of {key} in each of 18 frames, found .* 1 empty cells"):
        build_cache(root, tmp_path / "cache", progress=False)


def test_two_cameras_of_one_name_are_refused(tmp_path):
    root = make_dataset(tmp_path / "dataset", episodes=1, cameras=("head", "image"), labelled=False, use_videos=False)
    for path in (root / "meta/info.json", root / "meta/stats.json"):
        path.write_text(path.read_text().replace("observation.images.head", contract.LONE_IMAGE))
    with pytest.raises(PosaError, match="both called 'image'"):
        build_cache(root, tmp_path / "cache", progress=False)
