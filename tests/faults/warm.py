"""`python -m harness` and its workers under faults, as forks of one process: seconds instead of a minute."""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

from tests.faults.points import Fault, Points
from tests.warm import fork, fork_workers


def harness(arguments: list[str], output: Path, log: Path, fault: Fault | None = None, limit: int | None = None) -> int:
    """Run `python -m harness ARGUMENTS` to its end; returns the exit code, as a shell gives it (negative: by a signal).

    Args:
        log: standard output and error go to `log`, points to `<log>.points`.
        limit: bytes no file may grow beyond, as on a full disk.

    Raises:
        TimeoutError: it hangs; it and its workers are killed.
    """
    _adopt_orphans()
    pid = fork(lambda: _main(arguments, output, log, fault, limit), log, log)
    deadline, code = time.monotonic() + 300, None
    while (
        True
    ):  # until it and every worker it left behind are gone: a restart in a process of its own takes longer than that
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            assert code is not None
            return code
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            raise TimeoutError(f"python -m harness {' '.join(arguments)} hangs; see {log}")
        if not ended:
            time.sleep(0.02)


def _adopt_orphans() -> None:
    """Make this process the parent of workers whose own parent is killed (Linux)."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _children() -> list[int]:
    """Children of this process, and theirs."""
    found, left = [], [os.getpid()]
    while left:
        pid = left.pop()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        except OSError:
            continue
        found += [int(child) for child in children]
        left += [int(child) for child in children]
    return found


def _main(arguments: list[str], output: Path, log: Path, fault: Fault | None, limit: int | None) -> int:
    from harness.cli import main

    points = Points(output, log.with_suffix(".points"), fault)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    fork_workers(points.become)
    sys.argv = ["harness", *arguments]
    return main(arguments)
