"""An evaluation process whose parent was killed notices within a second; until then a restart must not work beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

_PATIENCE_SECONDS = 10.0


def wait_for_orphan(work: Path) -> None:
    """Wait until the evaluation process of an earlier call, if it is still there, is gone; end it if it stays.

    Args:
        work: the folder of job and events files. Only a process that runs exactly this job is touched (Linux; elsewhere
            processes cannot be recognised, and this returns at once).
    """
    pid = _started_pid(work / "evaluate.events.jsonl")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while pid is not None and _runs_job(pid, work / "evaluate.json"):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # the worker leads its own group
            deadline = float("inf")
        time.sleep(0.1)


def _started_pid(events: Path) -> int | None:
    pid = None
    with contextlib.suppress(OSError):
        for line in events.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                pid = event.get("pid", pid)
    return pid if isinstance(pid, int) else None


def _runs_job(pid: int, job: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"evals.worker" in words and os.fsencode(job) in words
