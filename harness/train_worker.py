"""`python -m harness.train_worker WORK.json`: trains runs one after another in one process, so imports are paid once.

The work file lists the runs; what happens is appended to an events file as JSON lines and kept in each run's status.json.
A run that raises is recorded with class, message and traceback, and the next one starts. If this process itself dies, the
parent notices from the events which run it was in.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from harness.store import RunStore


class Events:
    """Appends JSON lines that the parent reads."""

    def __init__(self, path: Path) -> None:
        self._handle = path.open("a", encoding="utf-8")

    def emit(self, event: str, **values: Any) -> None:
        self._handle.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
        self._handle.flush()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` dies (Linux); elsewhere a killed parent leaves it running."""
    if sys.platform != "linux":
        return
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request was in place
        os._exit(1)


def run_one(job: dict[str, Any], events: Events) -> None:
    """Train one run and mark it; raises what training raises."""
    from trainers.data import load_pairs
    from trainers.save import clean_up
    from trainers.schema import EXAMPLE_METRICS, LOG_HISTORY, POLICY_DIR, TRAIN_RESULT
    from trainers.train import Progress, TrainJob, train

    store = RunStore(Path(job["train_job"]["run_dir"]))
    store.start("train")
    started = time.monotonic()
    values = job["train_job"]
    train_job = TrainJob(
        **{
            **values,
            "run_dir": Path(values["run_dir"]),
            "model_path": Path(values["model_path"]),
            "reference_root": Path(values["reference_root"]),
            "parent_dir": Path(values["parent_dir"]) if values["parent_dir"] is not None else None,
        }
    )
    pairs = load_pairs(Path(job["data"]["path"]), job["data"]["limit"], job["data"]["seed"])

    def report(progress: Progress) -> None:
        if progress.note is not None:
            events.emit("note", run_id=train_job.run_id, text=progress.note)
            return
        store.progress(progress.step, progress.total_steps, loss=progress.loss, dynamic_beta=progress.dynamic_beta)
        events.emit("progress", run_id=train_job.run_id, **vars(progress))

    train(train_job, pairs, report)
    files = [LOG_HISTORY, EXAMPLE_METRICS, TRAIN_RESULT]
    files += [str(path.relative_to(store.directory)) for path in sorted((store.directory / POLICY_DIR).iterdir())]
    store.mark_stage("train", job["fingerprint"], files, time.monotonic() - started)
    clean_up(store.directory)


def main(argv: list[str]) -> int:
    """Entry point; returns 0 even if runs failed (their status says so)."""
    work = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    die_with_parent(work["parent"])
    events = Events(Path(work["events"]))
    events.emit("started", pid=os.getpid())
    _quiet()
    for job in work["jobs"]:
        run_id = job["train_job"]["run_id"]
        events.emit("run_started", run_id=run_id)
        try:
            run_one(job, events)
        except Exception as error:
            RunStore(Path(job["train_job"]["run_dir"])).fail(type(error).__name__, str(error), traceback.format_exc())
            events.emit("run_failed", run_id=run_id, error=type(error).__name__, message=str(error))
        else:
            events.emit("run_done", run_id=run_id)
    events.emit("finished")
    return 0


def _quiet() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import transformers

    transformers.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
