"""What the suite promises, measured: steps/s, reset time, the expert's success under each condition.

`posa-vla bench sim --episodes=1500` prints the table of docs/results.md.
"""

import json
import multiprocessing
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import draccus
import numpy as np
from tqdm import tqdm

from posa_vla.contract import HEAD
from posa_vla.errors import PosaError
from posa_vla.evaluation.episode import unseen
from posa_vla.evaluation.intervals import wilson
from posa_vla.options import listed
from posa_vla.sim.conditions import CONDITIONS, TESTS, check_names
from posa_vla.sim.env import TabletopEnv
from posa_vla.sim.families import get_family, make_expert

EXPERT_IMAGE_SIZE = 16  # pixels; the expert does not look
VISIBILITY_SIZE, SEEN = 128, 0.5  # pixels; the share that has to be seen


@dataclass
class SimBenchConfig:
    """Measure the tabletop suite.

    Args:
        episodes: expert episodes, spread evenly over the conditions.
        conditions: comma-separated test conditions; the default five if empty.
        hidden_episodes: episodes of each condition in which to measure how often the head camera sees less than half of
            what the hand acts on next, before the first grasp.
        steps: control steps with both views for the speed measurement.
        image_size: side of both views in the speed measurement, pixels.
        random_steps: random-action steps that must neither tunnel nor diverge.
        processes: parallel processes for the expert episodes.
        split: scenes of this split.
        family: what there is to do: pick, box, place, push …; an unknown name lists them all.
        output: JSON file for the numbers; none if empty.
    """

    episodes: int = 100
    conditions: str = ""
    hidden_episodes: int = 0
    steps: int = 400
    image_size: int = 128
    random_steps: int = 2000
    processes: int = 2
    split: str = "val"
    family: str = "pick"
    output: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """One expert episode."""

    condition: str
    seed: int
    target: str
    success: bool
    steps: int
    stages: dict[str, bool]
    mistake: str


def run_episode(env: TabletopEnv, expert: Any, seed: int) -> Outcome:
    """The clean expert on one seed, which does not look."""
    env.reset(seed=seed)
    expert.reset()
    done, info, steps = False, {}, 0
    with unseen(env):
        while not done:
            _, _, terminated, truncated, info = env.step(expert.act())
            done, steps = terminated or truncated, steps + 1
    progress = info["stages"], info["mistake"]
    return Outcome(env.options.condition, seed, env.target, bool(info["is_success"]), steps, *progress)


def _run_block(job: tuple[str, str, str, range]) -> list[Outcome]:
    family, condition, split, seeds = job
    env = TabletopEnv(condition=condition, split=split, image_size=EXPERT_IMAGE_SIZE, family=family)
    expert = make_expert(env)
    outcomes = [run_episode(env, expert, seed) for seed in seeds]
    env.close()
    return outcomes


def measure_expert(
    episodes: int, split: str, processes: int, family: str = "pick", conditions: tuple[str, ...] = CONDITIONS
) -> list[Outcome]:
    """Expert episodes over all conditions, in parallel processes, with a progress bar."""
    each, block = max(1, episodes // len(conditions)), 25
    jobs = [
        (family, condition, split, range(start, min(start + block, each)))
        for start in range(0, each, block)
        for condition in conditions
    ]
    outcomes: list[Outcome] = []
    with (
        multiprocessing.get_context("spawn").Pool(processes) as pool,
        tqdm(total=each * len(conditions), desc="expert episodes") as bar,
    ):
        for part in pool.imap_unordered(_run_block, jobs):
            outcomes += part
            bar.update(len(part))
    return outcomes


def measure_speed(image_size: int, steps: int, split: str, family: str = "pick") -> dict[str, float]:
    """Control steps/s with both views, by the wall clock and by this process's own time, and reset seconds."""
    env = TabletopEnv(split=split, image_size=image_size, family=family)
    expert, resets = make_expert(env), []
    env.reset(seed=0)
    wall = cpu = 0.0
    done, seed = True, 0
    for _ in tqdm(range(steps), desc="steps"):
        if done:
            start, seed = time.perf_counter(), seed + 1
            env.reset(seed=seed)
            expert.reset()
            resets.append(time.perf_counter() - start)
        action = expert.act()
        start, start_cpu = time.perf_counter(), time.process_time()
        _, _, terminated, truncated, _ = env.step(action)
        wall, cpu = wall + time.perf_counter() - start, cpu + time.process_time() - start_cpu
        done = terminated or truncated
    env.close()
    return {
        "steps_per_second": steps / wall,
        "steps_per_cpu_second": steps / cpu,
        "reset_mean_s": float(np.mean(resets)),
        "reset_max_s": float(np.max(resets)),
    }


def measure_hidden(episodes: int, condition: str, split: str, family: str = "pick") -> dict[str, Any]:
    """In how many frames before the hand first closes the head camera sees less than half of what is next."""
    env = TabletopEnv(condition=condition, split=split, image_size=VISIBILITY_SIZE, family=family)
    expert, seen = make_expert(env), []
    for seed in tqdm(range(episodes), desc=f"visibility, {condition}"):
        env.reset(seed=seed)
        expert.reset()
        done = False
        while not (done or env.robot.told_to_close):
            seen.append(env.focus_visibility()[HEAD])
            *_, terminated, truncated, _ = env.step(expert.act())
            done = terminated or truncated
    env.close()
    hidden = float(np.mean(np.array(seen) < SEEN))
    return {"condition": condition, "episodes": episodes, "frames": len(seen), "hidden": hidden}


def measure_random(steps: int, split: str, family: str = "pick") -> dict[str, float]:
    """Random actions: the lowest any object's centre went (m, the table top is 0) and whether the physics held."""
    env = TabletopEnv(split=split, image_size=EXPERT_IMAGE_SIZE, family=family)
    rng, done, seed, lowest, finite = np.random.default_rng(0), True, 0, np.inf, True
    for _ in tqdm(range(steps), desc="random actions"):
        if done:
            env.reset(seed=seed)
            seed += 1
        observation, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, 7))
        heights = [state.position[2] for state in env.ground_truth().objects if env.over_table(state.position)]
        lowest = min(lowest, *heights) if heights else lowest
        finite &= bool(np.isfinite(observation["agent_pos"]).all()) and not env.diverged()
        done = terminated or truncated
    env.close()
    return {"lowest_object_m": float(lowest), "finite": float(finite)}


def expert_table(outcomes: list[Outcome], conditions: tuple[str, ...] = CONDITIONS) -> str:
    """One line per condition and one for all: success, Wilson 95 % interval, mean steps of the successes."""
    lines = [f"{'condition':<12} {'success':>11} {'rate':>7}  {'95 % interval':<16} {'mean steps':>10}"]
    for condition in (*conditions, "all"):
        chosen = [o for o in outcomes if condition in (o.condition, "all")]
        won = [o for o in chosen if o.success]
        low, high = wilson(len(won), len(chosen))
        rate = len(won) / max(1, len(chosen))
        steps = np.mean([o.steps for o in won]) if won else float("nan")
        lines.append(
            f"{condition:<12} {len(won):>5}/{len(chosen):<5} {rate:>7.1%}  [{low:.1%}, {high:.1%}]{'':<2} {steps:>9.1f}"
        )
    lines += [stage_line(stage, outcomes) for stage in (outcomes[0].stages if outcomes else ())]
    lines += [f"failed: {o.condition} seed {o.seed} ({o.target})" for o in outcomes if not o.success]
    return "\n".join(lines)


def stage_line(stage: str, outcomes: list[Outcome]) -> str:
    """How many episodes of all conditions reached a stage, with the Wilson 95 % interval."""
    reached = sum(o.stages[stage] for o in outcomes)
    low, high = wilson(reached, len(outcomes))
    share = f"{reached / len(outcomes):>7.1%}  [{low:.1%}, {high:.1%}]"
    return f"stage {stage:<6} {reached:>5}/{len(outcomes):<5} {share}"


def measure(config: SimBenchConfig) -> dict:
    """Run all measurements, print them and return them."""
    family = get_family(config.family)  # raises on an unknown name, before anything takes time
    if config.hidden_episodes and not family.gripper_open:
        raise PosaError(
            f"--hidden_episodes={config.hidden_episodes} with --family={config.family}: it looks at the frames before "
            "the hand first closes, and there the fingers are closed throughout; leave --hidden_episodes out"
        )
    conditions = _conditions(config.conditions)
    speed = measure_speed(config.image_size, config.steps, config.split, config.family)
    random = measure_random(config.random_steps, config.split, config.family)
    outcomes = measure_expert(config.episodes, config.split, config.processes, config.family, conditions)
    hidden = [measure_hidden(config.hidden_episodes, c, config.split, config.family) for c in conditions
              if config.hidden_episodes]  # fmt: skip
    print(f"both views at {config.image_size} px: {speed['steps_per_second']:.0f} control steps/s by the clock, "
          f"{speed['steps_per_cpu_second']:.0f} per second of one core; "
          f"reset {speed['reset_mean_s'] * 1e3:.0f} ms (worst {speed['reset_max_s'] * 1e3:.0f} ms)")  # fmt: skip
    print(
        f"{config.random_steps} random-action steps: {'all finite' if random['finite'] else 'NOT finite'}, "
        f"lowest object centre {random['lowest_object_m'] * 1e3:.1f} mm above the table"
    )
    print(expert_table(outcomes, conditions))
    for row in hidden:
        print(f"{row['condition']:<12} the head camera sees less than half of what is next in {row['hidden']:.1%} "
              f"of {row['frames']} frames before the first grasp, all of {row['episodes']} episodes")  # fmt: skip
    expert = [asdict(outcome) for outcome in outcomes]
    return {"speed": speed, "random": random, "expert": expert, "hidden": hidden}


def _conditions(text: str) -> tuple[str, ...]:
    """``basic,occlusion`` as a tuple; the default five for an empty text."""
    chosen = listed(text)
    return check_names("condition", chosen, TESTS) if chosen else CONDITIONS


def main(argv: list[str]) -> int:
    config = draccus.parse(config_class=SimBenchConfig, args=argv)
    if min(config.episodes, config.steps, config.random_steps, config.processes) < 1:
        raise PosaError("episodes, steps, random_steps and processes must be at least 1")
    numbers = measure(config)
    if config.output:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        config.output.write_text(json.dumps(numbers, indent=1))
    return 0
