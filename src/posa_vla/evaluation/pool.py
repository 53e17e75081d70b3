"""Jobs in separate processes that may die.

Each worker is a fresh process (spawn: no OpenGL context, decoder or thread pool is inherited) with a pipe of
its own, so the parent knows which job a dead worker had in hand.
"""

import contextlib
import multiprocessing
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from posa_vla.errors import PosaError

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # busy workers with two threads each are many times slower than with one
    "MKL_NUM_THREADS": "1",
    "LP_NUM_THREADS": "1",  # Mesa's software rasteriser: same pixels for less CPU
    "TOKENIZERS_PARALLELISM": "false",
}
MAX_ATTEMPTS = 2


@dataclass(frozen=True)
class Died:
    """The result of a job whose worker died `MAX_ATTEMPTS` times over it."""

    message: str


@dataclass
class _Worker:
    process: Any
    connection: Connection
    job: int | None = None
    ready: bool = False


class WorkerPool:
    """Workers that start when there is work and stay until the pool is closed (it is a context manager).

    `make_handler(arguments)` runs once in each worker and gives the function that turns a job into a result;
    both must be importable. An exception in either is a defect or bad input and ends the run as a PosaError.
    A worker that dies gives its job back to the queue once, and is replaced.

    Args:
        make_handler, arguments: see above.
        workers: processes at most.
        on_death: told in a sentence about every worker that died over a job.
    """

    def __init__(
        self,
        make_handler: Callable[[Any], Callable[[Any], Any]],
        arguments: Any,
        workers: int,
        on_death: Callable[[str], None] = print,
    ) -> None:
        if workers < 1:
            raise PosaError(f"expected at least one worker, found {workers}: pass --workers=1 or more")
        self.make_handler, self.arguments = make_handler, arguments
        self.workers, self.on_death = workers, on_death
        self.crew: list[_Worker] = []
        self.early_deaths = 0
        self.jobs: Sequence[Any] = ()
        self.queue: deque[int] = deque()
        self.attempts: list[int] = []

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: Any) -> None:
        _dismiss(self.crew)
        self.crew = []

    def run(self, jobs: Sequence[Any]) -> Iterator[tuple[int, Any, int]]:
        """Yield (job's index, result, attempts) as jobs end, in any order; one run at a time."""
        self.jobs, self.queue, self.attempts = jobs, deque(range(len(jobs))), [0] * len(jobs)
        while self.unfinished():
            yield from self.step()

    def unfinished(self) -> int:
        return len(self.queue) + sum(worker.job is not None for worker in self.crew)

    def step(self) -> Iterator[tuple[int, Any, int]]:
        """Fill the crew, hand out jobs, and take what the next speaking workers say."""
        while len(self.crew) < min(self.workers, self.unfinished()):
            self.crew.append(_start(self.make_handler, self.arguments))
        for worker in self.crew:
            if worker.ready and worker.job is None and self.queue:
                self._hand_out(worker)
        speaking = wait([worker.connection for worker in self.crew])
        for worker in [worker for worker in self.crew if worker.connection in speaking]:
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            if kind == "broken":
                raise PosaError(value)
            worker.ready = True
            if kind == "result" and worker.job is not None:
                done, worker.job = worker.job, None
                yield done, value, self.attempts[done]

    def _hand_out(self, worker: _Worker) -> None:
        worker.job = self.queue.popleft()
        self.attempts[worker.job] += 1
        with contextlib.suppress(OSError):  # it died meanwhile: the next recv finds out
            worker.connection.send(self.jobs[worker.job])

    def _bury(self, worker: _Worker) -> Iterator[tuple[int, Any, int]]:
        self.crew.remove(worker)
        cause = _cause(worker)
        if not worker.ready:
            self.early_deaths += 1
            _refuse_to_loop(self.early_deaths, cause)
        if worker.job is None:
            return
        self.on_death(f"a worker died ({cause}) in job {worker.job + 1} of {len(self.jobs)}")
        if self.attempts[worker.job] < MAX_ATTEMPTS:
            self.queue.append(worker.job)
        else:
            yield worker.job, Died(f"the worker died {MAX_ATTEMPTS} times ({cause})"), MAX_ATTEMPTS


def _start(make_handler: Callable, arguments: Any) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make_handler, arguments), daemon=True)
    with _environment(WORKER_ENVIRONMENT):
        process.start()
    theirs.close()  # so that the worker's death closes the pipe
    return _Worker(process, ours)


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Libraries read these when first imported: they must be set before the child starts, and only there."""
    saved = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _serve(connection: Connection, make_handler: Callable, arguments: Any) -> None:
    """The worker's life: make the handler, then answer jobs until the parent hangs up."""
    try:
        handle = make_handler(arguments)
        connection.send(("ready", None))
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            connection.send(("result", handle(job)))
    except PosaError as error:
        connection.send(("broken", str(error)))
    except KeyboardInterrupt:
        return
    except Exception as error:
        traceback.print_exc()
        connection.send(("broken", f"a worker failed with {type(error).__name__}: {error}"))


def _cause(worker: _Worker) -> str:
    worker.process.join(timeout=10)
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"signal {-code}" + (", often: out of memory" if code == -9 else "")
    return f"exit code {code}"


def _refuse_to_loop(early_deaths: int, cause: str) -> None:
    if early_deaths >= 2:
        raise PosaError(
            f"workers die before their first episode ({cause}): expected each to load the policy and the "
            "environment; try --workers=1, and check the free memory and MUJOCO_GL"
        )


def _dismiss(crew: list[_Worker]) -> None:
    for worker in crew:
        worker.connection.close()
        if worker.job is not None:
            worker.process.terminate()
    for worker in crew:
        worker.process.join(timeout=5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
