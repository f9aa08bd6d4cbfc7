"""A worker whose parent was killed notices within a second; until then a restart must not work beside it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

from harness.state import whole_rows

_PATIENCE_SECONDS = 10.0
#: Module of a worker -> the stem of its job and events files.
_WORKERS = {"evals.worker": "evaluate", "evals.judges.worker": "judge"}


def wait_for_orphan(work: Path) -> None:
    """Wait until the workers of an earlier call, if they are still there, are gone; end one that stays.

    Args:
        work: the folder of job and events files. Only a process that runs exactly this job is touched (Linux; elsewhere
            processes cannot be recognised, and this returns at once).
    """
    for module, stem in _WORKERS.items():
        for events in sorted(work.glob(f"{stem}*.events.jsonl")):  # each judge tells its events in a separate file
            pids = [event["pid"] for event in whole_rows(events) if isinstance(event.get("pid"), int)]
            if pids:
                _wait(module, work / f"{stem}.json", pids[-1])


def _wait(module: str, job: Path, pid: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _runs_job(pid, module, job):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # the worker leads its own group
            deadline = float("inf")
        time.sleep(0.1)


def _runs_job(pid: int, module: str, job: Path) -> bool:
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return module in words and str(job) in words
