"""Cells side by side on this machine."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from posa_vla.experiments.running import BUSY, STOPPED, Outcome, Work, run_cell

BUSY_PAUSE = 2.0
"""Seconds before a cell that another process runs is asked for again."""


def run_all(
    works: Sequence[Work],
    workers: int,
    stopped: Callable[[], bool],
    say: Callable[[str], None] = print,
    finished: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run the cells with `workers` at a time; each is a thread that waits for its commands.

    A cell that another process runs goes to the end of the queue, so that two runners on one folder share the work.
    """
    queue, outcomes, announced = deque(works), list[Outcome](), set[str]()

    def work_off() -> None:
        while queue and not stopped():
            try:
                work = queue.popleft()
            except IndexError:  # another thread took the last one
                return
            outcome = run_cell(work, stopped, say)
            if outcome.status == BUSY:
                if work.cell.name not in announced:
                    say(f"{work.cell.name}: another process runs it, waiting")
                    announced.add(work.cell.name)
                queue.append(work)
                time.sleep(BUSY_PAUSE)
                continue
            outcomes.append(outcome)
            finished(outcome)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        threads = [pool.submit(work_off) for _ in range(min(workers, len(works)))]
        wait(threads)
    for thread in threads:
        thread.result()
    return [*outcomes, *(Outcome(work.cell.name, STOPPED) for work in queue)]
