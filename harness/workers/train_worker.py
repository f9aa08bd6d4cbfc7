"""`python -m harness.workers.train_worker WORK.json`: trains runs one after another in one process, so imports are paid once.

The work file names an inbox, to which the parent appends a job a line; what happens is appended to an events file as JSON
lines and kept in each run's status.json. A run that raises is recorded with class, message and traceback, and the next one
may come. If this process itself dies, the parent knows which run it was in. SIGTERM ends it where the run can resume
(see harness.workers.stopping).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness.state import EXIT_IO, RunStore, disk_errno, is_transient, set_aside
from harness.state.records import unusable
from harness.workers.quiet import quiet
from harness.workers.stopping import StopRequest, TrainingStopped
from trainers.common import Events, EventTail, Json, write_json
from trainers.common.processes import Patience, die_with_parent

if TYPE_CHECKING:
    from trainers.formats.pairs import PreferencePair
    from trainers.run.job import Progress


#: Key of a `run_failed` event: no further run is to be given to this process.
PROCESS_ENDS = "process_ends"


@lru_cache(maxsize=2)
def _pairs(path: Path, limit: int | None, seed: int, *state: int) -> list[PreferencePair]:
    """The pairs of a file, read once for all runs of this process while the file's `state` (time, size) is the same."""
    from trainers.formats import load_pairs

    return load_pairs(path, limit, seed)


def fit(job: Json, report: Callable[[Progress], None], request: StopRequest) -> Json:
    """Train the run of a job, with the request's callback in every trainer; returns what `trainers.run.train` does."""
    from transformers import trainer

    from trainers.run.job import TrainJob
    from trainers.run.train import train

    train_job, data = TrainJob(**job["train_job"]), job["data"]
    path, callback = Path(data["path"]), request.callback(train_job.run_dir)
    pairs = _pairs(path, data["limit"], data["seed"], path.stat().st_mtime_ns, path.stat().st_size)
    trainer.DEFAULT_CALLBACKS.append(callback)
    try:
        return train(train_job, list(pairs), report, job.get("objective", "dpo"))
    finally:
        trainer.DEFAULT_CALLBACKS.remove(callback)


def run_one(job: Json, events: Events, request: StopRequest, alone: bool = True) -> None:
    """Train one run and mark it; raises what training raises.

    Args:
        alone: no other process trains this run with this one.
    """
    from trainers.common import training_schema as names
    from trainers.run.save import clean_up

    store = RunStore(Path(job["train_job"]["run_dir"]))
    store.start("train")
    started = time.monotonic()

    def report(progress: Progress) -> None:
        if progress.note is not None:
            events.emit("note", run_id=store.directory.name, text=progress.note)
            return
        logged = {key: getattr(progress, key) for key in ("loss", "dynamic_beta", "eta_seconds")}
        store.progress(progress.step, progress.total_steps, **logged)
        events.emit("progress", run_id=store.directory.name, **vars(progress))

    if alone:
        _keep_whole_checkpoints(store, events)
    result = fit(job, report, request)
    # a run killed between its last step and its mark has no step left to report
    store.progress(result["steps"], result["steps"])
    learned = (names.BETA_HEAD, str(Path(names.BETA_HEAD).with_suffix(".json")), names.BETA_PROBE)
    patterns = (*learned, f"{names.POLICY_DIR}/**/*", f"{names.ADAPTER_DIR}/**/*")
    found = [path for one in patterns for path in sorted(store.directory.glob(one)) if path.is_file()]
    files = [names.LOG_HISTORY, names.EXAMPLE_METRICS, names.TRAIN_RESULT]
    files += [str(path.relative_to(store.directory)) for path in found]
    store.mark_stage("train", job["fingerprint"], files, time.monotonic() - started)
    clean_up(store.directory)


def _keep_whole_checkpoints(store: RunStore, events: Events) -> None:
    """Quarantine corrupt checkpoints and remove incomplete ones: the run resumes from the last whole one."""
    for folder, files in unusable(store.directory).items():
        if files:
            kept = set_aside(folder, store.directory)
            text = f"{folder.name} is corrupt ({files[0]}); moved to {kept.relative_to(store.directory)}"
        else:
            shutil.rmtree(folder)  # not kept: on a disk that was full it would keep it so
            text = f"{folder.name} is incomplete; removed"
        events.emit("note", run_id=store.directory.name, text=text)


def _jobs(inbox: Path, parent: int) -> Iterator[Json]:
    tail, patience = EventTail(inbox), Patience(0.02)
    while os.getppid() == parent:
        if jobs := tail.read():
            yield from jobs
            patience.reset()
        else:
            patience.sleep()


def main(argv: list[str]) -> int:
    """Entry point; returns 0 even if runs failed (their status says so), `EXIT_IO` if the state cannot be written."""
    work = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    if "job" in work:
        return _one_of_several(work)
    die_with_parent(work["parent"])
    try:
        request, events = StopRequest(), Events(Path(work["events"]))
        events.emit("started", pid=os.getpid())
        quiet(TOKENIZERS_PARALLELISM="false")
        for job in _jobs(Path(work["inbox"]), work["parent"]):
            goes_on = cell(job, events, request)
            request.stepping = False
            if request.requested or not goes_on:
                break
    except TrainingStopped:
        pass
    except OSError as error:
        if disk_errno(error) is None:
            raise
        traceback.print_exc()
        return EXIT_IO
    return 0


def _one_of_several(work: Json) -> int:
    """One process of a run that `accelerate launch` trains in several (see `_run_launched`).

    The main process does what `cell` does for a run of one process: state, events, checksums. The others train.
    """

    def end_with_worker() -> None:
        while psutil.pid_exists(work["worker"]):  # not this process' parent: the launcher stands in between
            time.sleep(0.5)
        os._exit(1)

    request = StopRequest()
    threading.Thread(target=end_with_worker, daemon=True).start()
    quiet(TOKENIZERS_PARALLELISM="false")
    with contextlib.suppress(TrainingStopped):
        # RANK as torchrun sets it; accelerate's own state is for the trainer to set up
        if os.environ.get("RANK", "0") == "0":
            cell(work["job"], Events(Path(work["events"])), request, alone=False)
        else:
            fit(work["job"], lambda progress: None, request)
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
            _run_launched(job, events.path)
            return True
        events.emit("run_started", run_id=run_id)
        run_one(job, events, request, alone)
    except TrainingStopped as stopped:
        if "launch" not in job:
            store.stop("SIGTERM", stopped.step or None)
            events.emit("run_stopped", run_id=run_id, step=stopped.step)
        return False
    except Exception as error:
        kind, message, known = type(error).__name__, str(error), {"transient": is_transient(error)}
        store.fail(kind, message, traceback.format_exc(), attempts=job["attempt"], errno=disk_errno(error), **known)
        torch = sys.modules.get("torch")
        spent = alone and torch is not None and bool(torch.cuda.is_initialized())
        events.emit("run_failed", run_id=run_id, error=kind, message=message, **known, **{PROCESS_ENDS: spent})
        return not spent
    events.emit("run_done", run_id=run_id)
    return True


#: torchrun kills what has not ended so many seconds after it was itself told to stop (30 without this): a step may take longer.
_SHUTDOWN_SECONDS = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600"}


def _run_launched(job: Json, events: Path) -> None:
    """Train one run in several processes by `accelerate launch`; SIGTERM is passed on, and they are waited for.

    Raises:
        RuntimeError: the launch failed and no process could say why.
    """
    run_dir, launch = Path(job["train_job"]["run_dir"]), job["launch"]
    work = events.with_name(f"launch-{run_dir.name}.json")
    job = {key: value for key, value in job.items() if key != "launch"}
    write_json(work, {"worker": os.getpid(), "events": str(events), "job": job})
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *launch,
        "-m",
        "harness.workers.train_worker",
        str(work),
    ]
    # in a separate session: a terminal's Ctrl-C is for the parent to decide about, and torchrun takes it for its own
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env={**_SHUTDOWN_SECONDS, **os.environ}, start_new_session=True
    )
    try:
        code = process.wait()
    except TrainingStopped:
        _stop(process)
        process.wait()
        raise
    if code and RunStore(run_dir).status().state != "failed":
        raise RuntimeError(f"accelerate launch ended with code {code}: {shlex.join(command)}")


def _stop(launcher: subprocess.Popen[bytes]) -> None:
    """Tell the processes of the run to stop: their launcher then ends by itself. Told in their stead, it would end at once
    where it started a single one, and leave that alone."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(launcher.pid).children()
    for process in children or [launcher]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
