"""Recording: aligned rows, clean labels under noise, one complete dataset or none."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset
from lerobot.datasets.video_utils import StreamingVideoEncoder
from recording_fake import FakeEnv, FakeExpert, make_fake

from posa_vla import contract
from posa_vla.anchors.interaction import InteractionConfig, find_interactions
from posa_vla.errors import PosaError
from posa_vla.sim import recording
from posa_vla.sim.env import TabletopEnv
from posa_vla.sim.expert import Expert
from posa_vla.sim.recording import RecordConfig, record
from posa_vla.sim.recording_episode import CORRELATION, ROTATION_SHARE, demonstrate, fumble, perturbation
from posa_vla.sim.recording_shards import RECORDING_FILE, column_stats
from posa_vla.sim.recording_video import VideoOptions, byte_stats, write_video
from posa_vla.sim.recording_workers import RETRY_STRIDE

COLUMNS = (contract.STATE, contract.ACTION, contract.EE_POSE, contract.TASK_INDEX, "episode_index", "timestamp")


def fake_config(output: Path, **options) -> RecordConfig:
    """Five small episodes in three shards, recorded in this process."""
    options = {"episodes": 5, "image_size": 64, "episode_length": 60, "workers": 0} | options
    return RecordConfig(output=output, **options)


def load(root: Path) -> LeRobotDataset:
    return LeRobotDataset("local/posa_tabletop", root=root)


def columns(root: Path) -> dict[str, np.ndarray]:
    table = load(root).hf_dataset.with_format("numpy")
    return {key: np.asarray(table[key]) for key in COLUMNS} | {"task": list(load(root).meta.tasks.index)}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recorded") / "dataset"
    record(fake_config(root), make_fake)
    return root


def test_perturbation_has_the_stated_size_and_correlation():
    episodes = [perturbation(np.random.default_rng(i), 150, 0.2) for i in range(400)]
    noise = np.concatenate(episodes)
    on = noise[:, 0] != 0
    assert 0.28 < on.mean() < 0.39
    assert np.all(noise[:, 6] == 0)
    np.testing.assert_allclose(noise[on, :3].std(), 0.2, rtol=0.05)
    np.testing.assert_allclose(noise[on, 3:6].std(), 0.2 * ROTATION_SHARE, rtol=0.05)
    both = [(e[:-1, :3], e[1:, :3], (e[:-1, 0] != 0) & (e[1:, 0] != 0)) for e in episodes]
    before, after = (np.concatenate([pair[k][pair[2]] for pair in both]) for k in (0, 1))
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1] - CORRELATION) < 0.03


def test_perturbation_repeats_for_a_seed_and_vanishes_at_zero():
    first, second = (perturbation(np.random.default_rng(3), 50, 0.2) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not perturbation(np.random.default_rng(3), 50, 0.0).any()


def test_recorded_action_is_the_experts_answer_to_the_recorded_state():
    env = FakeEnv(image_size=16, episode_length=60)
    shown = demonstrate(env, FakeExpert(env), seed=5, action_noise=0.3)
    assert shown.success
    answers = np.clip((env.goal - shown.state[:, :3]) / 0.05, -0.5, 0.5)
    np.testing.assert_allclose(shown.action[:, :3], answers, atol=1e-5)
    executed = np.stack(env.executed)
    noise = perturbation(np.random.default_rng([0x905A, 5]), 60, 0.3)[: len(executed)]
    assert noise.any()
    np.testing.assert_allclose(executed, np.clip(shown.action + noise, -1, 1), atol=1e-6)
    moved = np.diff(shown.state[:, :3], axis=0)
    np.testing.assert_allclose(moved, 0.05 * executed[:-1, :3], atol=1e-5)  # row t is before action t
    np.testing.assert_array_equal(shown.ee_pose[:, :3], shown.state[:, :3])


def test_a_fumble_closes_the_hand_but_not_in_the_recording():
    env = FakeEnv()
    shown = demonstrate(env, FakeExpert(env), seed=5, action_noise=0.0, fumbles=1.0)
    during = fumble(np.random.default_rng([0xF0B1, 5]), 1.0)
    executed = np.array(env.executed)
    closed = executed[:, 6] != shown.action[:, 6]
    assert closed.any() and (executed[closed, 6] == 1.0).all()
    assert set(np.flatnonzero(closed)) <= set(during)
    assert len(fumble(np.random.default_rng([0xF0B1, 5]), 0.0)) == 0


def test_the_share_of_fumbles_is_the_one_asked_for():
    fumbled = [len(fumble(np.random.default_rng(seed), 0.4)) > 0 for seed in range(500)]
    assert 0.33 < np.mean(fumbled) < 0.47


def test_a_fumble_is_no_interaction():
    """The hand closes on nothing and opens again, the labels know only the grasp."""
    early = next(seed for seed in range(50) if fumble(np.random.default_rng([0xF0B1, seed]), 1.0).start < 9)
    env = TabletopEnv(split="train", image_size=16, num_distractors=0)
    shown = demonstrate(env, Expert(env), seed=early, action_noise=0.0, fumbles=1.0)
    env.close()
    width = shown.state[:, 6] - shown.state[:, 7]
    events = find_interactions((shown.action[:, 6] + 1) / 2, InteractionConfig(), width)
    shut = np.flatnonzero(width < 0.02)
    assert shown.success and len(shut) and shut[0] < events.frames[0]
    assert events.closes.tolist() == [True] and events.dropped == 0


def test_frames_are_copies_of_what_was_seen_at_their_step():
    env = FakeEnv(image_size=16, episode_length=60)
    shown = demonstrate(env, FakeExpert(env), seed=4, action_noise=0.0)
    assert (shown.images["head"][0] != shown.images["head"][-1]).any()
    np.testing.assert_array_equal(shown.images["wrist"], shown.images["head"][:, ::-1])


def test_visibility_is_recorded_as_it_was_before_each_action():
    class Hiding(FakeEnv):
        def focus_visibility(self):
            return {"head": self.steps / 100, "wrist": 1.0}

    env = Hiding(image_size=16, episode_length=60)
    shown = demonstrate(env, FakeExpert(env), seed=4, action_noise=0.0, visibility=True)
    np.testing.assert_allclose(shown.visibility[:, 0], np.arange(len(shown)) / 100)
    assert (shown.visibility[:, 1] == 1).all() and shown.visibility.dtype == np.float32
    assert demonstrate(env, FakeExpert(env), seed=4, action_noise=0.0).visibility is None


def test_contact_is_recorded_as_it_was_before_each_action():
    class Touching(FakeEnv):
        def contact_force(self):
            return self.steps / 10

    env = Touching(image_size=16, episode_length=60)
    shown = demonstrate(env, FakeExpert(env), seed=4, action_noise=0.0, contact=True)
    np.testing.assert_allclose(shown.contact, np.arange(len(shown))[:, None] / 10, rtol=1e-6)
    assert shown.contact.dtype == np.float32
    assert demonstrate(env, FakeExpert(env), seed=4, action_noise=0.0).contact is None


def test_lerobot_reads_the_dataset(recorded):
    dataset = load(recorded)
    assert (dataset.meta.total_episodes, dataset.fps) == (5, 20)
    assert dataset.meta.names[contract.EE_POSE] == ["x", "y", "z", "qw", "qx", "qy", "qz"]
    assert dataset.meta.shapes[contract.STATE] == (8,)
    env, _ = make_fake(fake_config(recorded))
    seeds = json.loads((recorded / RECORDING_FILE).read_text())["episode_seeds"]
    for episode in (0, 4):  # the first and the last: a frame shifted by concatenation would show
        index = dataset.meta.episodes[episode]["dataset_from_index"]
        item = dataset[index]
        observation, _ = env.reset(seeds[episode])
        assert item["task"] == env.task_description
        for camera in contract.CAMERAS:
            decoded = 255 * item[contract.image_key(camera)].permute(1, 2, 0).numpy()
            error = np.mean((decoded - observation["pixels"][camera]) ** 2)
            assert 10 * np.log10(255**2 / error) > 30  # the fake's saturated edges cost chroma resolution


def test_nothing_else_is_left_behind(recorded):
    files = {str(path.relative_to(recorded)) for path in recorded.rglob("*") if path.is_file()}
    videos = {f"videos/{contract.image_key(camera)}/chunk-000/file-000.mp4" for camera in contract.CAMERAS}
    assert files - videos == {
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        contract.TASK_IDS_FILE,
        RECORDING_FILE,
    }
    assert not recorded.with_name("dataset.partial").exists()


def test_video_holds_every_row(recorded):
    dataset = load(recorded)
    last = dataset[len(dataset) - 1]
    assert last["frame_index"] == dataset.meta.episodes[4]["length"] - 1
    first = dataset[len(dataset) - 1 - int(last["frame_index"])]
    key = contract.image_key("head")
    assert (last[key] - first[key]).abs().max() > 0.3  # the square has moved


def test_failures_are_left_out_and_replaced(recorded):
    provenance = json.loads((recorded / RECORDING_FILE).read_text())
    assert provenance["failed_seeds"] == [0, 3]  # the fake fails at multiples of three
    assert provenance["episode_seeds"] == [RETRY_STRIDE, 1, 2, RETRY_STRIDE + 3, 4]
    assert (provenance["attempts"], provenance["failures_left_out"]) == (7, 2)


def test_sentences_of_one_goal_share_its_id(recorded):
    task_ids = json.loads((recorded / contract.TASK_IDS_FILE).read_text())
    assert set(task_ids) == set(load(recorded).meta.tasks.index)
    assert len(set(task_ids.values())) < len(task_ids)
    for sentence, goal in task_ids.items():
        assert ("red", "green", "blue")[goal] in sentence


def test_statistics_are_those_of_all_rows(recorded):
    values = columns(recorded)[contract.ACTION].astype(np.float64)
    stats = load(recorded).meta.stats[contract.ACTION]
    np.testing.assert_allclose(stats["q01"], np.quantile(values, 0.01, axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["q99"], np.quantile(values, 0.99, axis=0), atol=1e-6)
    assert stats["count"] == len(values)
    assert set(stats) == set(load(recorded).meta.stats["timestamp"]) == set(column_stats(values))


def test_statistics_of_pictures_count_every_byte():
    frames = np.random.default_rng(3).integers(7, 201, (4, 9, 11, 3), dtype=np.uint8)
    frames[..., 2] = 90
    pixels = frames.reshape(-1, 3).astype(float)
    stats = byte_stats(frames)
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(stats[name], getattr(pixels, name)(0), rtol=1e-12, atol=1e-12)
    for q in (0.01, 0.1, 0.5, 0.9, 0.99):
        exact = np.quantile(pixels, q, axis=0, method="inverted_cdf")
        np.testing.assert_array_equal(stats[f"q{round(100 * q):02d}"], exact)
    assert stats["count"].tolist() == [len(pixels)]


def test_video_is_the_one_that_lerobot_streams(tmp_path):
    frames = np.random.default_rng(4).integers(0, 256, (12, 32, 48, 3), dtype=np.uint8)
    encoder = VideoOptions(32, "h264", "yuv444p", 18, "ultrafast", 2).encoder()
    write_video(tmp_path / "ours.mp4", frames, 20, encoder)
    theirs = StreamingVideoEncoder(20, encoder, queue_maxsize=len(frames), encoder_threads=1)
    theirs.start_episode(["head"], tmp_path)
    for frame in frames:
        theirs.feed_frame("head", frame)
    path, stats = theirs.finish_episode()["head"]
    assert (tmp_path / "ours.mp4").read_bytes() == path.read_bytes()
    for name, value in byte_stats(frames).items():
        np.testing.assert_allclose(value, stats[name], atol=1.0)  # theirs come from bins and float32


def test_content_does_not_depend_on_the_number_of_workers(recorded, tmp_path):
    record(fake_config(tmp_path / "two", workers=2), make_fake)
    alone, two = columns(recorded), columns(tmp_path / "two")
    for key, value in alone.items():
        np.testing.assert_array_equal(value, two[key], err_msg=key)
    videos = [sorted(root.glob("videos/*/*/*.mp4")) for root in (recorded, tmp_path / "two")]
    assert [path.read_bytes() for path in videos[0]] == [path.read_bytes() for path in videos[1]]


def test_interrupted_recording_keeps_shards_and_continues(recorded, tmp_path, monkeypatch):
    config, resets = fake_config(tmp_path / "dataset"), []

    def interrupt(env, seed, original=FakeEnv.reset):
        resets.append(seed)
        if len(resets) == 5:
            raise KeyboardInterrupt
        return original(env, seed)

    monkeypatch.setattr(FakeEnv, "reset", interrupt)
    with pytest.raises(KeyboardInterrupt):
        record(config, make_fake)
    assert not config.output.exists()
    partial = tmp_path / "dataset.partial"
    assert sorted(path.name for path in partial.iterdir()) == ["options.json", "shard-00000"]
    kept = (partial / "shard-00000/data/chunk-000/file-000.parquet").stat().st_mtime_ns
    with pytest.raises(PosaError, match="seed: 0 there, 9 now"):
        record(fake_config(tmp_path / "dataset", seed=9), make_fake)
    assert (partial / "shard-00000/data/chunk-000/file-000.parquet").stat().st_mtime_ns == kept
    record(config, make_fake)
    assert len(resets) == 5 + 4  # episodes 2 and 4, episode 3 twice: the first shard was not repeated
    assert not partial.exists()
    for key, value in columns(recorded).items():
        np.testing.assert_array_equal(value, columns(config.output)[key], err_msg=key)


def test_a_command_that_recorded_nothing_may_be_corrected(tmp_path):
    output = tmp_path / "dataset"
    crowded = RecordConfig(output=output, episodes=1, num_distractors=30, workers=0)
    with pytest.raises(PosaError, match="do not fit on the table"):
        record(crowded)
    record(fake_config(output), make_fake)
    provenance = json.loads((output / RECORDING_FILE).read_text())
    assert provenance["options"]["num_distractors"] == 4


def test_complete_output_is_left_untouched(recorded):
    before = {path: path.stat().st_mtime_ns for path in recorded.rglob("*")}
    with pytest.raises(PosaError, match="complete dataset \\(5 episodes\\)"):
        record(fake_config(recorded), make_fake)
    assert before == {path: path.stat().st_mtime_ns for path in recorded.rglob("*")}


def test_full_disk_is_one_sentence_and_nothing_half_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LeRobotDataset, "save_episode", full)
    with pytest.raises(PosaError, match="disk is full"):
        record(fake_config(tmp_path / "dataset"), make_fake)
    assert not (tmp_path / "dataset").exists()
    assert not list((tmp_path / "dataset.partial").glob("*shard*"))


def test_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PosaError, match="choose another --output"):
        record(fake_config(tmp_path / "file/dataset"), make_fake)
    with pytest.raises(PosaError, match="not an empty folder"):
        record(fake_config(tmp_path / "file"), make_fake)


def test_hopeless_episode_stops_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeExpert, "act", lambda self: np.zeros(7, dtype=np.float32))
    with pytest.raises(PosaError, match="failed all 10 attempts at episode 0"):
        record(fake_config(tmp_path / "dataset", episode_length=2), make_fake)


@pytest.fixture(scope="module")
def tabletop(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tabletop") / "dataset"
    options = ["--episodes=3", "--workers=0", "--image_size=96", "--seed=4", "--action_noise=0"]
    objects = ["--categories=cube,bottle", "--colours=red,green,blue", "--num_distractors=2"]
    assert recording.main([f"--output={root}", *options, *objects]) == 0
    return root


def test_tabletop_motion_follows_the_action_of_its_own_row(tabletop):
    values = columns(tabletop)
    errors = {}
    for lag in (-1, 0, 1):
        rows = [np.flatnonzero(values["episode_index"] == episode)[3:-3] for episode in range(3)]
        moved = np.concatenate([np.diff(values[contract.EE_POSE][r, :3], axis=0) for r in rows])
        asked = np.concatenate([0.05 * values[contract.ACTION][r[:-1] + lag, :3] for r in rows])
        errors[lag] = np.sqrt(np.mean((moved - asked) ** 2))
    assert errors[0] < 0.003  # metres
    assert errors[0] < 0.7 * min(errors[-1], errors[1])


def test_tabletop_columns_agree(tabletop):
    values = columns(tabletop)
    np.testing.assert_allclose(values[contract.STATE][:, :3], values[contract.EE_POSE][:, :3], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(values[contract.EE_POSE][:, 3:], axis=1), 1, atol=1e-5)
    assert np.abs(values[contract.ACTION]).max() <= 1
    for episode in range(3):
        grip = values[contract.ACTION][values["episode_index"] == episode, 6]
        assert (grip[0], grip[-1]) == (-1, 1)  # ends holding the object
    task_ids = json.loads((tabletop / contract.TASK_IDS_FILE).read_text())
    assert set(task_ids) == set(values["task"])


def test_tabletop_video_keeps_the_colours(tabletop):
    from posa_vla.sim.env import TabletopEnv

    dataset = load(tabletop)
    options = {"categories": ("cube", "bottle"), "colours": ("red", "green", "blue"), "num_distractors": 2}
    env = TabletopEnv(split="train", image_size=96, **options)
    for episode in range(3):
        observation, _ = env.reset(seed=4 + episode)
        item = dataset[dataset.meta.episodes[episode]["dataset_from_index"]]
        assert item["task"] == env.task_description
        for camera in contract.CAMERAS:
            seen = observation["pixels"][camera].astype(float)
            error = 255 * item[contract.image_key(camera)].permute(1, 2, 0).numpy() - seen
            assert 10 * np.log10(255**2 / np.mean(error**2)) > 36
            coloured = np.ptp(seen, axis=-1) > 100  # the objects, a few pixels each
            assert np.sqrt(np.mean(error[coloured] ** 2)) < 10


def test_a_long_task_is_recorded_with_its_name(tmp_path):
    provenance = record(RecordConfig(output=tmp_path / "box", family="box", episodes=1, image_size=32, workers=0))
    assert provenance["options"]["family"] == "box"
    assert provenance["options"]["episode_length"] == 400
    grip = columns(tmp_path / "box")[contract.ACTION][:, 6]
    assert (np.diff(grip) != 0).sum() == 4  # lid and object, each taken and let go
    task_ids = json.loads((tmp_path / "box" / contract.TASK_IDS_FILE).read_text())
    assert 1000 <= min(task_ids.values()) <= max(task_ids.values()) < 2000


def test_pushes_are_recorded_with_contact_and_without_fumbles(tmp_path):
    with pytest.raises(PosaError, match="the fingers are closed throughout; leave --fumbles out"):
        record(RecordConfig(output=tmp_path / "push", family="push", episodes=1, fumbles=0.3, workers=0))
    assert not list(tmp_path.iterdir())
    root = tmp_path / "push"
    provenance = record(RecordConfig(output=root, family="push", episodes=1, image_size=32, workers=0))
    assert (provenance["options"]["fumbles"], provenance["options"]["contact"]) == (0.0, True)
    dataset = load(root)
    contact = np.asarray(dataset.hf_dataset.with_format("numpy")[contract.CONTACT]).ravel()
    assert (contact >= 0).all() and contact[0] == 0 and contact.max() > 0
    assert dataset.meta.stats[contract.CONTACT]["max"][0] == pytest.approx(contact.max())


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--family=juggle", "unknown task family 'juggle': choose one of box"),
        ("--condition=fog", "unknown condition 'fog': choose one of background, basic"),
        ("--categories=cube,cubes", "unknown category 'cubes': choose one of.*bowl"),
        ("--colours=pink", "unknown colour 'pink': choose one of.*red"),
        ("--colours=red", "need as many other"),
        ("--held_out=red cube,grey lemon", "unknown pair to hold out 'grey lemon': choose one of"),
        ("--held_out=all", "unknown pair to hold out 'all'"),
    ],
)
def test_names_the_suite_does_not_have_are_listed(tmp_path, flag, message):
    with pytest.raises(PosaError, match=message):
        recording.main([f"--output={tmp_path / 'dataset'}", "--workers=0", "--categories=cube,can", flag])
    assert not (tmp_path / "dataset").exists()


def test_lists_of_names_may_hold_spaces_brackets_and_a_last_comma(tmp_path):
    recording.check_names(
        RecordConfig(tmp_path, categories="[cube, 'can']", colours="red, blue,", held_out="red cube,")
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--split=eval", "choose one of train, val"),
        ("--image_size=65", "must be even"),
        ("--image_size=3000", "--image_size must lie between 16 and 2048"),
        ("--episode_length=0", "--episode_length must lie between 1"),
        ("--episodes=0", "--episodes must lie between 1"),
        ("--vcodec=vhs", "Must be one of.*h264"),
        ("--workers=two", "workers"),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, monkeypatch, flag, message):
    monkeypatch.setattr(recording, "check_names", lambda config: None)
    with pytest.raises(PosaError, match=message):
        recording.main([f"--output={tmp_path / 'dataset'}", flag])
    assert not list(tmp_path.iterdir())
