"""A Ray cluster: one task for each stage, with the CPUs, GPUs and custom resources that the matrix file gives it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evals.supervise import JobResult
from harness.errors import UserError
from harness.executors import base
from harness.executors.artifacts import Artifacts
from harness.executors.base import Ended, Event, Polled
from harness.executors.launch import launch_arguments
from harness.executors.local import EventTail, worker_environment
from harness.failures import MAX_ATTEMPTS
from harness.plan import Plan

_LAST = ("run_done", "run_failed")


class StageResources(BaseModel):
    """What Ray reserves for one task; `resources` are custom ones, by name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    cpus: float = Field(1.0, ge=0, allow_inf_nan=False)
    gpus: int = Field(0, ge=0)
    resources: dict[str, float] = Field(default_factory=dict)


class RaySettings(base.Settings):
    """`address` of a running cluster (`auto`: RAY_ADDRESS, or the one on this machine); without, one is started here.

    `train` and `evaluate` say what a task of each stage takes. `max_parallel` limits runs at once; Ray queues what does not
    fit. With `train.gpus` above 1, or `accelerate` (a file of `accelerate config`), a run is trained by `accelerate launch`.
    `artifacts` is a folder or URL of any fsspec file system (s3://bucket/folder) for nodes that do not share the output's.
    """

    kind: str = "ray"
    address: str | None = None
    train: StageResources = StageResources.model_validate({})
    evaluate: StageResources = StageResources.model_validate({})
    max_parallel: int | None = Field(None, gt=0)
    threads: int | None = Field(None, gt=0)
    accelerate: str | None = None
    artifacts: str | None = None


class RaySeat(base.Seat):
    """A task of the cluster, for one run."""

    def __init__(self, executor: RayExecutor) -> None:
        self._executor, self._started = executor, False
        self._ref: Any = None
        self._held: list[Event] = []  # how the run ended is told once its task has ended
        self._group: Any = None

    def start(self, job: dict[str, Any]) -> None:
        import ray

        from harness.executors.ray_stage import train_stage

        executor, run_id = self._executor, job["train_job"]["run_id"]
        folder = executor.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"ray-{run_id}.log"
        self._stop = folder / f"ray-{run_id}.stop"
        events = folder / f"ray-{run_id}.events.jsonl"
        for path in (events, self._stop, self.log):
            path.unlink(missing_ok=True)
        self._tail = EventTail(events)
        launch = launch_arguments(executor.plan, executor.settings.accelerate, executor.settings.train.gpus)
        if launch is not None:
            job = {**job, "launch": launch}
        self._remote = executor.artifacts.begin_training(job) if executor.artifacts is not None else None
        options = executor.options(executor.settings.train)
        if launch is not None:
            self._group, options["scheduling_strategy"] = executor.on_one_node(executor.settings.train)
        threads = executor.settings.threads or max(int(executor.settings.train.cpus), 1)
        task = ray.remote(train_stage).options(**options)
        self._ref = task.remote(job, str(folder), threads, self._remote.mirror if self._remote else None)

    def poll(self) -> Polled:
        import ray

        done, _ = ray.wait([self._ref], timeout=0)
        if self._remote is not None:
            self._remote.pull(final=bool(done))
        events = self._tail.read()
        self._started = self._started or bool(events)
        if not done:
            self._held += [event for event in events if event["event"] in _LAST]
            return Polled([event for event in events if event["event"] not in _LAST])
        if self._group is not None:
            ray.util.remove_placement_group(self._group)
            self._group = None
        return Polled([*self._held, *events], _outcome(self._ref))

    def stop(self) -> None:
        import ray

        self._stop.touch()
        if self._remote is not None:
            self._remote.ask_to_stop(self._stop.name)
        if not self._started:  # it may wait for a free node
            ray.cancel(self._ref, force=False)

    def kill(self) -> None:
        import ray

        ray.cancel(self._ref, force=True)


def _outcome(ref: Any) -> Ended:
    """How a task ended; the loss of its node or process may pass."""
    import ray

    try:
        ended: Ended = ray.get(ref)
        return ended
    except ray.exceptions.TaskCancelledError:
        return Ended(0, "the task was cancelled")
    except ray.exceptions.RayTaskError as error:
        return Ended(1, f"the task failed: {error.cause!r}", transient=False)
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        return Ended(1, f"the node or its process was lost: {type(error).__name__}: {first}", transient=True)


class RayExecutor(base.Executor):
    """Runs and evaluation as tasks of a cluster."""

    Settings = RaySettings
    settings: RaySettings

    def __init__(self, plan: Plan, settings: RaySettings) -> None:
        super().__init__(plan, settings)
        self.folder = plan.output / "work"
        self._seats: list[RaySeat] = []
        self._connect()
        self.artifacts = Artifacts(plan, settings.artifacts) if settings.artifacts is not None else None

    def _connect(self) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            where = self.plan.source.where(("executor", "kind"))
            raise UserError(
                f"{where}: executor.kind is 'ray', which is not installed; pip install 'dpo-beta-harness[ray]'"
            ) from None
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            common: dict[str, Any] = {
                "log_to_driver": False,
                "logging_level": "error",
                "namespace": "dpo-beta-harness",
                "runtime_env": {"env_vars": {"PYTHONPATH": worker_environment()["PYTHONPATH"]}},
            }
            if self.settings.address is None:
                common |= {"address": "local", "include_dashboard": False, "object_store_memory": 100 * 2**20}
            else:
                common |= {"address": self.settings.address}
            handler = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(**common)
            except (ConnectionError, RuntimeError, ValueError) as error:
                where = self.plan.source.where(("executor", "address"))
                first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise UserError(
                    f"{where}: executor.address is {self.settings.address!r}; no cluster there ({first}); "
                    "start one with: ray start --head, or leave address out"
                ) from None
            finally:
                signal.signal(signal.SIGTERM, handler)  # Ray puts its own there, which would lose the step in work
        self._check_resources()

    def _check_resources(self) -> None:
        """Refuse what no node could ever give: Ray would wait for it without a word."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for stage in ("train", "evaluate"):
            asked: StageResources = getattr(self.settings, stage)
            needed = {"CPU": asked.cpus, "GPU": float(asked.gpus), **asked.resources}
            if not any(all(node.get(name, 0.0) >= count for name, count in needed.items()) for node in nodes):
                shown = ", ".join(f"{count:g} {name}" for name, count in needed.items() if count)
                raise UserError(
                    f"{self.plan.source.where(('executor', stage))}: executor.{stage} asks for {shown}; no node of the "
                    "cluster has that; lower it, or add a node (ray status lists what there is)"
                )

    def options(self, asked: StageResources) -> dict[str, Any]:
        """Options of a task. Retries are ours, since a run goes on from its checkpoint and is counted."""
        return {
            "num_cpus": asked.cpus,
            "num_gpus": asked.gpus,
            "resources": dict(asked.resources),
            "max_retries": 0,
        }

    def on_one_node(self, asked: StageResources) -> tuple[Any, Any]:
        """A placement group that keeps all of a run's GPUs on one node, and the strategy that uses it."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        bundle = {"CPU": asked.cpus, "GPU": float(asked.gpus), **asked.resources}
        group = placement_group([{name: count for name, count in bundle.items() if count}], strategy="STRICT_PACK")
        return group, PlacementGroupSchedulingStrategy(placement_group=group)

    def seat(self, job: dict[str, Any]) -> RaySeat | None:
        if self.settings.max_parallel is not None and len(self._seats) >= self.settings.max_parallel:
            return None
        seat = RaySeat(self)
        self._seats.append(seat)
        return seat

    def release(self, seat: base.Seat, usable: bool) -> None:
        assert isinstance(seat, RaySeat)
        self._seats.remove(seat)

    def evaluate(self, job: dict[str, Any], job_path: Path, on_event: Callable[[Event], None]) -> JobResult:
        import ray

        from harness.executors.ray_stage import evaluate_stage

        for attempt in range(1, MAX_ATTEMPTS + 1):
            events = job_path.with_suffix(".ray.jsonl")
            events.unlink(missing_ok=True)
            tail = EventTail(events)
            remote = self.artifacts.begin_evaluation(job) if self.artifacts is not None else None
            task = ray.remote(evaluate_stage).options(**self.options(self.settings.evaluate))
            ref = task.remote(job, str(job_path), str(events), remote.mirror if remote else None)
            try:
                done: list[Any] = []
                while not done:
                    done, _ = ray.wait([ref], timeout=0.2)
                    if remote is not None:
                        remote.pull(final=bool(done))
                    for event in tail.read():
                        on_event(event)
                result: JobResult = ray.get(ref)
                return result
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                if attempt == MAX_ATTEMPTS:
                    raise UserError(f"the evaluation lost its node {attempt} times: {type(error).__name__}") from None
                on_event({"event": "worker_died", "policy": None, "returncode": None})
                time.sleep(1.0)
            except BaseException:
                ray.cancel(ref, force=False)
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        for seat in self._seats:
            seat.kill()
