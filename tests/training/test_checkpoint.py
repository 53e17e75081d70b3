"""A checkpoint is complete, damaged with a sentence that names the file, or not there."""

import os
import resource
import signal

import pytest
import torch
from safetensors.torch import save_file

from posa_vla.errors import PosaError
from posa_vla.training.checkpoint import Checkpoints, verify


def fill(folder):
    (folder / "pretrained_model").mkdir()
    (folder / "training_state").mkdir()
    save_file({"w": torch.arange(100.0)}, folder / "pretrained_model" / "model.safetensors")
    (folder / "training_state" / "state.json").write_text('{"step": 1}')


@pytest.fixture
def store(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def test_saving_publishes_a_verified_folder_and_points_last_to_it(store):
    for step in (5, 10):
        assert store.save(step, fill) == store.root / f"{step:06d}"
    assert store.steps() == [5, 10]
    assert store.newest() == store.root / "000010"
    assert os.readlink(store.root / "last") == "000010"
    assert sorted(os.listdir(store.root)) == ["000005", "000010", "last"]


def test_keep_last_removes_the_oldest(store):
    for step in range(1, 6):
        store.save(step, fill, keep_last=2)
    assert store.steps() == [4, 5]


def test_seven_digit_steps_are_newer_than_six_digit_ones(store):
    store.save(999_999, fill)
    store.save(1_000_000, fill)
    assert store.newest().name == "1000000"


def test_a_failing_save_changes_nothing(store):
    store.save(5, fill)

    def fail(folder):
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(PosaError, match="the disk is full; the checkpoint of step 5 is intact"):
        store.save(10, fail)
    assert sorted(os.listdir(store.root)) == ["000005", "last"]
    assert store.newest().name == "000005"


def test_a_file_the_disk_refuses_is_one_sentence_and_leaves_the_old_checkpoint(store):
    """A real refusal by the kernel (a limit on file size), through safetensors' own writer."""
    store.save(5, fill)

    def fill_much(folder):
        (folder / "pretrained_model").mkdir()
        save_file({"w": torch.zeros(100_000)}, folder / "pretrained_model" / "model.safetensors")

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(PosaError, match=r"could not write the checkpoint .*000010 .*step 5 is intact"):
            store.save(10, fill_much)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    verify(store.newest())
    assert store.steps() == [5]


def test_leftovers_of_a_kill_are_not_checkpoints_and_are_swept(store):
    store.save(5, fill)
    leftover = store.root / ".partial-000010"
    leftover.mkdir()
    fill(leftover)
    (store.root / ".removed-000001").mkdir()
    assert store.newest().name == "000005"
    store.save(10, fill)
    assert sorted(os.listdir(store.root)) == ["000005", "000010", "last"]


DAMAGE = {
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "expected .* bytes, found"),
    "one bit": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"), "checksum"),
    "missing": (lambda path: path.unlink(), "lacks the file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_with_what_to_do(store, damage):
    store.save(5, fill)
    store.save(10, fill)
    path = store.root / "000010" / "pretrained_model" / "model.safetensors"
    spoil, message = DAMAGE[damage]
    spoil(path)
    with pytest.raises(PosaError, match=message) as caught:
        store.newest()
    assert str(path) in str(caught.value) and "to resume from step 5" in str(caught.value)


@pytest.mark.parametrize("spoil", [os.unlink, lambda path: path.write_text('{"a": ')])
def test_a_damaged_manifest_is_named(store, spoil):
    store.save(5, fill)
    path = store.root / "000005" / "training_state" / "manifest.json"
    spoil(path)
    with pytest.raises(PosaError, match=r"manifest\.json"):
        store.newest()
