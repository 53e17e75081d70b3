"""Stands in for the posa-vla command: every stage writes what the runner reads, in milliseconds.

Options that only the fake has: ``--fail=true`` (train) exits with status 3; ``--wait=true`` (train) saves a
checkpoint on SIGTERM and exits with 143, and runs through when it is resumed; ``--solved=N`` (eval) solves the
first N episodes of each condition, as FAKE_RESULTS/N.json has it.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

EMPTY_SAFETENSORS = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
STOP = []


def main() -> int:
    command, *words = sys.argv[1:]
    options = dict(word.removeprefix("--").split("=", 1) for word in words)
    with open(os.environ["FAKE_CALLS"], "a") as file:
        file.write(" ".join(sys.argv[1:]) + "\n")
    return {"record": record, "label": copy, "cache": cache, "train": train, "eval": evaluate}[command](options)


def record(options: dict[str, str]) -> int:
    if options.get("fail") == "true":
        print("the scene cannot be built")
        return 4
    return copy(options)


def copy(options: dict[str, str]) -> int:
    Path(options["output"]).mkdir()
    return 0


def cache(options: dict[str, str]) -> int:
    copy(options)
    manifest = {"format": "posa-vla frame cache", "version": 1, "fingerprint": "f00", "images": {}, "columns": {}}
    (Path(options["output"]) / "manifest.json").write_text(json.dumps(manifest))
    return 0


def train(options: dict[str, str]) -> int:
    if options.get("fail") == "true":
        print("loading\nstep 1\rstep 2\nloss is nan")
        return 3
    output, steps = Path(options["output_dir"]), int(options["steps"])
    if options.get("wait") == "true" and options.get("resume") != "true":
        signal.signal(signal.SIGTERM, lambda *_: STOP.append(1))
        output.mkdir()
        (output / "waiting").touch()
        while not STOP:
            time.sleep(0.01)
        save(output, 5)
        return 143
    output.mkdir(exist_ok=True)
    save(output, steps)
    lines = [{"step": s, "loss": 1 / s, "action_loss": 1 / s, "seconds": 0.1 * s} for s in range(1, steps + 1)]
    (output / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return 0


def save(output: Path, step: int) -> None:
    pretrained = output / "checkpoints" / f"{step:06d}" / "pretrained_model"
    pretrained.mkdir(parents=True)
    state = pretrained.with_name("training_state") / "state.json"
    state.parent.mkdir()
    state.write_text(json.dumps({"step": step, "precision": "no"}))
    (pretrained / "config.json").write_text(json.dumps({"type": "posa_vla", "n_action_steps": 2}))
    header = len(EMPTY_SAFETENSORS).to_bytes(8, "little")
    (pretrained / "model.safetensors").write_bytes(header + EMPTY_SAFETENSORS + bytes(24))
    link = output / "checkpoints" / "last"
    link.unlink(missing_ok=True)
    link.symlink_to(f"{step:06d}")


def evaluate(options: dict[str, str]) -> int:
    assert (Path(options["policy.path"]) / "model.safetensors").is_file()
    results = json.loads((Path(os.environ["FAKE_RESULTS"]) / f"{options['solved']}.json").read_text())
    results["policy"]["n_action_steps"] = int(options.get("n_action_steps", 0)) or None
    Path(options["output"]).mkdir(exist_ok=True)
    (Path(options["output"]) / "results.json").write_text(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
