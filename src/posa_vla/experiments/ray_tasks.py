"""Cells as tasks of a Ray cluster whose machines share the output folder."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from posa_vla.errors import PosaError
from posa_vla.experiments.running import BUSY, STOPPED, Outcome, Work, run_cell
from posa_vla.experiments.store import FAILED

POLL = 1.0


def import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise PosaError("--ray needs the package ray: pip install 'lerobot_policy_posa_vla[ray]'") from error
    return ray


def run_all(
    works: Sequence[Work],
    address: str,
    stopped: Callable[[], bool],
    finished: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """One task per cell, with as many CPUs as it has threads; a stop cancels them, and their commands save."""
    ray = import_ray()
    try:
        ray.init(address=address, log_to_driver=True)
    except ConnectionError as error:
        raise PosaError(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from error
    try:
        pending = {_submit(ray, work): work for work in works}
        outcomes: list[Outcome] = []
        cancelled = False
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=POLL)
            for task in ready:
                work = pending.pop(task)
                outcome = _outcome(ray, task, work, cancelled)
                if outcome.status == BUSY and not cancelled:
                    pending[_submit(ray, work, delay=10.0)] = work
                    continue
                outcomes.append(outcome)
                finished(outcome)
            if stopped() and not cancelled:
                cancelled = True
                for task in pending:
                    ray.cancel(task)
        return outcomes
    finally:
        ray.shutdown()


def _submit(ray: Any, work: Work, delay: float = 0.0) -> Any:
    needs = {"num_cpus": work.threads, "num_gpus": work.gpus}  # Ray hides the GPUs from a task that needs none
    return ray.remote(_task).options(**needs, max_retries=0, name=work.cell.name).remote(work, delay)


def _task(work: Work, delay: float) -> Outcome:
    """Runs on some machine of the cluster; Ray cancels it by a KeyboardInterrupt, which stops the command."""
    time.sleep(delay)
    return run_cell(work, stopped=lambda: False)


def _outcome(ray: Any, task: Any, work: Work, cancelled: bool) -> Outcome:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:  # the machine was lost, or the task cancelled
        if cancelled:
            return Outcome(work.cell.name, STOPPED)
        return Outcome(work.cell.name, FAILED, f"the Ray task was lost: {' '.join(str(error).split())[:300]}")
