"""Trains the waiting runs in a worker process, watches it, and records what dies with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.failures import BACK_OFF_SECONDS, EXIT_IO, MAX_ATTEMPTS, record_is_transient
from harness.matrix import RunSpec
from harness.plan import Plan
from harness.progress import Progress
from harness.signals import Stopped, StopSignals
from harness.store import RunStore, write_json


class EventTail:
    """Reads whole JSON lines as they are appended to a file."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as handle:
            handle.seek(self._offset)
            data = handle.read()
        end = data.rfind(b"\n") + 1
        self._offset += end
        return [json.loads(line) for line in data[:end].splitlines()]


def worker_environment() -> dict[str, str]:
    """The environment of a worker: this one, with the project importable from any working directory."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


class TooManyFailures(Exception):
    """`--max-failures` is reached."""


def train_runs(
    plan: Plan, waiting: Sequence[RunSpec], progress: Progress, stops: StopSignals, max_failures: int | None = None
) -> None:
    """Train every waiting run. A run that fails or takes its process down is recorded; the rest goes on.

    Transient failures (`harness.failures`) are tried again, in a new process and after a while; a run that got further
    since its last failure starts counting anew.

    Raises:
        harness.signals.Stopped: on request; the run in work has a checkpoint.
        TooManyFailures: `max_failures` runs have failed for good.
    """
    work_dir = plan.output / "work"
    work_dir.mkdir(parents=True, exist_ok=True)
    stores = {spec.run_id: RunStore(plan.run_dir(spec)) for spec in waiting}
    for store in stores.values():  # a failure of an earlier attempt must not count as this one's
        store.forget("train")
    crew = _Crew(plan, work_dir, progress, stops, {spec.run_id: i for i, spec in enumerate(waiting, start=1)})
    crew.failures_left = max_failures
    left = list(waiting)
    while left:
        ended = crew.run(left)
        if ended is not None:  # the worker died in the middle of this run, or before any (then: the first)
            run_id, code = ended
            spec = next((s for s in left if s.run_id == run_id), left[0])
            if not stores[spec.run_id].is_done("train", spec.fingerprint, verify=False):
                crew.record_death(spec, stores[spec.run_id], code)
        failed = [spec for spec in left if stores[spec.run_id].status()["state"] == "failed"]
        again = [spec for spec in failed if crew.try_again(spec, stores[spec.run_id])]
        done = [s for s in left if stores[s.run_id].is_done("train", s.fingerprint, verify=False)]
        remaining = [s for s in left if s not in done and (s not in failed or s in again)]
        if len(remaining) == len(left) and not again:
            break
        if crew.out_of_failures(len(failed) - len(again)):
            raise TooManyFailures
        if again:
            crew.wait_before(again)
        left = remaining


class _Crew:
    """Runs workers one after another and keeps count of what failed."""

    failures_left: int | None = None

    def __init__(
        self, plan: Plan, work_dir: Path, progress: Progress, stops: StopSignals, number: dict[str, int]
    ) -> None:
        self.plan, self.work_dir, self.progress, self.stops, self.number = plan, work_dir, progress, stops, number
        self.attempts = dict.fromkeys(number, 1)
        self._furthest = dict.fromkeys(number, 0)
        self.labels = {spec.run_id: spec.label for spec in plan.specs}

    def record_death(self, spec: RunSpec, store: RunStore, code: int) -> None:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        log = self.work_dir / "train.log"
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]) if log.is_file() else ""
        message = f"the training process ended with {how}"
        more = {
            "transient": code < 0 or code in (0, EXIT_IO),  # 0: someone else told it to stop
            "attempts": self.attempts[spec.run_id],
        }
        store.fail("WorkerDied", message, tail, **more)
        self.progress.say(f"failed: {spec.label}: {message} (see {log})")

    def try_again(self, spec: RunSpec, store: RunStore) -> bool:
        """Whether a failed run is worth another try; counts it."""
        status = store.status()
        if not record_is_transient(status["error"]):
            return False
        if status["step"] > self._furthest[spec.run_id]:
            self._furthest[spec.run_id], self.attempts[spec.run_id] = status["step"], 1
        if self.attempts[spec.run_id] >= MAX_ATTEMPTS:
            return False
        self.attempts[spec.run_id] += 1
        return True

    def out_of_failures(self, failed: int) -> bool:
        if self.failures_left is None:
            return False
        self.failures_left -= failed
        return self.failures_left <= 0

    def wait_before(self, again: Sequence[RunSpec]) -> None:
        seconds = max(BACK_OFF_SECONDS[self.attempts[spec.run_id] - 2] for spec in again)
        for spec in again:
            tries = f"try {self.attempts[spec.run_id]} of {MAX_ATTEMPTS}"
            self.progress.say(f"{spec.label} may go better later: {tries}, in {seconds:g}s")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.stops.check()
            time.sleep(0.1)

    def run(self, runs: Sequence[RunSpec]) -> tuple[str, int] | None:
        """One worker over `runs`; None if it finished, else (run it was in or '', its return code).

        Raises:
            harness.signals.Stopped: on request, once the worker has saved its checkpoint and ended.
        """
        events_path, work_path = self.work_dir / "train.events.jsonl", self.work_dir / "train.json"
        events_path.unlink(missing_ok=True)
        jobs = [{**self.plan.train_job(spec), "attempt": self.attempts[spec.run_id]} for spec in runs]
        write_json(work_path, {"parent": os.getpid(), "events": str(events_path), "jobs": jobs})
        tail, current, finished, told, failures = EventTail(events_path), "", False, False, 0
        with self.stops.finishing_steps():
            with (self.work_dir / "train.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "harness.train_worker", str(work_path)],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=worker_environment(),
                )
            try:
                alive = True
                while alive:
                    alive = process.poll() is None
                    for event in tail.read():
                        run_id = event.get("run_id", "")
                        if event["event"] == "run_started":
                            current = run_id
                        elif event["event"] in ("run_done", "run_failed"):
                            current = ""
                        failures += event["event"] == "run_failed" and not event["transient"]
                        finished = finished or event["event"] == "finished"
                        _show(event, self.labels, self.number, self.plan, self.progress)
                    enough = self.failures_left is not None and failures >= self.failures_left
                    if alive and not told and (self.stops.requested is not None or enough):
                        told = True
                        process.terminate()
                        if not enough:
                            self.progress.clear()
                            self.progress.say("finishing the step and saving it; Ctrl-C once more stops at once")
                    if alive:
                        time.sleep(0.1)
            except Stopped:
                process.kill()
                raise
            finally:
                _end(process)
        self.stops.check()
        return None if finished or told else (current, process.returncode)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _show(
    event: dict[str, Any], labels: dict[str, str], number: dict[str, int], plan: Plan, progress: Progress
) -> None:
    run_id = event.get("run_id", "")
    name = f"[{number.get(run_id, 0)}/{len(number)}] {labels.get(run_id, run_id)}"
    if event["event"] == "started":
        progress.say("training process started; importing torch, transformers and trl")
    elif event["event"] == "run_started":
        progress.say(f"train {name}: tokenising, reference log-probs")
    elif event["event"] == "progress" and event["step"]:
        loss, beta = event["loss"], event["dynamic_beta"]
        note = f"loss {loss:.4f}  beta {beta:.4f}" if loss is not None and beta is not None else ""
        progress.tick(f"train {name}: step", event["step"], event["total_steps"], event["eta_seconds"], note)
    elif event["event"] == "note":
        progress.clear()
        progress.say(f"train {name}: {event['text']}")
    elif event["event"] == "run_done":
        from reports.metrics import write_run_files

        seconds = RunStore(plan.output / "runs" / run_id).status()["stages"]["train"]["seconds"]
        progress.clear()
        progress.say(f"trained {name} in {seconds:.0f}s")
        try:
            write_run_files(plan.output / "runs" / run_id)
        except Exception as error:  # a figure must not end a matrix; the report makes these files again
            progress.say(f"metrics of {name} could not be written yet: {type(error).__name__}: {error}")
    elif event["event"] == "run_stopped":
        progress.clear()
        progress.say(f"stopped {name}" + (f" after step {event['step']}" if event["step"] else " before a step"))
    elif event["event"] == "run_failed":
        progress.clear()
        progress.say(f"failed {name}: {event['error']}: {event['message'].splitlines()[0] if event['message'] else ''}")
