"""Other processes of the report: spawned, not forked, since the caller may hold threads and locks."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

from trainers.common.processes import die_with_parent


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes, which print nothing; an error in one is raised where its result is asked for.

    They are killed if the block raises, and end with this process.
    """
    made = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(os.getpid(),))
    try:
        yield made
    except BaseException:
        for process in list((made._processes or {}).values()):
            process.kill()
        made.shutdown(cancel_futures=True)
        raise
    made.shutdown()


def _begin(parent: int) -> None:
    die_with_parent(parent)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
