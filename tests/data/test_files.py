"""Files that are whole, whoever else writes them and whatever goes wrong; folders that one process works in."""

import fcntl
import os

import pytest

from posa_vla.data import files
from posa_vla.errors import PosaError


def test_a_second_writer_in_the_middle_of_the_first_spoils_neither(tmp_path, monkeypatch):
    path, fsync, others = tmp_path / "a.json", os.fsync, [b"second"]

    def interrupted(descriptor):
        if others:
            files.write_bytes(path, others.pop())
            assert path.read_bytes() == b"second"
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", interrupted)
    files.write_bytes(path, b"the first one")
    assert path.read_bytes() == b"the first one"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_bytes(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_belongs_to_one_at_a_time(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(PosaError, match="another process is writing it"), files.alone_in(tmp_path, "writing it"):
        pass
    os.close(descriptor)
    with files.alone_in(tmp_path, "writing it"):
        pass
