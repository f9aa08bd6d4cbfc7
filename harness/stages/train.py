"""Hands the waiting runs to the seats of an executor, watches them, and records what dies with a process."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from harness.executors.base import Ended, Event, Executor, Seat
from harness.executors.registry import executor_of
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.state.failures import BACK_OFF_SECONDS, EXIT_IO, MAX_ATTEMPTS, record_is_transient
from harness.state.store import RunStore
from harness.workers.signals import Stopped, StopSignals
from trainers.common.processes import Patience

_POLL_SECONDS = 0.05


class TooManyFailures(Exception):
    """`--max-failures` is reached."""


class Claims(Protocol):
    """Who may work on a run, where several schedulers share an output (see `harness.state.run_locks`)."""

    def take(self, spec: RunSpec) -> bool:
        """Whether the run is ours now and still to be trained."""

    def settled(self, spec: RunSpec) -> bool:
        """Whether someone has brought the run to its end."""

    def give_back(self, spec: RunSpec) -> None: ...


def train_runs(
    plan: Plan,
    waiting: Sequence[RunSpec],
    progress: Progress,
    stops: StopSignals,
    max_failures: int | None = None,
    claims: Claims | None = None,
) -> None:
    """Train every waiting run. A run that fails or takes its process down is recorded; the rest goes on.

    Runs start in their order, as many at once as the executor has seats for, controls after their parents. Transient failures
    (`harness.state.failures`) are tried again, after a while; a run that got further since its last failure starts counting
    again.

    Args:
        claims: given where other processes train runs of this output too; without, every waiting run is ours.

    Raises:
        harness.workers.signals.Stopped: on request; running runs have a checkpoint.
        TooManyFailures: `max_failures` runs have failed for good.
    """
    if not waiting:
        return
    with stops.finishing_steps(), executor_of(plan) as executor:
        if claims is not None:
            executor.prefix = f"{socket.gethostname()}-{os.getpid()}-"
        crew = _Crew(plan, executor, waiting, progress, stops, max_failures, claims)
        try:
            crew.run()
        except Stopped as stopped:
            if stopped.at_once:
                crew.kill()
            raise
        finally:
            crew.give_all_back()
    stops.check()


@dataclass
class _InWork:
    """A run on its seat."""

    spec: RunSpec
    seat: Seat
    begun: bool = False


class _Crew:
    """Waiting runs, running runs, and the count of failures."""

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        waiting: Sequence[RunSpec],
        progress: Progress,
        stops: StopSignals,
        max_failures: int | None,
        claims: Claims | None,
    ) -> None:
        self.plan, self.executor, self.progress, self.stops, self.claims = plan, executor, progress, stops, claims
        self.number = {spec.run_id: i for i, spec in enumerate(waiting, start=1)}
        self.labels = {spec.run_id: spec.label for spec in plan.specs}
        self.stores = {spec.run_id: RunStore(plan.run_dir(spec)) for spec in waiting}
        if claims is None:
            for store in self.stores.values():  # a failure of an earlier attempt must not count as this one's
                store.forget("train")
        self.waiting, self.in_work = list(waiting), list[_InWork]()
        self.attempts = dict.fromkeys(self.number, 1)
        self._furthest, self._not_before = dict.fromkeys(self.number, 0), dict.fromkeys(self.number, 0.0)
        self._owned: set[str] = set()
        self._failures_left = max_failures
        self._told = False

    def run(self) -> None:
        patience = Patience(_POLL_SECONDS)
        while self.waiting or self.in_work:
            if not self._told:
                self._assign()
            news = [self._watch(one) for one in list(self.in_work)]
            over = self._failures_left is not None and self._failures_left <= 0
            if not self._told and (over or self.stops.requested is not None):
                self._told = True
                for one in self.in_work:
                    one.seat.stop()
                if not over:
                    self.progress.clear()
                    self.progress.say("finishing and saving the current step; press Ctrl-C again to stop at once")
            if self._told and not self.in_work:
                break
            if any(news):
                patience.reset()
            else:
                patience.sleep()
        if self._failures_left is not None and self._failures_left <= 0 and self.stops.requested is None:
            raise TooManyFailures

    def kill(self) -> None:
        for one in self.in_work:
            with suppress(OSError):
                one.seat.kill()

    def give_all_back(self) -> None:
        for spec in self.plan.specs:
            self._give_back(spec)

    def _give_back(self, spec: RunSpec) -> None:
        if self.claims is not None and spec.run_id in self._owned:
            self.claims.give_back(spec)
            self._owned.discard(spec.run_id)

    def _assign(self) -> None:
        unfinished = {spec.run_id for spec in self.waiting} | {one.spec.run_id for one in self.in_work}
        for spec in list(self.waiting):
            if spec.parent in unfinished or time.monotonic() < self._not_before[spec.run_id]:
                continue
            if self.claims is not None and spec.run_id not in self._owned and self.claims.settled(spec):
                self.waiting.remove(spec)
                continue
            job = {**self.plan.train_job(spec), "attempt": self.attempts[spec.run_id]}
            seat = self.executor.seat(job)
            if seat is None:
                return
            if self.claims is not None and spec.run_id not in self._owned:
                if not self.claims.take(spec):
                    self.executor.release(seat, usable=True)
                    self._not_before[spec.run_id] = time.monotonic() + 1.0
                    continue
                self._owned.add(spec.run_id)
            if self.attempts[spec.run_id] > 1 or self.claims is not None:
                self.stores[spec.run_id].forget_failure()
            self.waiting.remove(spec)
            self.in_work.append(_InWork(spec, seat))
            seat.start(job)

    def _watch(self, one: _InWork) -> bool:
        polled = one.seat.poll()
        run_id, over = one.spec.run_id, False
        for event in polled.events:
            over = over or (event.get("run_id") == run_id and event["event"] in ("run_done", "run_failed"))
            _show(event, self.labels, self.number, self.plan, self.progress)
        if polled.ended is None and not over:
            return bool(polled.events)
        self.in_work.remove(one)
        self.executor.release(one.seat, usable=polled.ended is None)
        store = self.stores[run_id]
        done = store.is_done("train", one.spec.fingerprint, verify=False)
        if polled.ended is not None and not over and not done and not self._told:
            self._record_death(one, polled.ended)
        failed = not done and store.status().state == "failed"
        if failed and not self._told and self._may_try_again(one.spec):
            self.waiting.insert(0, one.spec)
            return True
        if failed and self._failures_left is not None:
            self._failures_left -= 1
        self._give_back(one.spec)
        return True

    def _record_death(self, one: _InWork, ended: Ended) -> None:
        code = ended.code
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        log = one.seat.log
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]) if log.is_file() else ""
        message = ended.message or f"training process ended with {how}"
        by_code = code < 0 or code in (0, EXIT_IO)  # 0: someone else told it to stop
        more = {
            "transient": by_code if ended.transient is None else ended.transient,
            "attempts": self.attempts[one.spec.run_id],
        }
        self.stores[one.spec.run_id].fail("WorkerDied", message, tail, **more)
        self.progress.clear()
        self.progress.say(f"failed: {one.spec.label}: {message} (see {log})")

    def _may_try_again(self, spec: RunSpec) -> bool:
        status = self.stores[spec.run_id].status()
        if status.error is None or not record_is_transient(status.error):
            return False
        if status.step > self._furthest[spec.run_id]:
            self._furthest[spec.run_id], self.attempts[spec.run_id] = status.step, 1
        if self.attempts[spec.run_id] >= MAX_ATTEMPTS:
            return False
        self.attempts[spec.run_id] += 1
        seconds = BACK_OFF_SECONDS[self.attempts[spec.run_id] - 2]
        self._not_before[spec.run_id] = time.monotonic() + seconds
        tries = f"try {self.attempts[spec.run_id]} of {MAX_ATTEMPTS}"
        self.progress.say(f"{spec.label} failed with a transient error: {tries}, in {seconds:g}s")
        return True


def _show(event: Event, labels: dict[str, str], number: dict[str, int], plan: Plan, progress: Progress) -> None:
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
        from reports.files.metrics import write_run_files

        seconds = RunStore(plan.output / "runs" / run_id).status().stages["train"].seconds
        progress.clear()
        progress.say(f"trained {name} in {seconds:.0f}s")
        try:
            write_run_files(plan.output / "runs" / run_id)
        except Exception as error:  # a figure must not end a matrix; the report makes these files again
            progress.say(f"metrics of {name} not written yet: {type(error).__name__}: {error}")
    elif event["event"] == "run_stopped":
        progress.clear()
        progress.say(f"stopped {name}" + (f" after step {event['step']}" if event["step"] else " before a step"))
    elif event["event"] == "run_failed":
        progress.clear()
        progress.say(f"failed {name}: {event['error']}: {event['message'].splitlines()[0] if event['message'] else ''}")
