"""Worker processes on this machine: each serves run after run, with its own GPUs and threads."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import Field

from evals.supervise import JobResult, run_job
from harness.executors import base, memory
from harness.executors.base import Ended, Event, Job, Polled
from harness.plan.plan import Plan
from harness.workers.train_worker import PROCESS_ENDS
from trainers.common import EventTail, UserError, write_json


def worker_environment(gpus: list[str] | None = None, threads: int | None = None) -> dict[str, str]:
    """The environment of a worker: this one, with the project importable from any working directory."""
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    if threads is not None:
        environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return environment


class ProcessSeat(base.Seat):
    """A worker process (`harness.workers.train_worker`) that is started with the first run and kept for the next ones.

    Args:
        folder: where its work, inbox, events and log files go, all beginning with `name`.
        launch: arguments of `accelerate launch`, for runs of several processes.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        gpus: list[str] | None = None,
        threads: int | None = None,
        launch: list[str] | None = None,
    ) -> None:
        self.gpus, self.threads, self.launch, self.expected_bytes = gpus, threads, launch, 0
        self.log = folder / f"{name}.log"
        self._work, self._inbox = folder / f"{name}.json", folder / f"{name}.inbox.jsonl"
        self._events = folder / f"{name}.events.jsonl"
        self._process: subprocess.Popen[bytes] | None = None
        self._ends = False  # it has told so: no run is to be given to it
        self._tail = EventTail(self._events)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def _living(self) -> "list[subprocess.Popen[bytes]]":
        """Its process, while that runs."""
        return [one for one in [self._process] if one is not None and one.poll() is None]

    def alive(self) -> bool:
        return bool(self._living)

    def start(self, job: Job) -> None:
        if self._ends:
            self.kill()
        if not self.alive():
            self._ends = False
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._events.unlink(missing_ok=True)
            self._inbox.write_bytes(b"")  # there before the worker, which may look into it before a job is written
            self._tail = EventTail(self._events)
            write_json(self._work, {"parent": os.getpid(), "events": str(self._events), "inbox": str(self._inbox)})
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "harness.workers.train_worker", str(self._work)],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=worker_environment(self.gpus, self.threads),
                )
        if self.launch is not None:
            job = {**job, "launch": self.launch}
        with self._inbox.open("ab") as handle:
            handle.write(json.dumps(job).encode() + b"\n")

    def poll(self) -> Polled:
        code = self._process.poll() if self._process is not None else None  # before the events: none comes after
        events = self._tail.read()
        self._ends = self._ends or any(event.get(PROCESS_ENDS) for event in events)
        return Polled(events, None if code is None else Ended(code))

    def stop(self) -> None:
        for process in self._living:
            process.terminate()

    def kill(self) -> None:
        for process in self._living:
            process.kill()
            process.wait()

    def end(self) -> None:
        """End it in good order: an idle worker at once, one in a step within 10 seconds."""
        self.stop()
        for process in self._living:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        self.kill()


# Runs of several processes: what `accelerate launch` is told.


def launch_arguments(plan: Plan, accelerate: str | None, gpus_per_run: int) -> list[str] | None:
    """Arguments of `accelerate launch` for one run on one machine; None for a run in one process.

    Args:
        accelerate: a file that `accelerate config` wrote, relative to the matrix file; without, DDP over the run's GPUs.

    Raises:
        UserError: no such file.
    """
    processes = ["--num_processes", str(gpus_per_run)] if gpus_per_run > 1 else []
    if accelerate is None:
        return ["--multi_gpu", "--num_machines", "1", *processes, "--main_process_port", "0"] if processes else None
    path = plan.source.beside(accelerate).resolve()
    if not path.is_file():
        at = plan.source.at("executor", "accelerate")
        raise UserError(f"{at} is {accelerate!r}; no such file: {path} (paths are relative to the matrix file)")
    return ["--config_file", str(path), *processes, "--main_process_port", "0"]


def gpus_of_launch(plan: Plan, accelerate: str | None) -> int:
    """GPUs that a run takes if nothing else is said: one for each process of the file, 1 without a file."""
    try:
        found = yaml.safe_load(plan.source.beside(accelerate).read_text(encoding="utf-8")) if accelerate else {}
        return 0 if found.get("use_cpu") else int(found.get("num_processes", 1))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return 1  # what is wrong with it is said when it is used


class LocalSettings(base.Settings):
    """`max_parallel` runs at once (default: one for each `gpus_per_run` GPUs, else one for 4 cores), `threads` for each.

    `memory_gib` replaces the estimate of what a run takes. With `gpus_per_run` above 1, or with `accelerate` (a file of
    `accelerate config`, relative to the matrix file), a run is trained by `accelerate launch`.
    """

    kind: str = "local"
    max_parallel: int | None = Field(None, gt=0)
    gpus_per_run: int = Field(1, ge=0)
    threads: int | None = Field(None, gt=0)
    memory_gib: float | None = Field(None, gt=0, allow_inf_nan=False)
    accelerate: str | None = None


class LocalExecutor(base.Executor):
    """As many workers as GPUs, cores and memory allow; the first run is always let in."""

    Settings = LocalSettings
    settings: LocalSettings

    def __init__(self, plan: Plan, settings: LocalSettings) -> None:
        super().__init__(plan, settings)
        self._gpus = memory.visible_gpus() if settings.gpus_per_run else []
        self._free_gpus = list(self._gpus)
        cores = len(os.sched_getaffinity(0))
        most = max(len(self._gpus) // settings.gpus_per_run, 1) if self._gpus else max(cores // 4, 1)
        self.max_parallel = settings.max_parallel or most
        if self._gpus:
            self.max_parallel = min(self.max_parallel, most)
        divided = max(cores // self.max_parallel, 1) if self.max_parallel > 1 else None
        self.threads = settings.threads or divided
        self._busy: list[ProcessSeat] = []
        self._idle: list[ProcessSeat] = []
        self._peaks: dict[str, int] = {}
        self._folder = plan.output / "work"
        self._launch = launch_arguments(plan, settings.accelerate, len(self._gpus) and settings.gpus_per_run)

    def seat(self, job: Job) -> ProcessSeat | None:
        if len(self._busy) >= self.max_parallel:
            return None
        needed = self._expected_bytes(job) if self.max_parallel > 1 else 0  # one at a time is always let in
        if self._busy and not self._fits(needed):
            return None
        seat = self._idle.pop(0) if self._idle else self._new_seat()
        seat.expected_bytes = needed
        self._busy.append(seat)
        return seat

    def _expected_bytes(self, job: Job) -> int:
        if self.settings.memory_gib is not None:
            return int(self.settings.memory_gib * 2**30)
        return memory.run_bytes(self.plan, job["train_job"]["training"], self._peaks)

    def _fits(self, needed: int) -> bool:
        if self._gpus:  # each worker has its own GPUs; full ones are skipped
            free = memory.gpu_free_bytes()
            return bool(self._idle) or all(free.get(gpu, needed) >= needed for gpu in self._next_gpus())
        idle = sum(memory.resident_bytes(seat.pid) for seat in self._idle[:1] if seat.pid)
        running = [(seat.expected_bytes, memory.resident_bytes(seat.pid or 0)) for seat in self._busy]
        return memory.fits(needed, running, memory.free_ram() + idle)

    def _next_gpus(self) -> list[str]:
        free = memory.gpu_free_bytes()
        return sorted(self._free_gpus, key=lambda gpu: -free.get(gpu, 0))[: self.settings.gpus_per_run]

    def _new_seat(self) -> ProcessSeat:
        gpus = self._next_gpus() if self._gpus else None
        self._free_gpus = [gpu for gpu in self._free_gpus if gpu not in (gpus or [])]
        taken = {seat.log.stem for seat in self._busy}
        names = (f"{self.prefix}train{f'-{n}' if n else ''}" for n in range(len(taken) + 1))
        name = next(name for name in names if name not in taken)
        return ProcessSeat(self._folder, name, gpus, self.threads, self._launch)

    def release(self, seat: base.Seat, usable: bool) -> None:
        assert isinstance(seat, ProcessSeat)
        self._busy.remove(seat)
        if usable:
            self._idle.append(seat)
        else:
            self._free_gpus += seat.gpus or []

    def evaluate(self, job: Job, job_path: Path, on_event: Callable[[Event], None]) -> JobResult:
        return run_job(job, job_path, on_event)

    def close(self) -> None:
        for end in (ProcessSeat.stop, ProcessSeat.end):  # all are told before one is waited for
            for seat in [*self._busy, *self._idle]:
                end(seat)
