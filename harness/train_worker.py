"""`python -m harness.train_worker WORK.json`: trains runs one after another in one process, so imports are paid once.

The work file lists the runs; what happens is appended to an events file as JSON lines and kept in each run's status.json.
A run that raises is recorded with class, message and traceback, and the next one starts. If this process itself dies, the
parent notices from the events which run it was in. SIGTERM ends it at a place the run can go on from (see StopRequest).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from harness.failures import EXIT_IO, MAX_ATTEMPTS, disk_errno, is_transient, record_is_transient
from harness.store import RunStore, set_aside


class TrainingStopped(BaseException):
    """The run was asked to stop; `step` is on disk. Not an Exception, so that nothing takes it for a failure."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class StopRequest:
    """SIGTERM: in a training step the step is finished and a checkpoint saved; while a run's files are written, or its last
    step is done, they are finished; at any other time nothing is lost by stopping at once.

    SIGINT is ignored: a terminal sends it to every process in the foreground, and the parent decides.
    """

    def __init__(self) -> None:
        self.requested = False
        self.stepping = False  # between the first step of a run and its mark
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if not self.stepping and not again:
            raise TrainingStopped(0)

    def callback(self, run_dir: Path) -> Any:
        """What Trainer calls: seals checkpoints, and ends training after the step in which the request came."""
        from transformers import TrainerCallback

        from harness.checkpoints import seal

        request = self

        class StopCallback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                request.stepping = True

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if request.requested and state.global_step < state.max_steps:
                    control.should_save = True

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", run_dir)
                if request.requested and state.global_step < state.max_steps:
                    raise TrainingStopped(state.global_step)

        return StopCallback()


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

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request was in place
        os._exit(1)


@contextlib.contextmanager
def _every_trainer_calls(callback: Any) -> Any:
    """Trainers made inside the block, by whatever objective, call `callback` too."""
    from transformers import trainer

    trainer.DEFAULT_CALLBACKS.append(callback)
    try:
        yield
    finally:
        trainer.DEFAULT_CALLBACKS.remove(callback)


def run_one(job: dict[str, Any], events: Events, request: StopRequest) -> None:
    """Train one run and mark it; raises what training raises."""
    from trainers.data import load_pairs
    from trainers.save import clean_up
    from trainers.schema import ADAPTER_DIR, BETA_HEAD, EXAMPLE_METRICS, LOG_HISTORY, POLICY_DIR, TRAIN_RESULT
    from trainers.train import Progress, TrainJob, train
    from trainers.train_objective import train_objective

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
        store.progress(
            progress.step,
            progress.total_steps,
            loss=progress.loss,
            dynamic_beta=progress.dynamic_beta,
            eta_seconds=progress.eta_seconds,
        )
        events.emit("progress", run_id=train_job.run_id, **vars(progress))

    def attempt() -> None:
        with _every_trainer_calls(request.callback(store.directory)):
            if job.get("objective", "dpo") == "dpo":
                result = train(train_job, pairs, report)
            else:
                result = train_objective(train_job, job["objective"], pairs, report)
        # a run killed between its last step and its mark has no step left to report
        store.progress(result["steps"], result["steps"])

    _set_damaged_checkpoints_aside(store, events)
    with store.heartbeat():
        unproven = _unsealed_checkpoints(store.directory)
        try:
            attempt()
        except Exception as error:
            if request.stepping or not unproven or is_transient(error):
                raise
            # it could not even be loaded: a power cut in the middle of writing it
            for folder in unproven:
                set_aside(folder, store.directory)
            events.emit("note", run_id=train_job.run_id, text="the checkpoint cannot be read; starting the run anew")
            attempt()
        files = [LOG_HISTORY, EXAMPLE_METRICS, TRAIN_RESULT]
        folders = [store.directory / name for name in (POLICY_DIR, ADAPTER_DIR)]
        files += [str(p.relative_to(store.directory)) for f in folders if f.is_dir() for p in sorted(f.iterdir())]
        files += [BETA_HEAD] if (store.directory / BETA_HEAD).is_file() else []
        store.mark_stage("train", job["fingerprint"], files, time.monotonic() - started)
    clean_up(store.directory)


def _unsealed_checkpoints(run_dir: Path) -> list[Path]:
    from harness.checkpoints import is_sealed
    from trainers.schema import CHECKPOINTS

    return [folder for folder in (run_dir / CHECKPOINTS).glob("checkpoint-*") if not is_sealed(folder)]


def _set_damaged_checkpoints_aside(store: RunStore, events: Events) -> None:
    from harness.checkpoints import damaged

    for folder, files in damaged(store.directory).items():
        kept = set_aside(folder, store.directory)
        text = f"{folder.name} is damaged ({files[0]}); set aside as {kept.relative_to(store.directory)}"
        events.emit("note", run_id=store.directory.name, text=text)


def _parent_may_come(job: dict[str, Any]) -> bool:
    """Whether the run this control repeats failed in a way that will be tried again."""
    parent = job["train_job"]["parent_dir"]
    status = RunStore(Path(parent)).status() if parent is not None else None
    if status is None or status["state"] != "failed" or "train" in status["stages"]:
        return False
    return record_is_transient(status["error"]) and int(status["error"].get("attempts", 1)) < MAX_ATTEMPTS


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


def _main(work: dict[str, Any]) -> int:
    request = StopRequest()
    events = Events(Path(work["events"]))
    events.emit("started", pid=os.getpid())
    _quiet()
    for job in work["jobs"]:
        run_id = job["train_job"]["run_id"]
        if request.requested:
            return 0
        if _parent_may_come(job):
            continue
        request.stepping = False
        store = RunStore(Path(job["train_job"]["run_dir"]))
        events.emit("run_started", run_id=run_id)
        try:
            run_one(job, events, request)
        except TrainingStopped as stopped:
            store.stop("SIGTERM", stopped.step or None)
            events.emit("run_stopped", run_id=run_id, step=stopped.step)
            return 0
        except Exception as error:
            transient, message = is_transient(error), str(error)
            record = {"transient": transient, "attempts": job["attempt"], "errno": disk_errno(error)}
            store.fail(type(error).__name__, message, traceback.format_exc(), **record)
            events.emit("run_failed", run_id=run_id, error=type(error).__name__, message=message, transient=transient)
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
