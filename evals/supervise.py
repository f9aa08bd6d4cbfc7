"""Runs workers as subprocesses, and the evaluation worker again when it dies: an engine crash costs one policy at most."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainers.common import EventTail, Json, last_error, scores_schema, stop, tail

#: A policy during which the worker died this often without a new row or score on disk in between is given up.
MAX_CRASHES = 2
#: Errors that may be gone at the next start.
_PASSING = re.compile(
    r"MemoryError|out of memory|allocate memory|No space left|Address already in use|Connection|[Tt]imed? ?out|NCCL|Gloo"
    r"|CUDA error|temporarily unavailable|Too many open files"
)
#: Value of `engine` in the error of policies for which no engine could be started.
NOT_STARTED = "not started"


@dataclass
class JobResult:
    """What became of a job: policies done, and for the others the error's class, message, traceback and whether it may pass."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, dict[str, str | bool]] = field(default_factory=dict)
    engine: str | None = None
    engine_starts: int = 0


def run_worker(
    module: str, job_path: Path, log: Path, events: EventTail, on_event: Callable[[Json], None]
) -> int | None:
    """Run `python -m MODULE JOB` to its end; returns its exit code.

    Args:
        log: where its output is appended. events: of the file that the job names for its events.
        on_event: called with every event. What it raises ends the worker.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job_path)],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        alive = True
        while alive:
            alive = process.poll() is None
            for event in events.read():
                on_event(event)
            if alive:
                time.sleep(0.1)
    finally:
        stop(process)
    return process.returncode


@dataclass
class _Supervised:
    """What the events of a job have told so far; crashes by the policy that was served, None before the first."""

    policies: list[str]
    skip: set[str]
    result: JobResult = field(default_factory=JobResult)
    current: str | None = None
    finished: bool = False
    crashes: Counter[str | None] = field(default_factory=Counter)
    answered: bool = False  # whether an engine of this job has answered a request
    last: str | None = None  # what the last engine died of
    given_up: str | None = None  # what the policy that was given up last died of

    def fail(self, error: Mapping[str, str | bool], everywhere: bool = False) -> None:
        """The policy that is served has failed; where none is, or `everywhere`, all that are neither done nor to be skipped."""
        over = {*self.result.done, *self.result.failed, *self.skip}
        hit = [name for name in self.policies if name not in over] if everywhere or not self.current else [self.current]
        self.result.failed |= {name: dict(error) for name in hit}
        self.current = None

    def died(self, error: str | None, code: int | None, log: Path) -> bool:
        """The worker has died of `error`, or without a word; whether to start another one.

        An error that comes again is lasting. So is one of an engine that has never answered, unless it is of a kind that may
        pass. Without a word (a signal) a policy is tried MAX_CRASHES times.
        """
        again = error is not None and error == self.last
        lasting = again or (error is not None and not self.answered and _PASSING.search(error) is None)
        self.crashes[self.current] += 1
        if lasting or self.crashes[self.current] >= MAX_CRASHES:
            said = f"of {error}" if error else f"{MAX_CRASHES} times (last exit code {code})"
            record: dict[str, str | bool] = {
                "class": "EngineCrashed",
                "message": f"the engine died {said}; see {log}",
                "traceback": tail(log),
                "transient": not lasting,
            }
            # the weights of one policy may be what kills an engine; the starting model's, or two policies', are not
            not_its = self.current == scores_schema.REFERENCE or error == self.given_up
            everywhere = self.current is None or (lasting and not_its)
            self.fail(record | ({} if self.answered else {"engine": NOT_STARTED}) if everywhere else record, everywhere)
            self.given_up = error
            if everywhere:
                return False
        self.last, self.current = error, None
        return True

    def take(self, event: Json) -> None:
        match event["event"]:
            case "policy_started":
                self.current = event["policy"]
            case "policy_done":
                self.result.done.append(event["policy"])
                self.current, self.answered, self.given_up = None, True, None
                self.crashes.pop(None, None)  # one policy fewer to go: starting again is worth it
            case "policy_failed":
                self.fail(_error(event))
                self.crashes.pop(None, None)
                self.answered = True
            case "benchmark_done" | "progress" if event.get("done") != 0:
                self.crashes.pop(event["policy"], None)
                self.answered = True
            case "engine_started":
                self.result.engine = event["engine"]
                self.result.engine_starts += 1
            case "engine_failed":  # for a reason that will not pass: no policy can be measured
                self.fail(_error(event) | {"engine": NOT_STARTED})
                self.finished = True
            case "finished":
                self.finished = True


def _error(event: Json) -> dict[str, str]:
    return {"class": event["error"], "message": event["message"], "traceback": event["trace"]}


def run_job(job: Json, job_path: Path, on_event: Callable[[Json], None]) -> JobResult:
    """Run `job` (see evals.job) to its end, restarting the worker after crashes.

    Args:
        job_path: where the job file goes; the worker's output goes beside it, as `<name>.log`.
        on_event: called with every event the worker reports.
    """
    events_path, log = Path(job["events"]), job_path.with_suffix(".log")
    events_path.parent.mkdir(parents=True, exist_ok=True)
    events_path.unlink(missing_ok=True)
    events = EventTail(events_path)
    state = _Supervised([policy["run_id"] for policy in job["policies"]], set(job.get("skip", ())))

    def take(event: Json) -> None:
        state.take(event)
        on_event(event)

    while True:
        skip = sorted({*state.skip, *state.result.failed})
        scores_schema.write_json(job_path, {**job, "parent": os.getpid(), "skip": skip})
        offset = log.stat().st_size if log.is_file() else 0
        code = run_worker("evals.worker", job_path, log, events, take)
        if state.finished:
            return state.result
        current = state.current
        error = last_error(log, offset) if code is not None and code > 0 else None  # a signal leaves no word
        goes_on = state.died(error, code, log)
        on_event({"event": "worker_died", "policy": current, "returncode": code, "error": error, "restarts": goes_on})
        if not goes_on:
            return state.result
