"""Run one command with its output in a log, and stop it when asked."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

GRACE = 120.0
"""Seconds a command has to save and end after SIGTERM."""
POLL = 0.3
TAIL_LINES = 20


class Stopped(Exception):
    """The runner was told to stop; the command has been stopped too."""


def run_logged(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    stopped: Callable[[], bool],
    keep_open: Sequence[int] = (),
) -> int:
    """Append the command and its output to `log`; returns the exit status (-n: signal n).

    The command gets its own session: Ctrl-C in the terminal reaches the runner, which passes it on in order.

    Args:
        stopped: asked a few times per second; once true, the command is stopped and `Stopped` raised.
        keep_open: descriptors that the command inherits (locks).
    """
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
            pass_fds=keep_open,
        )
        try:
            while not stopped():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(POLL)
            raise Stopped
        finally:
            end(process)


def end(process: subprocess.Popen) -> None:
    """SIGTERM, on which training saves; SIGKILL to whatever of its processes is left after that."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if process.poll() is None:
            process.terminate()
            process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log; progress bars count as their last state."""
    text = log.read_bytes()[-65536:].decode(errors="replace")
    return [line.rsplit("\r", 1)[-1] for line in re.split(r"\r?\n", text.rstrip())][-lines:]


def thread_environment(threads: int) -> dict[str, str]:
    """This process' environment with `threads` per numerical library: more than cores is many times slower."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads)), "LP_NUM_THREADS": "1"}
