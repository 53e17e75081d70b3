"""The episodes file: complete lines, and nothing repaired but a torn last line."""

import pytest

from posa_vla.errors import PosaError
from posa_vla.evaluation.records import ERROR, EpisodeRecord, Motion, append_record, read_records, write_atomically

RECORD = EpisodeRecord("basic", 7, "success", "pick up the red can", motion=Motion(40, 0.8, -9.1), target_rise=0.1)


def test_round_trip_and_the_later_line_wins(tmp_path):
    path = tmp_path / "episodes.jsonl"
    assert read_records(path) == {}
    append_record(path, EpisodeRecord("basic", 7, ERROR, message="out of memory"))
    append_record(path, EpisodeRecord("lights", 7, "failure", anchors={"true": [None, 0.5]}))
    append_record(path, RECORD)
    records = read_records(path)
    assert records["basic", 7] == RECORD
    assert records["lights", 7].anchors == {"true": [None, 0.5]}


@pytest.mark.parametrize("keep", [1, 30, 200])
def test_a_torn_last_line_is_cut_off_and_writing_goes_on(tmp_path, keep):
    path = tmp_path / "episodes.jsonl"
    append_record(path, RECORD)
    whole = path.read_text()
    path.write_text(whole + whole[:keep])
    assert read_records(path) == {RECORD.key: RECORD}
    assert path.read_text() == whole
    append_record(path, EpisodeRecord("basic", 8, "failure"))
    assert len(read_records(path)) == 2


@pytest.mark.parametrize("line", ["{", "[1]", '{"condition": "basic"}'])
def test_any_other_damage_is_reported_with_its_line(tmp_path, line):
    path = tmp_path / "episodes.jsonl"
    append_record(path, RECORD)
    before = path.read_text() + line + "\n"
    path.write_text(before)
    with pytest.raises(PosaError, match=r"line 2 .*choose another --output"):
        read_records(path)
    assert path.read_text() == before


def test_not_a_number_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_record(tmp_path / "e.jsonl", EpisodeRecord("basic", 1, "failure", target_rise=float("nan")))


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PosaError, match="No space left"):
        write_atomically(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
