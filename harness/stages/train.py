"""Hands the waiting runs to the seats of an executor, watches them, and records what dies with a process."""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.executors.base import Ended, Event, Executor, Seat
from harness.executors.registry import executor_of
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.state import BACK_OFF_SECONDS, EXIT_IO, MAX_ATTEMPTS, RunStore, record_is_transient
from harness.state.run_locks import RunClaims
from harness.workers.stopping import Stopped, StopSignals
from trainers.common import tail
from trainers.common.processes import Patience

_POLL_SECONDS = 0.05


class TooManyFailures(Exception):
    """`--max-failures` is reached."""


def train_runs(
    plan: Plan,
    waiting: Sequence[RunSpec],
    progress: Progress,
    stops: StopSignals,
    max_failures: int | None = None,
    claims: RunClaims | None = None,
) -> None:
    """Train every waiting run. A run that fails or takes its process down is recorded; the rest goes on.

    Runs start in their order, as many at once as the executor has seats for, controls after their parents. Transient failures
    (`harness.state.failures`) are tried again, after a while; a run that got further since its last failure starts counting
    again.

    Args:
        claims: given where other processes train runs of this output too; without, every waiting run is ours.

    Raises:
        harness.workers.stopping.Stopped: on request; running runs have a checkpoint.
        TooManyFailures: `max_failures` runs have failed for good.
    """
    if not waiting:
        return
    with stops.finishing_steps(), executor_of(plan) as executor:
        if claims is not None:
            executor.prefix = f"{socket.gethostname()}-{os.getpid()}-"
        crew = _Crew(plan, executor, waiting, progress, stops, claims)
        try:
            crew.run(math.inf if max_failures is None else max_failures)
        except Stopped as stopped:
            if stopped.at_once:
                crew.kill()
            raise
        finally:
            if claims is not None:
                claims.give_all_back()
    stops.check()


@dataclass(eq=False)
class _Run:
    """A run to train: its tries, the furthest step one reached, and when the next may start (seconds, monotonic)."""

    spec: RunSpec
    store: RunStore
    attempts: int = 1
    furthest: int = 0
    not_before: float = 0.0


class _Crew:
    """Waiting runs, running runs on their seats, and the count of failures."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        waiting: Sequence[RunSpec],
        progress: Progress,
        stops: StopSignals,
        claims: RunClaims | None,
    ) -> None:
        self.plan, self.executor, self.progress, self.stops, self.claims = plan, executor, progress, stops, claims
        labels = {spec.run_id: f"[{i}/{len(waiting)}] {spec.label}" for i, spec in enumerate(waiting, start=1)}
        self.names = defaultdict(lambda: f"[0/{len(waiting)}] ", labels)
        self.waiting = [_Run(spec, RunStore(plan.run_dir(spec))) for spec in waiting]
        self.running: dict[_Run, Seat] = {}
        if claims is None:  # a failure of an earlier attempt must not count as this one's
            for run in self.waiting:
                run.store.forget("train")
        self._failed, self._told = 0, False

    def run(self, max_failures: float) -> None:
        patience = Patience(_POLL_SECONDS)
        while self.running or (self.waiting and not self._told):
            if not self._told:
                self._assign()
            news = [self._watch(run) for run in list(self.running)]
            asked = self.stops.requested is not None
            if not self._told and (asked or self._failed >= max_failures):
                self._told = True
                for seat in self.running.values():
                    seat.stop()
                if self._failed < max_failures:
                    self.progress.end("finishing and saving the current step; press Ctrl-C again to stop at once")
            if any(news):
                patience.reset()
            else:
                patience.sleep()
        if self._failed >= max_failures and self.stops.requested is None:
            raise TooManyFailures

    def kill(self) -> None:
        for seat in self.running.values():
            with suppress(OSError):
                seat.kill()

    def _assign(self) -> None:
        unfinished = {run.spec.run_id for run in (*self.waiting, *self.running)}
        for run in list(self.waiting):
            spec = run.spec
            if spec.parent in unfinished or time.monotonic() < run.not_before:
                continue
            if self.claims is not None and self.claims.settled(spec):
                if self._described(run, self.claims):
                    self.waiting.remove(run)
                continue
            job = {**self.plan.train_job(spec), "attempt": run.attempts}
            seat = self.executor.seat(job)
            if seat is None:
                return
            if self.claims is not None and not self.claims.take(spec):
                self.executor.release(seat, usable=True)
                run.not_before = time.monotonic() + 1.0
                continue
            if run.attempts > 1 or self.claims is not None:
                run.store.forget_failure()
            self.waiting.remove(run)
            self.running[run] = seat
            seat.start(job)

    def _described(self, run: _Run, claims: RunClaims) -> bool:
        """Whether another worker's run has its files, or needs none; a worker that died before it wrote them is stood in for."""
        if run.store.status().state == "failed" or (run.store.directory / "summary.json").is_file():
            return True
        if not claims.free(run.spec):
            run.not_before = time.monotonic() + 1.0
            return False
        _describe(run.store.directory, self.names[run.spec.run_id], self.progress)
        return True

    def _watch(self, run: _Run) -> bool:
        """Show what a running run told; whether it told anything."""
        polled, over = self.running[run].poll(), False
        for event in polled.events:
            over = over or (event.get("run_id") == run.spec.run_id and event["event"] in ("run_done", "run_failed"))
            _show(event, self.names[event.get("run_id", "")], self.plan, self.progress)
        if polled.ended is None and not over:
            return bool(polled.events)
        seat = self.running.pop(run)
        self.executor.release(seat, usable=polled.ended is None)
        done = run.store.is_done("train", run.spec.fingerprint, verify=False)
        if polled.ended is not None and not over and not done and not self._told:
            self._record_death(run, seat.log, polled.ended)
        failed = not done and run.store.status().state == "failed"
        if failed and not self._told and self._may_try_again(run):
            self.waiting.insert(0, run)
            return True
        self._failed += failed
        if self.claims is not None:
            self.claims.give_back(run.spec)
        return True

    def _record_death(self, run: _Run, log: Path, ended: Ended) -> None:
        code = ended.code
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        message = ended.message or f"training process ended with {how}"
        by_code = code < 0 or code in (0, EXIT_IO)  # 0: someone else told it to stop
        transient = by_code if ended.transient is None else ended.transient
        trace = tail(log, 40) if log.is_file() else ""
        run.store.fail("WorkerDied", message, trace, transient=transient, attempts=run.attempts)
        self.progress.end(f"failed: {run.spec.label}: {message} (see {log})")

    def _may_try_again(self, run: _Run) -> bool:
        status = run.store.status()
        if status.error is None or not record_is_transient(status.error):
            return False
        if status.step > run.furthest:
            run.furthest, run.attempts = status.step, 1
        if run.attempts >= MAX_ATTEMPTS:
            return False
        seconds = BACK_OFF_SECONDS[run.attempts - 1]
        run.attempts, run.not_before = run.attempts + 1, time.monotonic() + seconds
        tries = f"try {run.attempts} of {MAX_ATTEMPTS}"
        self.progress.say(f"{run.spec.label} failed with a transient error: {tries}, in {seconds:g}s")
        return True


#: What to say of an event of a worker about a run, by its name, that needs nothing else done.
_SAID: dict[str, Callable[[Event, str], str]] = {
    "started": lambda event, name: "training process started; importing torch, transformers and trl",
    "run_started": lambda event, name: f"train {name}: tokenising, reference log-probs",
    "note": lambda event, name: f"train {name}: {event['text']}",
    "run_stopped": lambda event, name: (
        f"stopped {name}" + (f" after step {event['step']}" if event["step"] else " before a step")
    ),
    "run_failed": lambda event, name: f"failed {name}: {event['error']}: {event['message'].partition(chr(10))[0]}",
}


def _show(event: Event, name: str, plan: Plan, progress: Progress) -> None:
    kind = event["event"]
    if kind in _SAID:
        progress.end(_SAID[kind](event, name))
    elif kind == "progress" and event["step"]:
        loss, beta = event["loss"], event["dynamic_beta"]
        note = f"loss {loss:.4f}  beta {beta:.4f}" if loss is not None and beta is not None else ""
        progress.tick(f"train {name}: step", event["step"], event["total_steps"], event["eta_seconds"], note)
    elif kind == "run_done":
        folder = plan.output / "runs" / event["run_id"]
        progress.end(f"trained {name} in {RunStore(folder).status().stages['train'].seconds:.0f}s")
        _describe(folder, name, progress)


def _describe(folder: Path, name: str, progress: Progress) -> None:
    """Write a trained run's own metrics, curves and summary."""
    from reports.files.metrics import write_run_files

    try:
        write_run_files(folder)
    except Exception as error:  # a figure must not end a matrix; the report makes these files again
        progress.say(f"metrics of {name} not written yet: {type(error).__name__}: {error}")
