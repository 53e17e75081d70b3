"""Seeded episodes in parallel processes: what the `eval` command and the trainer both call."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from posa_vla.errors import PosaError, unknown_name
from posa_vla.evaluation.pool import Died, WorkerPool
from posa_vla.evaluation.privileged import observed
from posa_vla.evaluation.records import ERROR, EnvOptions, EpisodeRecord, Job

MakeEnv = Callable[[str, str, EnvOptions], Any]
"""(condition, split, options) -> environment."""


def make_tabletop(condition: str, split: str, options: EnvOptions) -> Any:
    from posa_vla.sim.env import TabletopEnv

    return TabletopEnv(condition=condition, split=split, **dataclasses.asdict(options))


def make_expert(env: Any) -> Any:
    from posa_vla.sim import families

    return families.make_expert(env)


def load_policy(source: Any) -> Any:
    from posa_vla.evaluation.runner import PolicyRunner

    return PolicyRunner(source)


@dataclass(frozen=True)
class Setup:
    """What every worker needs; must survive the way into a fresh process.

    Args:
        policy: a `runner.PolicySource`.
        split: seed range of the environment.
        env: the environment's options.
        attention_every: steps between two samples of the anchors; 0 for none.
        expert: run the scripted expert on the scenes that the policy solved; in the others it only says where the
            true task anchor is.
        make_env, make_policy, make_expert: module-level factories, replaced in tests.
    """

    policy: Any
    split: str = "eval"
    env: EnvOptions = field(default_factory=EnvOptions)
    attention_every: int = 10
    expert: bool = True
    make_env: MakeEnv = make_tabletop
    make_policy: Callable[[Any], Any] = load_policy
    make_expert: Callable[[Any], Any] = make_expert


class Worker:
    """One process' policy and environment; turns jobs into records and never lets an exception through."""

    def __init__(self, setup: Setup) -> None:
        import torch

        torch.set_num_threads(1)
        self.setup = setup
        self.policy = setup.make_policy(setup.policy)
        self.env: Any = None
        self.condition: str | None = None
        self.checked = False

    def __call__(self, job: Job) -> EpisodeRecord | PosaError:
        """A record; or, if policy and environment do not fit together at all, the sentence that says so."""
        try:
            env = self._env(job)
            if not self.checked:
                self._check(env, job)
            return self._run(env, job)
        except _Misfit as misfit:
            return PosaError(str(misfit))
        except Exception as error:
            self.close()  # whatever state the simulator is in, the next episode does not inherit it
            message = f"{type(error).__name__}: {error}"
            return EpisodeRecord(job.condition, job.seed, ERROR, message=message)

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
        self.env = self.condition = None

    def _env(self, job: Job) -> Any:
        if self.condition != job.condition:
            self.close()  # before the next one opens: closing a MuJoCo renderer blackens its neighbours
            try:
                self.env = self.setup.make_env(job.condition, self.setup.split, self.setup.env)
            except PosaError as error:
                raise _Misfit(str(error)) from error
            self.condition = job.condition
        return self.env

    def _check(self, env: Any, job: Job) -> None:
        """Compare checkpoint and environment, and spend the policy's slow first call outside the timing."""
        observation, _ = env.reset(seed=job.seed)
        try:
            self.policy.check(observation)
        except PosaError as error:
            raise _Misfit(str(error)) from error
        self.checked = True
        self.policy.reset(job.seed)
        observation = observed(observation, self.policy, env, self.setup.make_expert(env))
        self.policy.act(observation, env.task_description)

    def _run(self, env: Any, job: Job) -> EpisodeRecord:
        from posa_vla.evaluation.episode import expert_motion, run_episode
        from posa_vla.evaluation.film import Film

        film = Film(job.film, self.policy.cameras, 1 / env.metadata["render_fps"]) if job.film else None
        make_expert, watch = self.setup.make_expert, film.add if film else None
        record = run_episode(env, self.policy, job, make_expert, self.setup.attention_every, watch)
        if film:
            film.write()
        elif self.setup.expert and record.outcome == "success":
            record = dataclasses.replace(record, expert=expert_motion(env, make_expert, job.seed))
        return record


class _Misfit(Exception):
    """Bad input that no other episode will cure."""


def worker_pool(setup: Setup, workers: int, say: Callable[[str], None] = print) -> WorkerPool:
    """Processes that each hold the policy and one environment; `say` hears of those that die."""
    return WorkerPool(Worker, setup, workers, on_death=say)


def run_episodes(jobs: Sequence[Job], pool: WorkerPool) -> Iterator[EpisodeRecord]:
    """Records as they are ready, in any order; a worker's second death over one episode is an `ERROR`."""
    for index, result, attempts in pool.run(jobs):
        job = jobs[index]
        if isinstance(result, PosaError):
            raise result
        if isinstance(result, Died):
            result = EpisodeRecord(job.condition, job.seed, ERROR, message=result.message)
        yield dataclasses.replace(result, attempts=attempts)


def make_jobs(conditions: Sequence[str], episodes: int, seed: int) -> list[Job]:
    """Seeds seed … seed + episodes - 1 for each condition, condition by condition."""
    return [Job(condition, seed + index) for condition in conditions for index in range(episodes)]


def check_conditions(conditions: Sequence[str], split: str) -> None:
    from posa_vla.sim.conditions import SPLITS, TESTS

    for condition in conditions:
        if condition not in TESTS:
            raise unknown_name("condition", condition, TESTS)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)


def check_options(options: EnvOptions) -> None:
    """Raise PosaError on names and numbers that the suite does not have, before an environment is built."""
    from posa_vla.sim import conditions, families

    families.get_family(options.family)
    conditions.check_numbers(options.image_size, options.num_distractors, options.episode_length)
    conditions.chosen_pairs(options.categories, options.colours, options.held_out)


def evaluate(
    policy_path: Path | str,
    conditions: Sequence[str] = ("basic",),
    episodes: int = 50,
    split: str = "val",
    seed: int = 0,
    workers: int = 2,
    env_options: EnvOptions | None = None,
    *,
    device: str | None = None,
    n_action_steps: int | None = None,
    expert: bool = False,
    attention_every: int = 10,
) -> list[EpisodeRecord]:
    """Run a checkpoint and return its records in order; `metrics.summarise` makes numbers of them.

    The default split is `val`: a trainer that looks at `eval` while it tunes would spoil the reported numbers.
    """
    from posa_vla.evaluation.runner import PolicySource, policy_folder

    check_conditions(conditions, split)
    source = PolicySource(policy_folder(Path(policy_path)), device, n_action_steps)
    setup = Setup(source, split, env_options or EnvOptions(), attention_every, expert)
    jobs = make_jobs(conditions, episodes, seed)
    with (
        tqdm(total=len(jobs), desc="evaluate", unit="episode") as bar,
        worker_pool(setup, workers, bar.write) as pool,
    ):
        records = {}
        for record in run_episodes(jobs, pool):
            records[record.key] = record
            bar.update()
    return [records[job.condition, job.seed] for job in jobs]
