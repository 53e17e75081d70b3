"""The benchmark compares like with like; the speeds themselves are measured by running it."""

import json

from posa_vla.data import benchmark
from posa_vla.data.cache import DatasetArgs, FrameCache, build_cache


def test_both_sides_are_measured_and_written(video_dataset, tmp_path, monkeypatch, capsys):
    """In one process here, which is safe without workers."""
    monkeypatch.setattr(benchmark, "_in_fresh_process", benchmark.measure_loader)
    arguments = [f"--dataset.root={video_dataset}", f"--cache={tmp_path / 'c'}", "--workers=[0]"]
    options = ["--seconds=0.2", "--batch_size=8", "--chunk_size=4", f"--output={tmp_path / 'numbers.json'}"]
    assert benchmark.main([*arguments, *options]) == 0
    results = json.loads((tmp_path / "numbers.json").read_text())["results"]
    assert [result["dtype"] for result in results] == ["float32", "uint8"]
    assert all(result["cache"] > 3 * result["loader"]["0"] > 0 for result in results)
    table = capsys.readouterr().out
    assert "54 frames, video, head 32×32, wrist 32×32" in table and "loader, 0 w" in table


def test_a_bar_that_is_missed_is_said(video_dataset, tmp_path):
    cache = FrameCache.open(build_cache(video_dataset, tmp_path / "c", progress=False))
    config = benchmark.BenchmarkConfig(DatasetArgs(video_dataset), workers=(0, 1))
    results = [{"dtype": "uint8", "cache": speed, "loader": {0: 10.0, 1: 20.0}} for speed in (1980.0, 2020.0)]
    first, second = benchmark._table(config, cache, results).splitlines()[-2:]
    assert "99×  below the promised 100×" in first
    assert "101×" in second and "below" not in second
