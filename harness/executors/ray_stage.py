"""What runs on a node of a Ray cluster: one task for each stage, the training of one run or the evaluation."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

from harness.executors.artifacts import Mirror
from harness.executors.base import CANCELLED, Ended, Event, Job
from harness.executors.local import ProcessSeat
from harness.state import Held, RunStore, output_lock
from harness.state.lock import once
from harness.state.machine import note_trainer, this_environment
from trainers.common import Events, tail

_POLL_SECONDS = 0.1
_kept: ProcessSeat | None = None  # Ray reuses its processes for tasks on CPUs, so imports are paid once in each


def train_stage(job: Job, folder: str, threads: int | None, mirror: Mirror | None) -> Ended:
    """Train one run in a worker process on this node; events go to `<folder>/ray-<run id>.events.jsonl`.

    The worker is kept for the next run unless it holds GPUs. A file `ray-<run id>.stop` asks for the current step to be
    saved. The run's own lock keeps a task that Ray gave up, but that still lives, from working beside its successor; what it
    has finished meanwhile is not done again.
    """
    place = Path(folder)
    if mirror is not None:
        job, place = mirror.fetch(job), mirror.local(folder)
        told = place / f"ray-{job['train_job']['run_id']}.events.jsonl"
        told.unlink(missing_ok=True)  # of an earlier try on this node
    ended = _train(job, place, threads, mirror)
    if mirror is not None:
        mirror.push(final=True)
    return ended


def _train(job: Job, folder: Path, threads: int | None, mirror: Mirror | None) -> Ended:
    global _kept
    run_dir = Path(job["train_job"]["run_dir"])
    stop, log = (folder / f"ray-{run_dir.name}.{end}" for end in ("stop", "log"))
    events = Events(folder / f"ray-{run_dir.name}.events.jsonl")

    def asked_to_stop() -> bool:
        return stop.exists() if mirror is None else mirror.asked_to_stop(stop.name)

    tell, held = once(lambda text: events.emit("waiting", text=text)), False
    with contextlib.ExitStack() as stack:
        while not held:  # a cancelled task of Ray may not hear of it here
            try:
                stack.enter_context(output_lock(run_dir))
                held = True
            except Held as error:
                tell(str(error))
                if asked_to_stop():
                    return Ended(0, CANCELLED)
                time.sleep(_POLL_SECONDS)
        if RunStore(run_dir).is_done("train", job["fingerprint"], verify=False):
            events.emit("run_done", run_id=run_dir.name)
            return Ended(0)
        note_trainer(RunStore(run_dir), this_environment())
        seat, _kept = _kept, None
        if seat is None or not seat.alive() or seat.threads != threads or seat.log.parent != folder:
            if seat is not None:
                seat.end()
            seat = ProcessSeat(folder, f"ray-{socket.gethostname()}-{os.getpid()}", None, threads)
        events.emit("task_started", host=socket.gethostname(), pid=os.getpid())
        seat.start(job)
        told = False
        try:
            while True:
                polled = seat.poll()
                for event in polled.events:
                    events.emit(**event)
                if any(event["event"] in ("run_done", "run_failed") for event in polled.events):
                    if polled.ended is None and not os.environ.get("CUDA_VISIBLE_DEVICES"):
                        _kept = seat
                    return Ended(0)
                if polled.ended is not None:
                    with contextlib.suppress(OSError):
                        log.write_text(tail(seat.log, 60) + "\n", encoding="utf-8")
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


def evaluate_stage(job: Job, job_path: str, events: str, mirror: Mirror | None) -> Any:
    """Run an evaluation job on this node; returns its `evals.supervise.JobResult`. `events`: the file events are told in."""
    from evals.supervise import run_job

    path, place = Path(job_path), Path(events)
    if mirror is not None:
        job, path, place = mirror.fetch(job), mirror.local(job_path), mirror.local(events)
        place.unlink(missing_ok=True)  # of an earlier try on this node
    log = Events(place)

    def tell(event: Event) -> None:
        log.emit(**event)
        if mirror is not None:
            mirror.push()

    result = run_job(job, path, tell)
    if mirror is not None:
        mirror.push(final=True)
    return result
