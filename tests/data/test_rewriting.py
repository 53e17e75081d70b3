"""Writing a labelled copy: continued after a kill, in several threads, by one process at a time."""

import hashlib
import os
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_dataset import make_dataset

from posa_vla.data import rewriting
from posa_vla.data.rewriting import NewColumn, built_beside, write_with_columns
from posa_vla.data.tables import flat_column, table_paths
from posa_vla.errors import PosaError

FRAMES = 54  # of the toy's four episodes


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A dataset of four tables."""
    root = make_dataset(tmp_path_factory.mktemp("rewriting") / "source", labelled=False)
    (path,) = table_paths(root)
    table = pq.read_table(path)
    for number in range(4):
        part = table.filter(np.array(table["episode_index"]) == number)
        pq.write_table(part, path.with_name(f"file-{number:03d}.parquet"))
    return root


def columns(offset: float = 0.0) -> dict[str, NewColumn]:
    return {"extra": NewColumn(np.arange(FRAMES, dtype=np.float32)[:, None] + offset)}


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stop_after(monkeypatch, tables: int, error: BaseException) -> list[Path]:
    """Lets ``tables`` tables be written and raises at the next; returns the list of those begun."""
    begun: list[Path] = []
    write = rewriting._write_table

    def watched(source, target, *rest):
        if not target.exists():
            begun.append(target)
            if len(begun) > tables:
                raise error
        write(source, target, *rest)

    monkeypatch.setattr(rewriting, "_write_table", watched)
    return begun


def test_threads_write_what_one_writes(source, tmp_path):
    for workers in (1, 4):
        write_with_columns(source, tmp_path / str(workers), columns(), {"meta/note.json": {}}, num_workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "4")
    rows = [pq.read_table(path)["extra"].to_pylist() for path in table_paths(tmp_path / "4")]
    assert list(chain(*rows)) == list(range(FRAMES)) and len(rows) == 4


def test_an_interrupted_run_is_continued_and_ends_the_same(source, tmp_path, monkeypatch):
    write_with_columns(source, tmp_path / "whole", columns(), {})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 2, KeyboardInterrupt())
        write_with_columns(source, tmp_path / "out", columns(), {}, num_workers=1)
    assert sorted(os.listdir(tmp_path)) == [".out.partial", "whole"]
    begun = stop_after(monkeypatch, 99, KeyboardInterrupt())
    write_with_columns(source, tmp_path / "out", columns(), {}, num_workers=1)
    assert len(begun) == 2  # the other two were there
    assert sorted(os.listdir(tmp_path)) == ["out", "whole"]
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_what_was_left_of_other_labels_is_thrown_away(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 2, KeyboardInterrupt())
        write_with_columns(source, tmp_path / "out", columns(offset=0.5), {}, num_workers=1)
    write_with_columns(source, tmp_path / "out", columns(), {})
    values = [pq.read_table(path)["extra"].to_pylist() for path in table_paths(tmp_path / "out")]
    assert list(chain(*values)) == list(range(FRAMES))


def test_an_error_leaves_nothing(source, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1, OSError(28, "No space left on device"))
    with pytest.raises(PosaError, match="No space left on device; nothing was left there"):
        write_with_columns(source, tmp_path / "out", columns(), {})
    assert os.listdir(tmp_path) == []


def test_a_killed_process_leaves_no_lock_and_a_running_one_does(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from posa_vla.data.rewriting import built_beside\n"
        "with built_beside(Path(sys.argv[1]), 'same') as folder:\n"
        "    (folder / 'kept').write_text('done'); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with pytest.raises(PosaError, match="another process is writing"), built_beside(tmp_path / "out", "same"):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(tmp_path) == [".out.partial"]
    with built_beside(tmp_path / "out", "same") as folder:
        assert (folder / "kept").read_text() == "done"
    assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["kept"]


def test_a_damaged_table_is_named(source, tmp_path):
    import shutil

    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    path = table_paths(copy)[2]
    content = bytearray(path.read_bytes())
    content[100:2000] = b"\0" * 1900  # the pages; the footer with the schema stays
    path.write_bytes(content)
    with pytest.raises(PosaError, match=r"cannot read .*file-002\.parquet"):
        write_with_columns(copy, tmp_path / "out", columns(), {})
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)])
def test_columns_are_read_whatever_list_they_are_stored_as(kind):
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    column = pa.chunked_array([pa.array(rows[:2], kind), pa.array(rows[2:], kind)])
    np.testing.assert_array_equal(flat_column(column, "state"), np.array(rows, np.float32))


@pytest.mark.parametrize("rows", [[[1.0, 2.0, 3.0], [4.0]], [[[1.0], [2.0, 3.0]], [[4.0, 5.0, 6.0], []]]])
def test_rows_of_different_lengths_are_refused_also_where_their_numbers_divide_evenly(rows):
    with pytest.raises(PosaError, match="'state' has rows of different lengths"):
        flat_column(pa.chunked_array([pa.array(rows)]), "state")
