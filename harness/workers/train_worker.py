"""`python -m harness.workers.train_worker WORK.json`: trains runs one after another in one process, so imports are paid once.

The work file names an inbox, to which the parent appends a job a line; what happens is appended to an events file as JSON
lines and kept in each run's status.json. A run that raises is recorded with class, message and traceback, and the next one
may come. If this process itself dies, the parent knows which run it was in. SIGTERM ends it where the run can resume
(see harness.workers.stop_request).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.state import EXIT_IO, RunStore, disk_errno, is_transient, set_aside
from harness.workers.launcher import run_launched
from harness.workers.quiet import quiet
from harness.workers.stop_request import StopRequest, TrainingStopped
from trainers.common import Events, EventTail, Json
from trainers.common.processes import Patience, die_with_parent

if TYPE_CHECKING:
    from trainers.formats.pairs import PreferencePair
    from trainers.run.job import Progress, TrainJob


#: Key of a `run_failed` event: no further run is to be given to this process.
PROCESS_ENDS = "process_ends"


@contextlib.contextmanager
def _every_trainer_calls(callback: Any) -> Any:
    from transformers import trainer

    trainer.DEFAULT_CALLBACKS.append(callback)
    try:
        yield
    finally:
        trainer.DEFAULT_CALLBACKS.remove(callback)


def _read_job(job: Json) -> tuple[TrainJob, list[PreferencePair]]:
    from trainers.run.job import TrainJob

    train_job = TrainJob(**job["train_job"])
    path = Path(job["data"]["path"])
    state = path.stat()
    return train_job, list(_pairs(path, job["data"]["limit"], job["data"]["seed"], state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=2)
def _pairs(path: Path, limit: int | None, seed: int, *state: int) -> list[PreferencePair]:
    """The pairs of a file, read once for all runs of this process while the file's `state` (time, size) is the same."""
    from trainers.formats import load_pairs

    return load_pairs(path, limit, seed)


def _fit(
    job: Json,
    train_job: TrainJob,
    pairs: list[PreferencePair],
    report: Callable[[Progress], None],
    request: StopRequest,
) -> Json:
    from trainers.run.train import train

    with _every_trainer_calls(request.callback(train_job.run_dir)):
        return train(train_job, pairs, report, job.get("objective", "dpo"))


def train_beside(job: Json, request: StopRequest) -> None:
    """Train a run of several processes in one that is not the main one."""
    train_job, pairs = _read_job(job)
    _fit(job, train_job, pairs, lambda progress: None, request)


def run_one(job: Json, events: Events, request: StopRequest, alone: bool = True) -> None:
    """Train one run and mark it; raises what training raises.

    Args:
        alone: no other process trains this run with this one (see `harness.workers.launched`).
    """
    from trainers.common.training_schema import (
        ADAPTER_DIR,
        BETA_HEAD,
        BETA_PROBE,
        EXAMPLE_METRICS,
        LOG_HISTORY,
        POLICY_DIR,
        TRAIN_RESULT,
    )
    from trainers.run.save import clean_up

    store = RunStore(Path(job["train_job"]["run_dir"]))
    store.start("train")
    started = time.monotonic()
    train_job, pairs = _read_job(job)

    def report(progress: Progress) -> None:
        if progress.note is not None:
            events.emit("note", run_id=train_job.run_id, text=progress.note)
            return
        store.progress(
            progress.step,
            progress.total_steps,
            loss=progress.loss,
            dynamic_beta=progress.dynamic_beta,
            eta_seconds=progress.eta_seconds,
        )
        events.emit("progress", run_id=train_job.run_id, **vars(progress))

    if alone:
        _keep_whole_checkpoints(store, events)
    with store.heartbeat():
        result = _fit(job, train_job, pairs, report, request)
        # a run killed between its last step and its mark has no step left to report
        store.progress(result["steps"], result["steps"])
        files = [LOG_HISTORY, EXAMPLE_METRICS, TRAIN_RESULT]
        folders = [store.directory / name for name in (POLICY_DIR, ADAPTER_DIR)]
        found = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
        files += [str(path.relative_to(store.directory)) for path in found]
        learned = (BETA_HEAD, str(Path(BETA_HEAD).with_suffix(".json")), BETA_PROBE)
        files += [name for name in learned if (store.directory / name).is_file()]
        store.mark_stage("train", job["fingerprint"], files, time.monotonic() - started)
    clean_up(store.directory)


def _keep_whole_checkpoints(store: RunStore, events: Events) -> None:
    """Quarantine corrupt checkpoints and remove incomplete ones: the run resumes from the last whole one."""
    from harness.state.checkpoints import damaged, unfinished

    for folder, files in damaged(store.directory).items():
        kept = set_aside(folder, store.directory)
        text = f"{folder.name} is corrupt ({files[0]}); moved to {kept.relative_to(store.directory)}"
        events.emit("note", run_id=store.directory.name, text=text)
    for folder in unfinished(store.directory):
        shutil.rmtree(folder)  # not kept: on a disk that was full it would keep it so
        events.emit("note", run_id=store.directory.name, text=f"{folder.name} is incomplete; removed")


def _jobs(inbox: Path, parent: int) -> Iterator[Json]:
    tail, patience = EventTail(inbox), Patience(0.02)
    while os.getppid() == parent:
        jobs = tail.read()
        for job in jobs:
            yield job
            patience.reset()
        if not jobs:
            patience.sleep()


def main(argv: list[str]) -> int:
    """Entry point; returns 0 even if runs failed (their status says so), `EXIT_IO` if the state cannot be written."""
    work = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    die_with_parent(work["parent"])
    try:
        return _main(work)
    except TrainingStopped:
        return 0
    except OSError as error:
        if disk_errno(error) is None:
            raise
        traceback.print_exc()
        return EXIT_IO


def _main(work: Json) -> int:
    request = StopRequest()
    events = Events(Path(work["events"]))
    events.emit("started", pid=os.getpid())
    quiet(TOKENIZERS_PARALLELISM="false")
    for job in _jobs(Path(work["inbox"]), work["parent"]):
        if not cell(job, events, request):
            return 0
        request.stepping = False
        if request.requested:
            return 0
    return 0


def cell(job: Json, events: Events, request: StopRequest, alone: bool = True) -> bool:
    """One cell of a matrix: train the run, and record its outcome. False if this process is to end.

    It is where it was told to stop, and where a run failed that used CUDA: after some errors (a device-side assert, an illegal
    access, ECC) every later run in this process would fail too. This is what every executor ends up calling, in a process of
    one run after another or in one of `accelerate launch`.
    """
    run_id = job["train_job"]["run_id"]
    store = RunStore(Path(job["train_job"]["run_dir"]))
    try:
        if "launch" in job:
            _keep_whole_checkpoints(store, events)
            run_launched(job, events.path)
            return True
        events.emit("run_started", run_id=run_id)
        run_one(job, events, request, alone)
    except TrainingStopped as stopped:
        if "launch" not in job:
            store.stop("SIGTERM", stopped.step or None)
            events.emit("run_stopped", run_id=run_id, step=stopped.step)
        return False
    except Exception as error:
        transient, message = is_transient(error), str(error)
        record = {"transient": transient, "attempts": job["attempt"], "errno": disk_errno(error)}
        store.fail(type(error).__name__, message, traceback.format_exc(), **record)
        told = {"run_id": run_id, "error": type(error).__name__, "message": message, "transient": transient}
        spent = alone and _used_cuda()
        events.emit("run_failed", **told, **{PROCESS_ENDS: spent})
        return not spent
    else:
        events.emit("run_done", run_id=run_id)
    return True


def _used_cuda() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
