"""``posa-vla demo``: a robot that picks what the sentence names, on two CPU cores.

It runs the reference policy that is shipped with the package, under the five test conditions; with
``--from_scratch=true`` it makes a policy first: records, labels, trains. Every stage is a `posa-vla` command,
printed before it runs, so that it can be repeated and changed by hand. A finished stage is not run again; an
interrupted one continues where it stopped.
"""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import draccus

from posa_vla import reference
from posa_vla.errors import PosaError
from posa_vla.sim.conditions import CONDITIONS

CATEGORIES = "cube,bottle,cereal,lemon"
COLOURS = "red,green,blue,yellow"
OBJECTS = (f"--categories={CATEGORIES}", f"--colours={COLOURS}")
REFERENCE_OBJECTS = (f"--categories={CATEGORIES}", "--colours=all", "--held_out=cyan cube,purple bottle")
STAGES_FILE = "stages.json"
REFERENCE_EPISODES = 24  # of each condition: four minutes on two slow cores


@dataclass
class DemoConfig:
    """Args:
    output: folder for the report, the dataset and the checkpoints.
    from_scratch: record demonstrations and train instead of running the reference policy; half an hour.
    quick: all stages of from_scratch in a minute or two, to see that everything runs; the robot will not succeed. Its
        output is a folder of its own, OUTPUT/quick.
    seed: of recording and training.
    """

    output: Path = Path("outputs/demo")
    from_scratch: bool = False
    quick: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Size:
    """How much of everything: demonstrations, training, evaluation episodes per condition."""

    demonstrations: int
    train: tuple[str, ...]
    basic_episodes: int
    other_episodes: int


FULL = Size(800, ("--steps=4800", "--max_minutes=17"), basic_episodes=200, other_episodes=20)
QUICK = Size(8, ("--steps=30", "--policy.anchor_steps=10", "--batch_size=16"), basic_episodes=4, other_episodes=2)


@dataclass(frozen=True)
class Stage:
    """One command of the demo; `resume` is added when an earlier attempt left its output behind."""

    name: str
    arguments: tuple[str, ...]
    output: Path
    resume: tuple[str, ...] = ()

    def command(self) -> list[str]:
        again = self.resume if self.output.exists() else ()
        return [self.name.split(" ")[0], *self.arguments, *again]


def stages(config: DemoConfig) -> list[Stage]:
    """The commands in order."""
    return from_scratch(config) if config.from_scratch or config.quick else [run_reference(config)]


def run_reference(config: DemoConfig) -> Stage:
    """The shipped policy on the objects that it has learned."""
    report = config.output / reference.NAME
    arguments = (f"--policy.path={reference.NAME}", f"--episodes={REFERENCE_EPISODES}", f"--output={report}")
    return Stage("eval", (*arguments, *REFERENCE_OBJECTS), report)


def from_scratch(config: DemoConfig) -> list[Stage]:
    """Objects: 4 categories × 4 colours, with 4 other objects on the table."""
    size, root = (QUICK if config.quick else FULL), config.output
    demonstrations, labelled, train = root / "demonstrations", root / "labelled", root / "train"
    cache, policy = root / "cache", train / "checkpoints" / "last" / "pretrained_model"
    record = (f"--output={demonstrations}", f"--episodes={size.demonstrations}", f"--seed={config.seed}", *OBJECTS)
    label = (f"--dataset.root={demonstrations}", "--rig=tabletop", f"--output={labelled}")
    training = (f"--dataset.root={labelled}", f"--cache={cache}", f"--output_dir={train}", f"--seed={config.seed}")
    conditions = ",".join(
        f"{name}:{size.basic_episodes if name == 'basic' else size.other_episodes}" for name in CONDITIONS
    )
    evaluate = (f"--policy.path={policy}", f"--dataset.root={labelled}", *OBJECTS)
    return [
        Stage("record", record, demonstrations),
        Stage("label", label, labelled),
        Stage("cache", (f"--dataset.root={labelled}", f"--output={cache}"), cache),
        Stage("train", (*training, "--policy.preset=tiny", *size.train), train, resume=("--resume=true",)),
        Stage("eval", (*evaluate, f"--conditions={conditions}", f"--output={root / 'report'}"), root / "report"),
    ]


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=DemoConfig, args=argv)
    if config.quick:
        config.output = config.output / "quick"
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PosaError(f"cannot write {config.output} ({error.strerror}): choose another --output") from error
    log = config.output / STAGES_FILE
    finished: dict[str, dict] = json.loads(log.read_text()) if log.exists() else {}
    plan = stages(config)
    for number, stage in enumerate(plan, start=1):
        title = f"[{number}/{len(plan)}] {stage.name}"
        if finished.get(stage.name, {}).get("arguments") == list(stage.arguments) and stage.output.exists():
            print(f"{title}: done before in {finished[stage.name]['seconds']:.0f} s", flush=True)
            continue
        print(f"\n{title}\n$ posa-vla {shlex.join(stage.command())}", flush=True)
        finished[stage.name] = {"seconds": run(stage), "arguments": list(stage.arguments)}
        log.write_text(json.dumps(finished, indent=2))
    summary(config, finished, plan)
    return 0


def run(stage: Stage) -> float:
    """Seconds the command took; it has said itself what went wrong if it failed."""
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "posa_vla.cli", *stage.command()]) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # Ctrl-C reached the command, too: training saves before it ends
            process.wait()
            raise
    if code:
        raise PosaError(f"stage {stage.name!r} ended with status {code}: mend what it names and run the demo again")
    return time.monotonic() - began


def summary(config: DemoConfig, finished: dict[str, dict], plan: list[Stage]) -> None:
    print("\nstage      seconds")
    for stage in plan:
        print(f"{stage.name:<10} {finished[stage.name]['seconds']:7.0f}")
    print(f"{'together':<10} {sum(finished[stage.name]['seconds'] for stage in plan):7.0f}")
    print(f"\nreport: {(plan[-1].output / 'report.html').resolve()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
