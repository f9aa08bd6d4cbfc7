"""What runs on a node of a Ray cluster: one task for each stage, the training of one run or the evaluation."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.executors.artifacts import Mirror
from harness.executors.base import CANCELLED, Ended, Event, Job
from harness.executors.local import ProcessSeat
from harness.plan.machine import this_environment
from harness.state import Held, RunStore, output_lock
from harness.state.environment import note_trainer

_POLL_SECONDS = 0.1
_kept: ProcessSeat | None = None  # Ray reuses its processes for tasks on CPUs, so imports are paid once in each


def _append(path: Path, record: Event) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as handle:
        handle.write(json.dumps(record).encode() + b"\n")


def train_stage(job: Job, folder: str, threads: int | None, mirror: Mirror | None) -> Ended:
    """Train one run in a worker process on this node; events go to `<folder>/ray-<run id>.events.jsonl`.

    The worker is kept for the next run unless it holds GPUs. A file `ray-<run id>.stop` asks for the current step to be
    saved. The run's own lock keeps a task that Ray gave up, but that still lives, from working beside its successor; what it
    has finished meanwhile is not done again.
    """
    if mirror is None:
        return _train(job, Path(folder), threads, None)
    local_job, scratch = mirror.fetch(job), mirror.local(folder)
    _events(scratch, local_job).unlink(missing_ok=True)  # of an earlier try on this node
    ended = _train(local_job, scratch, threads, mirror)
    mirror.push(final=True)
    return ended


def _events(folder: Path, job: Job) -> Path:
    return folder / f"ray-{job['train_job']['run_id']}.events.jsonl"


def _train(job: Job, folder: Path, threads: int | None, mirror: Mirror | None) -> Ended:
    global _kept
    run_dir = Path(job["train_job"]["run_dir"])
    events = _events(folder, job)
    stop, log = (folder / f"ray-{run_dir.name}.{end}" for end in ("stop", "log"))

    def asked_to_stop() -> bool:
        return stop.exists() if mirror is None else mirror.asked_to_stop(stop.name)

    with _hold(run_dir, events, asked_to_stop) as held:
        if not held:
            return Ended(0, CANCELLED)
        if RunStore(run_dir).is_done("train", job["fingerprint"], verify=False):
            _append(events, {"event": "run_done", "run_id": run_dir.name})
            return Ended(0)
        note_trainer(RunStore(run_dir), this_environment())
        seat, _kept = _kept, None
        if seat is None or not seat.alive() or seat.threads != threads or seat.log.parent != folder:
            if seat is not None:
                seat.end()
            seat = ProcessSeat(folder, f"ray-{socket.gethostname()}-{os.getpid()}", None, threads)
        _append(events, {"event": "task_started", "host": socket.gethostname(), "pid": os.getpid()})
        seat.start(job)
        told = False
        try:
            while True:
                polled = seat.poll()
                for event in polled.events:
                    _append(events, event)
                over = any(event["event"] in ("run_done", "run_failed") for event in polled.events)
                if over and polled.ended is None and not os.environ.get("CUDA_VISIBLE_DEVICES"):
                    _kept = seat
                if over:
                    return Ended(0)
                if polled.ended is not None:
                    _copy_tail(seat.log, log)
                    return polled.ended
                if mirror is not None:
                    mirror.push()
                if not told and asked_to_stop():
                    told = True
                    seat.stop()
                time.sleep(_POLL_SECONDS)
        finally:
            if _kept is not seat:
                seat.end()


@contextlib.contextmanager
def _hold(run_dir: Path, events: Path, asked_to_stop: Callable[[], bool]) -> Iterator[bool]:
    """The run's lock, waited for; False if this is asked to stop before. A cancelled task of Ray may not hear of it here."""
    said = False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(output_lock(run_dir))
            except Held as error:
                if not said:
                    _append(events, {"event": "waiting", "text": str(error)})
                said = True
            else:
                yield True
                return
            if asked_to_stop():
                yield False
                return
            time.sleep(_POLL_SECONDS)


def _copy_tail(log: Path, to: Path, lines: int = 60) -> None:
    with contextlib.suppress(OSError):
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        to.write_text("\n".join(tail) + "\n", encoding="utf-8")


def evaluate_stage(job: Job, job_path: str, events: str, mirror: Mirror | None) -> Any:
    """Run an evaluation job on this node; returns its `evals.supervise.JobResult`. `events`: the file events are told in."""
    from evals.supervise import run_job

    if mirror is None:
        return run_job(job, Path(job_path), lambda event: _append(Path(events), event))
    job = mirror.fetch(job)
    mirror.local(events).unlink(missing_ok=True)  # of an earlier try on this node

    def tell(event: Event) -> None:
        _append(mirror.local(events), event)
        mirror.push()

    result = run_job(job, mirror.local(job_path), tell)
    mirror.push(final=True)
    return result
