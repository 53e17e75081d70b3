"""Sound datasets pass; each way to break one is found, and names its episode and its file."""

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_dataset import make_dataset

from posa_vla import contract
from posa_vla.cli import main as posa_vla
from posa_vla.errors import PosaError
from posa_vla.inspection.findings import Finding, as_table, ranges
from posa_vla.inspection.validate import validate

VIDEO = "videos/observation.images.head/chunk-000/file-000.mp4"
TABLE = "data/chunk-000/file-000.parquet"
EPISODES, TASKS, STATS, INFO = (
    f"meta/{name}" for name in ("episodes/chunk-000/file-000.parquet", "tasks.parquet", "stats.json", "info.json")
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """4 episodes of 12, 13, 14 and 15 frames in one video file per camera."""
    return make_dataset(tmp_path_factory.mktemp("validate") / "sound")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """3 episodes of 5, 6 and 7 frames, images in the table."""
    sizes = {"head": 24, "wrist": 16}
    root = tmp_path_factory.mktemp("validate") / "images"
    return make_dataset(root, episodes=3, length=5, image_size=sizes, labelled=False, use_videos=False)


@pytest.fixture
def copy(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def found(root: Path, decode: str = "ends") -> dict[str, tuple[str, tuple[int, ...]]]:
    """kind -> (file, episodes) of the findings."""
    return {finding.kind: (finding.file, finding.episodes) for finding in validate(root, decode).findings}


def rewrite(path: Path, edit) -> None:
    """Replaces a table by ``edit(table)``, one row group per episode as before."""
    pq.write_table(edit(pq.read_table(path)), path)


def set_cells(key: str, rows: list[int], value):
    """An edit that replaces scalars, or the first number of lists."""

    def edit(table: pa.Table) -> pa.Table:
        cells = table[key].to_pylist()
        for row in rows:
            cells[row] = [value, *cells[row][1:]] if isinstance(cells[row], list) else value
        position = table.column_names.index(key)
        return table.set_column(position, table.schema.field(key), pa.array(cells, table.schema.field(key).type))

    return edit


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("decode", ["ends", "full"])
def test_no_false_alarm(sound, images, decode):
    assert validate(sound, decode).findings == []
    assert validate(images, decode).findings == []


def test_no_false_alarm_on_unlabelled_data_in_many_files(tmp_path):
    root = make_dataset(
        tmp_path / "toy", episodes=2, length=4, labelled=False, cameras=("head",), video_files_size_in_mb=1e-6
    )
    assert len(list(root.rglob("*.mp4"))) == 2
    assert validate(root, "full").findings == []


def test_truncated_video(copy):
    path = copy / VIDEO
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 9 // 10)
    kinds = found(copy)
    file, episodes = kinds.get("truncated-video") or kinds["corrupt-video"]
    assert file == VIDEO
    assert 3 in episodes


def test_truncated_video_that_still_opens_names_only_the_lost_episodes(copy):
    path = copy / VIDEO
    remux(path, lambda position: True, options={"movflags": "+faststart"})
    with av.open(str(path)) as container:
        start = [p.pos for p in container.demux(video=0) if p.pos is not None][12 + 13 + 3]
    with path.open("r+b") as file:
        file.truncate(start)  # in the middle of episode 2
    assert found(copy)["truncated-video"] == (VIDEO, (2, 3))


def remux(path: Path, keep, options: dict[str, str] | None = None) -> None:
    """The same packets, without those that ``keep(position)`` refuses."""
    partial = path.with_name("remuxed.mp4")
    with av.open(str(path)) as old, av.open(str(partial), "w", options=options or {}) as new:
        source = old.streams.video[0]
        target = new.add_stream_from_template(source)
        for position, packet in enumerate(p for p in old.demux(source) if p.pts is not None):
            packet.stream = target
            if keep(position):
                new.mux(packet)
    partial.replace(path)


def test_frames_lost_in_the_middle(copy):
    remux(copy / VIDEO, lambda position: position not in (14, 15))
    assert found(copy)["missing-frames"] == (VIDEO, (1,))


def test_more_frames_than_the_episodes_have(copy):
    edit_json(copy / INFO, total_episodes=3, total_frames=12 + 13 + 14)
    rewrite(copy / EPISODES, lambda table: table.slice(0, 3))
    rewrite(copy / TABLE, lambda table: table.slice(0, 12 + 13 + 14))
    assert found(copy)["frame-count"] == (VIDEO.replace("head", "wrist"), (2,))


@pytest.mark.parametrize(("frame", "decode"), [(12, "ends"), (18, "full")])
def test_scrambled_frame(copy, frame, decode):
    with av.open(str(copy / VIDEO)) as container:
        packet = [p for p in container.demux(video=0) if p.pts is not None][frame]
    content = bytearray((copy / VIDEO).read_bytes())
    middle = range(packet.pos + packet.size // 8, packet.pos + packet.size)
    for position in middle:
        content[position] = 0xA5 ^ (position * 37 % 256)
    (copy / VIDEO).write_bytes(content)
    assert found(copy, decode)["corrupt-video"] == (VIDEO, (1,))


@pytest.mark.parametrize("name", [VIDEO, TABLE])
def test_missing_file(copy, name):
    (copy / name).unlink()
    assert found(copy)["missing-file"] == (name, (0, 1, 2, 3))


@pytest.mark.parametrize("name", [TASKS, EPISODES, INFO])
def test_damaged_metadata(copy, name):
    (copy / name).write_bytes(b"PAR1 no longer")
    assert name in {finding.file for finding in validate(copy).findings}


def test_truncated_table(copy):
    path = copy / TABLE
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert found(copy)["corrupt-table"] == (TABLE, (0, 1, 2, 3))


def test_broken_row_group_names_its_episode(copy):
    columns = pq.ParquetFile(copy / TABLE).metadata.row_group(2)
    assert columns.num_rows == 14
    column = next(c for c in map(columns.column, range(columns.num_columns)) if c.path_in_schema.startswith("action"))
    content = bytearray((copy / TABLE).read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    (copy / TABLE).write_bytes(content)
    assert found(copy)["corrupt-table"] == (TABLE, (2,))


def test_missing_row(copy):
    rewrite(copy / TABLE, lambda table: pa.concat_tables([table.slice(0, 20), table.slice(21)]))
    assert found(copy)["frame-count"] == (TABLE, (1,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", [contract.ACTION, contract.EE_POSE, contract.STEPS_TO_INTERACTION])
def test_not_finite(copy, key, value):
    rewrite(copy / TABLE, set_cells(key, [12 + 13 + 5], value))
    (finding,) = [finding for finding in validate(copy).findings if finding.kind == "not-finite"]
    assert finding.episodes == (2,)
    assert key in finding.message and "frame 5" in finding.message


def test_empty_cell(copy):
    rewrite(copy / TABLE, set_cells("task_index", [1], None))
    assert "bad-column" in found(copy)


def test_missing_column(copy):
    rewrite(copy / TABLE, lambda table: table.drop_columns([contract.STATE]))
    assert found(copy)["missing-column"] == (TABLE, (0, 1, 2, 3))


@pytest.mark.parametrize(("value", "text"), [(0.0, "does not increase"), (0.47, "frame_index / 20")])
def test_timestamps(copy, value, text):
    rewrite(copy / TABLE, set_cells("timestamp", [12 + 9], value))
    (finding,) = [finding for finding in validate(copy).findings if finding.kind == "timestamp"]
    assert finding.episodes == (1,)
    assert text in finding.message


@pytest.mark.parametrize("key", ["index", "episode_index", "frame_index"])
def test_counters(copy, key):
    rewrite(copy / TABLE, set_cells(key, [12 + 13 + 1], 99))
    assert found(copy)["index"] == ("data", (2,))


def test_task_without_a_sentence(copy):
    rewrite(copy / TABLE, set_cells("task_index", [0, 1], 17))
    assert found(copy)["task-without-sentence"] == ("data", (0,))


def test_sentence_of_another_episode(copy):
    rewrite(copy / TABLE, set_cells("task_index", list(range(12, 25)), 3))
    assert found(copy)["task-without-sentence"] == ("meta/episodes", (1,))


def test_goals_that_lack_a_sentence(copy):
    (copy / contract.TASK_IDS_FILE).write_text('{"pick up the red can": 0}')
    assert found(copy)["tasks"] == (contract.TASK_IDS_FILE, ())


def test_episode_of_another_length_than_its_frames(copy):
    rewrite(copy / EPISODES, set_cells("length", [1], 11))
    assert found(copy)["episodes"] == ("meta/episodes", (1,))
    assert 1 in found(copy)["frame-count"][1]


def test_missing_episode(copy):
    rewrite(copy / EPISODES, lambda table: pa.concat_tables([table.slice(0, 1), table.slice(2)]))
    assert found(copy)["missing-episode"] == ("meta/episodes", (1,))


def test_totals(copy):
    edit_json(copy / INFO, total_frames=55)
    assert found(copy)["frame-count"] == (INFO, ())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("length", -5, "length is not positive"),
        ("length", 10**12, "more than 10,000,000 frames"),
        ("length", "a", "length is string, expected numbers"),
    ],
)
def test_episodes_of_impossible_length(copy, key, value, words):
    def edit(table):
        cells = [value if row == 1 else cell for row, cell in enumerate(table[key].to_pylist())]
        cells = [str(cell) for cell in cells] if isinstance(value, str) else cells
        return table.set_column(table.column_names.index(key), key, pa.array(cells))

    rewrite(copy / EPISODES, edit)
    assert any(words in finding.message for finding in validate(copy).findings)


@pytest.mark.filterwarnings("error")
def test_an_episode_that_begins_at_no_time(copy):
    rewrite(copy / EPISODES, set_cells("videos/observation.images.head/from_timestamp", [1], float("nan")))
    assert found(copy)["frame-count"][1] == (1,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_path": "data/episode_{episode_index:06d}.parquet"}, "data_path is 'data/episode_"),
        ({"video_path": None}, "video_path is None, expected a pattern of {video_key}, {chunk_index}"),
        ({"features": {"action": {"dtype": "float32"}}}, "no usable features.action (dtype and shape)"),
    ],
)
def test_metadata_that_points_nowhere(copy, changes, words):
    edit_json(copy / INFO, **changes)
    (finding,) = validate(copy).findings
    assert (finding.kind, finding.file) == ("info", INFO)
    assert words in finding.message


def test_a_column_of_text_where_numbers_belong(copy):
    def edit(table):
        text = pa.array([str(value) for value in table["timestamp"].to_pylist()])
        return table.set_column(table.column_names.index("timestamp"), "timestamp", text)

    rewrite(copy / TABLE, edit)
    assert found(copy)["bad-column"] == (TABLE, (0, 1, 2, 3))


def test_a_video_whose_header_is_scrambled(copy):
    video = copy / VIDEO
    content = video.read_bytes()
    assert content.count(b"VideoHandler") == 1
    video.write_bytes(content.replace(b"VideoHandler", b"\xaa\xffdeoHandler"))
    assert found(copy)["corrupt-video"] == (VIDEO, (0, 1, 2, 3))


@pytest.mark.parametrize(
    "content", [[1], {contract.ACTION: {name: [] for name in ("min", "max", "mean", "std", "count")}}]
)
def test_statistics_that_are_none(copy, content):
    (copy / STATS).write_text(json.dumps(content))
    assert "stats" in found(copy)


def test_missing_statistics(copy):
    (copy / STATS).unlink()
    assert found(copy)["stats"] == (STATS, ())


@pytest.mark.parametrize("statistic", ["min", "max", "mean", "std", "count"])
def test_statistics_of_other_data(copy, statistic):
    stats = json.loads((copy / STATS).read_text())
    stats[contract.STATE][statistic][0] += 1
    (copy / STATS).write_text(json.dumps(stats))
    (finding,) = validate(copy).findings
    assert finding.kind == "stats"
    assert contract.STATE in finding.message


def test_stray_files(copy):
    shutil.copy(copy / TABLE, copy / "data/chunk-000/file-007.parquet")
    assert found(copy) == {"stray-file": ("data/chunk-000/file-007.parquet", ())}


@pytest.mark.parametrize(("row", "decode"), [(5, "ends"), (7, "full")])
def test_broken_image_in_the_table(images, tmp_path, row, decode):
    root = Path(shutil.copytree(images, tmp_path / "copy"))
    path = next((root / "data").rglob("*.parquet"))
    key = contract.image_key("wrist")

    def edit(table: pa.Table) -> pa.Table:
        cells = table[key].to_pylist()
        cells[row]["bytes"] = cells[row]["bytes"][:20]
        field = table.schema.field(key)
        return table.set_column(table.column_names.index(key), field, pa.array(cells, field.type))

    rewrite(path, edit)
    assert found(root, decode) == {"corrupt-image": (TABLE, (1,))}


@pytest.mark.parametrize("promised", [[32, 24, 3], [24, 24, 3]])
def test_pictures_turned_or_of_a_size_that_shares_a_side(images, tmp_path, promised):
    root = Path(shutil.copytree(images, tmp_path / "copy"))
    features = json.loads((root / INFO).read_text())["features"]
    features[contract.image_key("head")]["shape"] = promised
    features[contract.image_key("wrist")]["shape"] = [16, 16, 3]
    edit_json(root / INFO, features=features)
    path = next((root / "data").rglob("*.parquet"))
    key = contract.image_key("head")
    picture = cv2.imencode(".png", np.zeros((24, 32, 3), np.uint8))[1].tobytes()

    def edit(table: pa.Table) -> pa.Table:
        cells = [{**cell, "bytes": picture} for cell in table[key].to_pylist()]
        field = table.schema.field(key)
        return table.set_column(table.column_names.index(key), field, pa.array(cells, field.type))

    rewrite(path, edit)
    (finding,) = [one for one in validate(root).findings if one.kind == "corrupt-image"]
    assert f"is 32x24, promised is {promised[1]}x{promised[0]}" in finding.message


def test_a_video_of_a_size_that_shares_a_side(copy):
    features = json.loads((copy / INFO).read_text())["features"]
    features[contract.image_key("head")]["shape"] = [32, 64, 3]
    edit_json(copy / INFO, features=features)
    assert found(copy)["wrong-shape"] == (VIDEO, (0, 1, 2, 3))


def test_the_input_stays_as_it_is(sound):
    before = {path: path.stat().st_mtime_ns for path in sound.rglob("*")}
    validate(sound, "full")
    assert {path: path.stat().st_mtime_ns for path in sound.rglob("*")} == before


def test_exit_status_and_table(sound, copy, capsys):
    assert posa_vla(["validate", str(sound)]) == 0
    assert "no fault found" in capsys.readouterr().out
    rewrite(copy / TABLE, set_cells(contract.ACTION, [0], float("nan")))
    assert posa_vla(["validate", f"--dataset.root={copy}"]) == 1
    assert "not-finite" in capsys.readouterr().out


def test_json(copy, capsys):
    (copy / VIDEO).unlink()
    assert posa_vla(["validate", str(copy), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["corrupt_episodes"] == [0, 1, 2, 3]
    assert content["findings"][0]["kind"] == "missing-file"


def test_no_dataset(tmp_path, sound, capsys):
    with pytest.raises(PosaError, match="is no LeRobotDataset"):
        validate(tmp_path)
    with pytest.raises(PosaError, match="choose one of ends, full"):
        validate(sound, "all")
    assert posa_vla(["validate", str(sound), str(sound)]) == 2
    capsys.readouterr()
    assert posa_vla(["validate", "--json"]) == 2
    assert capsys.readouterr().err == "posa-vla validate: say which dataset: posa-vla validate DATASET\n"
    assert posa_vla(["validate", "--dataset.root", str(sound), "--decode", "full"]) == 0


def test_another_lerobot_version(copy):
    edit_json(copy / INFO, codebase_version="v2.1")
    with pytest.raises(PosaError, match=r"v3.*v2\.1"):
        validate(copy)


def test_text_of_findings():
    assert ranges((0, 1, 2, 5, 7, 8)) == "0-2, 5, 7-8"
    many = [Finding("kind", "file", "text", (np.int64(3),))] * 3
    assert as_table(many, limit=2).endswith("... and 1 more: --json=true lists all")
