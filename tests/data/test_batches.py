"""Batches equal LeRobot's samples, depend on (seed, step, rank) alone, and miss no frame."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from toy_dataset import make_dataset

from posa_vla import contract
from posa_vla.data.batches import BatchSource
from posa_vla.data.cache import FrameCache, build_cache
from posa_vla.data.sampling import EpochSampler, split_episodes
from posa_vla.errors import PosaError


@pytest.fixture(scope="module")
def cache(video_dataset, tmp_path_factory):
    return FrameCache.open(build_cache(video_dataset, tmp_path_factory.mktemp("cache") / "c", progress=False))


def rows_of(source: BatchSource, steps: range) -> np.ndarray:
    return np.concatenate([source.batch(step)["index"].numpy() for step in steps])


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        a[key] == b[key] if isinstance(a[key], list) else torch.equal(a[key], b[key]) for key in a
    )


def test_batch_equals_lerobots_samples(cache, video_dataset):
    """Key by key, chunks and padding at the episodes' ends included."""
    T = 6
    dataset = LeRobotDataset(
        "local/toy",
        root=video_dataset,
        return_uint8=True,
        delta_timestamps={contract.ACTION: [t / 20 for t in range(T)]},
    )
    rows = np.array([0, 9, 11, 12, 24, 30, 53])
    batch = BatchSource(cache, len(rows), T).gather(rows)
    for i, row in enumerate(rows):
        item = dataset[int(row)]
        for key in (*batch.keys() - {"task_id", "task"},):
            assert torch.equal(batch[key][i].reshape(item[key].shape), item[key]), key
        assert batch["task"][i] == item["task"]
    assert batch["action_is_pad"][2].tolist() == [False] + [True] * (T - 1)
    assert batch["task_id"].tolist() == cache.task_ids[batch[contract.TASK_INDEX]].tolist()


def test_shapes_dtypes_and_memory(cache):
    batch = BatchSource(cache, 5, 3).batch(0)
    for camera in contract.CAMERAS:
        image = batch[contract.image_key(camera)]
        assert image.shape == (5, 3, 32, 32) and image.dtype == torch.uint8
        assert image.is_contiguous(memory_format=torch.channels_last)
    assert batch[contract.STATE].shape == (5, 8) and batch[contract.ACTION].shape == (5, 3, 7)
    assert batch[contract.ANCHORS].shape == (5, 2, 2, 4)
    assert batch[contract.STEPS_TO_INTERACTION].shape == (5, 1)
    assert batch["action_is_pad"].dtype == torch.bool and len(batch["task"]) == 5


def test_states_and_actions_of_any_number_type_come_as_float32(cache):
    columns = cache.columns | {
        contract.STATE: cache.columns[contract.STATE].astype(np.float64),
        contract.ACTION: (100 * cache.columns[contract.ACTION]).astype(np.int64),
    }
    batch = BatchSource(dataclasses.replace(cache, columns=columns), 5, 3).batch(0)
    same = BatchSource(cache, 5, 3).batch(0)
    assert batch[contract.ACTION].dtype == torch.float32
    assert torch.equal(batch[contract.STATE], same[contract.STATE])
    assert batch["index"].dtype == batch[contract.TASK_INDEX].dtype == torch.int64


@pytest.mark.parametrize("sampler", ["uniform", "task_balanced"])
def test_pure_function_of_seed_step_and_rank(cache, sampler):
    """Asked in any order, by any instance; another seed, step or rank gives another batch."""
    args = {"batch_size": 8, "chunk_size": 4, "sampler": sampler, "world_size": 2}
    source = BatchSource(cache, seed=1, **args)
    forwards = [source.batch(step) for step in range(20)]
    again = BatchSource(cache, seed=1, **args)
    assert all(equal(again.batch(step), forwards[step]) for step in reversed(range(20)))
    assert not equal(forwards[0], forwards[1])
    assert not equal(BatchSource(cache, seed=2, **args).batch(0), forwards[0])
    assert not equal(BatchSource(cache, seed=1, rank=1, **args).batch(0), forwards[0])


def test_an_epoch_shows_every_frame_once(cache):
    """54 frames in batches of 6 for 3 ranks: 3 steps, then a new order."""
    ranks = [BatchSource(cache, 6, 2, rank=rank, world_size=3) for rank in range(3)]
    assert ranks[0].steps_per_epoch == 3
    epochs = [np.concatenate([rows_of(r, range(s, s + 3)) for r in ranks]) for s in (0, 3)]
    assert all(sorted(rows) == list(range(54)) for rows in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_epochs_join_without_a_gap(cache):
    """Where the batch size does not divide the epoch, a batch spans two of them and nothing is lost."""
    rows = rows_of(BatchSource(cache, 7, 1), range(54))
    assert np.array_equal(np.bincount(rows, minlength=54), np.full(54, 7))


def test_task_balanced_groups_goals_and_covers_everything(cache):
    source = BatchSource(cache, 8, 1, sampler="task_balanced", group=4)
    goals = torch.stack([source.batch(step)["task_id"] for step in range(50)])
    groups = goals.view(50, 2, 4)
    assert (groups == groups[..., :1]).all()
    steps = int(source.steps_per_epoch * 8) // 8 + 1
    assert set(rows_of(source, range(steps))) == set(range(54))
    assert set(goals.flatten().tolist()) == {0, 1, 2}
    with pytest.raises(PosaError, match="multiple of 4, found 6"):
        BatchSource(cache, 6, 1, sampler="task_balanced", group=4)


def test_a_goal_with_fewer_frames_than_a_group(cache):
    sampler = EpochSampler(np.arange(5), np.array([0, 0, 0, 0, 1]), 4, seed=0, sampler="task_balanced")
    drawn = {tuple(sorted(sampler.batch_rows(step))) for step in range(2)}
    assert drawn == {(0, 1, 2, 3), (4, 4, 4, 4)}


def test_validation_episodes_are_never_trained_on(cache):
    train = BatchSource(cache, 6, 2, seed=3, val_fraction=0.25)
    val = BatchSource(cache, 6, 2, seed=4, split="val", val_fraction=0.25)
    seen = {
        name: set(cache.columns["episode_index"][rows_of(s, range(12))]) for name, s in (("train", train), ("val", val))
    }
    assert len(seen["train"]) == 3 and len(seen["val"]) == 1
    assert not seen["train"] & seen["val"]
    assert train.num_frames + val.num_frames == 54
    excluded = BatchSource(cache, 6, 2, exclude_episodes=[0, 2])
    assert set(cache.columns["episode_index"][rows_of(excluded, range(9))]) == {1, 3}


def test_split_depends_on_the_dataset_alone():
    train, val = split_episodes(600, 0.05)
    assert len(val) == 30 and len(np.intersect1d(train, val)) == 0 and len(train) + len(val) == 600
    again = split_episodes(600, 0.05)
    assert np.array_equal(train, again[0]) and np.array_equal(val, again[1])
    assert [len(part) for part in split_episodes(10, 0.0)] == [10, 0]
    assert [len(part) for part in split_episodes(10, 0.01)] == [9, 1]


def test_resident_frames_give_the_same_batches(cache):
    assert equal(BatchSource(cache, 8, 4, resident=True).batch(5), BatchSource(cache, 8, 4).batch(5))


def test_batches_do_not_alias_the_cache(cache):
    source = BatchSource(cache, 4, 2)
    first = source.batch(0)
    for value in first.values():
        if isinstance(value, torch.Tensor):
            value.zero_()
    assert source.batch(0)["observation.images.head"].any()
    assert equal(source.batch(0), BatchSource(cache, 4, 2).batch(0))


def test_cameras_of_different_sizes_and_no_labels(image_dataset, tmp_path):
    cache = FrameCache.open(build_cache(image_dataset, tmp_path / "c", progress=False))
    batch = BatchSource(cache, 4, 3).batch(0)
    assert batch["observation.images.head"].shape == (4, 3, 24, 24)
    assert batch["observation.images.wrist"].shape == (4, 3, 16, 16)
    assert contract.ANCHORS not in batch and contract.STEPS_TO_INTERACTION not in batch
    assert "observation.images.head" not in BatchSource(cache, 4, 3, cameras=["wrist"]).batch(0)


def test_goals_without_a_task_id_file_are_the_sentences(video_dataset, tmp_path):
    root = make_dataset(tmp_path / "toy", episodes=2, length=3, image_size=16)
    (root / contract.TASK_IDS_FILE).write_text(json.dumps({"pick up the red can": 7, "grab the red can": 7}))
    same = FrameCache.open(build_cache(root, tmp_path / "a", progress=False))
    (root / contract.TASK_IDS_FILE).unlink()
    own = FrameCache.open(build_cache(root, tmp_path / "b", progress=False))
    assert set(BatchSource(same, 7, 1).batch(0)["task_id"].tolist()) == {7}
    assert set(BatchSource(own, 7, 1).batch(0)["task_id"].tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "random"}, "unknown sampler 'random': choose one of task_balanced, uniform"),
        ({"split": "test"}, "choose one of all, train, val"),
        ({"cameras": ["left"]}, "unknown camera 'left': choose one of head, wrist"),
        ({"split": "val"}, "set val_fraction above 0"),
        ({"val_fraction": 1.5}, "val_fraction must lie in"),
        ({"exclude_episodes": [4]}, r"names \[4\], the dataset has episodes 0 to 3"),
        ({"exclude_episodes": range(4)}, "every episode is excluded"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
        ({"rank": 2, "world_size": 2}, "rank < world_size"),
    ],
)
def test_impossible_options_are_refused(cache, options, message):
    with pytest.raises(PosaError, match=message):
        BatchSource(cache, **{"batch_size": 4, "chunk_size": 2, **options})


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [False, True])
def test_gpu_batches_equal_cpu_batches(cache, resident):
    on_gpu = BatchSource(cache, 8, 4, device="cuda", resident=resident).batch(3)
    on_cpu = BatchSource(cache, 8, 4).batch(3)
    assert on_gpu["observation.images.head"].is_cuda
    assert equal({k: v if isinstance(v, list) else v.cpu() for k, v in on_gpu.items()}, on_cpu)


def test_frames_after_the_last_interaction_can_be_shown_less_often():
    steps = np.array([3, 2, 1, 0, -1, -1, -1, -1, -1, -1])
    for sampler in ("uniform", "task_balanced"):
        drawn = EpochSampler(
            np.arange(10), np.zeros(10, int), 2, seed=0, sampler=sampler, group=2, spare=steps < 0, spare_share=0.5
        )
        assert drawn.epoch_length in (7, 8)  # 4 before it and half of 6 after it, filled to whole groups
        epochs = [drawn._order(epoch) for epoch in range(8)]
        assert all(set(range(4)) <= set(order.tolist()) for order in epochs)
        assert set(np.concatenate(epochs).tolist()) == set(range(10))  # another share each time
