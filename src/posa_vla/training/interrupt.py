"""SIGTERM and SIGINT as a flag that the training loop reads between two steps."""

import signal
import threading
from types import FrameType


class StopSignal:
    """Context manager: the first signal asks the loop to save and stop, a second one acts as usual."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: int = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # python allows handlers only there
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}


def exit_status(received: int) -> int:
    """What a shell shows for a process ended by this signal (143 for SIGTERM, 130 for SIGINT); 0 for none."""
    return 128 + received if received else 0
