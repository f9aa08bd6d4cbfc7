"""A Ray cluster: one task for each stage, with the CPUs, GPUs and custom resources that the matrix file gives it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evals.supervise import JobResult
from harness.executors import base
from harness.executors.artifact_store import StoreError
from harness.executors.artifacts import Artifacts, Remote
from harness.executors.base import CANCELLED, Ended, Event, Job, Polled
from harness.executors.launch import launch_arguments
from harness.executors.local import worker_environment
from harness.executors.ray_resources import RaySettings, StageResources, stage_resources
from harness.executors.ray_stage import evaluate_stage, train_stage
from harness.plan.plan import Plan
from harness.state import MAX_ATTEMPTS, is_transient
from harness.workers.quiet import SETTINGS
from trainers.common import EventTail, Json, UserError

_LAST = ("run_done", "run_failed")


class RaySeat(base.Seat):
    """A task of the cluster, for one run."""

    def __init__(self, executor: RayExecutor) -> None:
        self._executor, self._started = executor, False
        self._ref: Any = None
        self._remote: Remote | None = None
        self._unstarted: Ended | None = None
        self._held: list[Event] = []  # how the run ended is told once its task has ended
        self._group: Any = None

    def start(self, job: Job) -> None:
        executor, run_id = self._executor, job["train_job"]["run_id"]
        folder = executor.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"ray-{run_id}.log"
        self._stop = folder / f"ray-{run_id}.stop"
        events = folder / f"ray-{run_id}.events.jsonl"
        for path in (events, self._stop, self.log):
            path.unlink(missing_ok=True)
        self._tail = EventTail(events)
        asked = executor.asked["train"]
        launch = launch_arguments(executor.plan, executor.settings.accelerate, asked.gpus)
        if launch is not None:
            job = {**job, "launch": launch}
        if executor.artifacts is not None:
            try:
                self._remote = executor.artifacts.begin_training(job)
            except StoreError as error:
                self._unstarted = Ended(1, str(error), transient=True)
                return
        options = executor.options(asked)
        if launch is not None:
            self._group, options["scheduling_strategy"] = executor.on_one_node(asked)
        threads = executor.settings.threads or max(int(asked.cpus), 1)
        task = executor.ray.remote(train_stage).options(**options)
        self._ref = task.remote(job, str(folder), threads, self._remote.mirror if self._remote else None)

    def poll(self) -> Polled:
        ray = self._executor.ray
        if self._unstarted is not None:
            return Polled([], self._unstarted)
        done, _ = ray.wait([self._ref], timeout=0)
        ended: Ended | None = None
        try:
            fetched = self._remote is None or self._remote.pull(final=bool(done))
            if done and fetched:
                ended = _outcome(ray, self._ref)
        except StoreError as error:
            ended = Ended(1, str(error), transient=True)
        events = self._tail.read()
        self._started = self._started or any(event["event"] != "waiting" for event in events)
        self._held += [event for event in events if event["event"] in _LAST]
        events = [event for event in events if event["event"] not in _LAST]
        if ended is None:
            return Polled(events)
        if self._group is not None:
            ray.util.remove_placement_group(self._group)
            self._group = None
        if self._remote is not None and ended.code:
            return Polled(events, ended)  # what the run left is not all here, whatever was told of it
        return Polled([*events, *self._held], ended)

    def stop(self) -> None:
        if self._ref is None:
            return
        self._stop.touch()
        told = True
        if self._remote is not None:
            try:
                self._remote.ask_to_stop(self._stop.name)
            except StoreError:
                told = False
        if not (
            told and self._started
        ):  # it may wait for a free node, or for one that Ray gave up to let go of the run
            self._executor.ray.cancel(self._ref, force=False)

    def kill(self) -> None:
        if self._ref is not None:
            self._executor.ray.cancel(self._ref, force=True)


def _outcome(ray: Any, ref: Any) -> Ended:
    try:
        ended: Ended = ray.get(ref)
        return ended
    except ray.exceptions.TaskCancelledError:
        return Ended(0, CANCELLED)
    except ray.exceptions.RayTaskError as error:
        return Ended(1, f"the task failed: {error.cause!r}", transient=_may_pass(error.cause))
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        return Ended(1, f"node or process lost: {type(error).__name__}: {first}", transient=True)


def _may_pass(cause: BaseException) -> bool:
    return isinstance(cause, ConnectionError | TimeoutError) or is_transient(cause)


def runtime_environment() -> Json:
    """Of every process on a node: the project can be imported, and GPUs that a task did not ask for are hidden from it."""
    python_path = worker_environment()["PYTHONPATH"]
    return {"env_vars": {"PYTHONPATH": python_path, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"} | SETTINGS}


class RayExecutor(base.Executor):
    """Runs and evaluation as tasks of a cluster."""

    Settings = RaySettings
    settings: RaySettings
    here = False

    def __init__(self, plan: Plan, settings: RaySettings) -> None:
        super().__init__(plan, settings)
        self.folder = plan.output / "work"
        self._seats: list[RaySeat] = []
        self.ray = self._connected()
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        self.asked = stage_resources(plan, settings, nodes)
        self.artifacts = Artifacts(plan, settings.artifacts) if settings.artifacts is not None else None

    def _connected(self) -> Any:
        """The package `ray`, which this executor alone needs, connected to the cluster."""
        try:
            import ray
        except ModuleNotFoundError:
            at = self.plan.source.at("executor", "kind")
            raise UserError(f"{at} is 'ray', which is not installed; pip install 'dpo-beta-harness[ray]'") from None
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            own = {"address": "local", "include_dashboard": False, "object_store_memory": 100 * 2**20}
            common: Json = {
                "log_to_driver": False,
                "logging_level": "error",
                "namespace": "dpo-beta-harness",
                "runtime_env": runtime_environment(),
                **(own if self.settings.address is None else {"address": self.settings.address}),
            }
            handler = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(**common)
            except (ConnectionError, RuntimeError, ValueError) as error:
                first = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise UserError(
                    f"{self.plan.source.at('executor', 'address')} is {self.settings.address!r}; no cluster there ({first}); "
                    "start one with: ray start --head, or leave address out"
                ) from None
            finally:
                signal.signal(signal.SIGTERM, handler)  # Ray puts its own there, which would lose the current step
        return ray

    def options(self, asked: StageResources) -> Json:
        """Options of a task. Retries are ours, since a run resumes from its checkpoint and tries are counted."""
        amounts = {"num_cpus": asked.cpus, "num_gpus": asked.gpus, "resources": dict(asked.resources)}
        return {**amounts, "max_retries": 0}

    def on_one_node(self, asked: StageResources) -> tuple[Any, Any]:
        """A placement group that keeps all of a run's GPUs on one node, and the strategy that uses it."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        bundle = {name: count for name, count in asked.amounts().items() if count}
        group = placement_group([bundle], strategy="STRICT_PACK")
        return group, PlacementGroupSchedulingStrategy(placement_group=group)

    def seat(self, job: Job) -> RaySeat | None:
        if self.settings.max_parallel is not None and len(self._seats) >= self.settings.max_parallel:
            return None
        seat = RaySeat(self)
        self._seats.append(seat)
        return seat

    def release(self, seat: base.Seat, usable: bool) -> None:
        assert isinstance(seat, RaySeat)
        self._seats.remove(seat)

    def evaluate(self, job: Job, job_path: Path, on_event: Callable[[Event], None]) -> JobResult:
        ray = self.ray
        for attempt in range(1, MAX_ATTEMPTS + 1):
            events = job_path.with_suffix(".ray.jsonl")
            events.unlink(missing_ok=True)
            tail, ref = EventTail(events), None
            try:
                remote = self.artifacts.begin_evaluation(job, events) if self.artifacts is not None else None
                task = ray.remote(evaluate_stage).options(**self.options(self.asked["evaluate"]))
                ref = task.remote(job, str(job_path), str(events), remote.mirror if remote else None)
                done, fetched = False, False
                while not (done and fetched):
                    time.sleep(0.2 * done)  # the task is over, but the store failed: not at once again
                    done = bool(ray.wait([ref], timeout=0.2)[0])
                    fetched = remote is None or remote.pull(final=done)
                    for event in tail.read():
                        on_event(event)
                result: JobResult = ray.get(ref)
                return result
            except (StoreError, ray.exceptions.RayError) as error:
                if isinstance(error, ray.exceptions.RayTaskError) and not _may_pass(error.cause):
                    raise
                if attempt == MAX_ATTEMPTS:
                    first = next(iter(str(error).strip().splitlines()), "")
                    raise UserError(
                        f"the evaluation failed on the cluster {attempt} times: {type(error).__name__}: {first}"
                    ) from None
                on_event({"event": "worker_died", "policy": None, "returncode": None})
                time.sleep(1.0)
            except BaseException:
                if ref is not None:
                    ray.cancel(ref, force=False)
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        for seat in self._seats:
            seat.kill()
