"""Handlers for worker processes; imports next to nothing, so that workers start quickly."""

import os
import signal
from pathlib import Path

from posa_vla.errors import PosaError


def squares(offset: int):
    return lambda job: (job * job + offset, os.environ["OMP_NUM_THREADS"])


def dies_on_three(marker: str):
    """Job 3 kills its process: once if `marker` names a file that can be made, else always."""

    def handle(job: int) -> int:
        path = Path(marker)
        if job == 3 and not path.exists():
            if path.parent.is_dir():
                path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return job

    return handle


def refuses(reason: str):
    raise PosaError(reason)


def never_starts(code: int):
    os._exit(code)


def raises(reason: str):
    def handle(job: int) -> int:
        raise KeyError(reason)

    return handle


def who_am_i(_: None):
    return lambda job: os.getpid()
