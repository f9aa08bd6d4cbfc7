"""Runs the evaluation worker as a subprocess and starts it again when it dies: an engine crash costs one policy at most."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.common import scores_schema
from trainers.common.events import read_events, tail
from trainers.common.processes import stop

#: A policy during which the worker died this often without a new row or score on disk in between is given up.
MAX_CRASHES = 2
#: Value of `engine` in the error of policies for which no engine could be started.
NOT_STARTED = "not started"


@dataclass
class JobResult:
    """What became of a job: policies done, and for the others the error's class, message and traceback."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    engine: str | None = None
    engine_starts: int = 0


def run_job(job: dict[str, Any], job_path: Path, on_event: Callable[[dict[str, Any]], None]) -> JobResult:
    """Run `job` (see evals.worker) to its end, restarting the worker after crashes.

    Args:
        job_path: where the job file goes; the worker's output goes beside it, as `<name>.log`.
        on_event: called with every event the worker reports.
    """
    result = JobResult()
    events_path = Path(job["events"])
    events_path.parent.mkdir(parents=True, exist_ok=True)
    events_path.unlink(missing_ok=True)
    crashes: dict[str, int] = {}
    offset, finished = 0, False
    while not finished:
        job = {**job, "parent": os.getpid(), "skip": sorted({*job.get("skip", []), *result.failed})}
        scores_schema.write_json(job_path, job)
        current: str | None = None
        with job_path.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "evals.worker", str(job_path)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            alive = True
            while alive:
                alive = process.poll() is None
                events, offset = read_events(events_path, offset)
                for event in events:
                    kind = event["event"]
                    if kind in ("policy_done", "policy_failed"):
                        crashes.pop("", None)  # one policy fewer to go: starting again is worth it
                    if kind == "policy_started":
                        current = event["policy"]
                    elif kind == "policy_done":
                        result.done.append(event["policy"])
                        current = None
                    elif kind == "benchmark_done" or (kind == "progress" and event["done"] > 0):
                        crashes.pop(event["policy"], None)
                    elif kind == "policy_failed":
                        result.failed[event["policy"]] = _error(event)
                        current = None
                    elif kind == "engine_started":
                        result.engine, result.engine_starts = event["engine"], result.engine_starts + 1
                    elif kind == "engine_failed":  # for a reason that will not pass: no policy can be measured
                        finished = True
                        error = {**_error(event), "engine": NOT_STARTED}
                        result.failed.update(dict.fromkeys(_open(job, result), error))
                    elif kind == "finished":
                        finished = True
                    on_event(event)
                if alive:
                    time.sleep(0.1)
        finally:
            stop(process)
        if finished:
            break
        key = current or ""
        crashes[key] = crashes.get(key, 0) + 1
        on_event({"event": "worker_died", "policy": current, "returncode": process.returncode})
        if crashes[key] >= MAX_CRASHES:
            error = {
                "class": "EngineCrashed",
                "message": f"the engine died {crashes[key]} times (last exit code {process.returncode}); "
                f"see {job_path.with_suffix('.log')}",
                "traceback": tail(job_path.with_suffix(".log")),
            }
            hit = [current] if current else _open(job, result)
            result.failed.update({run_id: error for run_id in hit if run_id not in result.failed})
            if current is None:
                break
    return result


def _error(event: dict[str, Any]) -> dict[str, str]:
    return {"class": event["error"], "message": event["message"], "traceback": event["trace"]}


def _open(job: dict[str, Any], result: JobResult) -> list[str]:
    """Policies of the job that are neither done nor to be skipped."""
    over = {*result.done, *result.failed, *job["skip"]}
    return [policy["run_id"] for policy in job["policies"] if policy["run_id"] not in over]
