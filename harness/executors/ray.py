"""A Ray cluster: one task for each stage, with the CPUs, GPUs and custom resources that the matrix file gives it."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from evals.supervise import JobResult
from harness.executors import base
from harness.executors.artifacts import Artifacts, Mirror, StoreError
from harness.executors.base import CANCELLED, Ended, Event, Job, Polled
from harness.executors.local import gpus_of_launch, launch_arguments, worker_environment
from harness.executors.ray_stage import evaluate_stage, train_stage
from harness.plan.plan import Plan
from harness.state import MAX_ATTEMPTS, is_transient
from harness.workers.quiet import SETTINGS
from trainers.common import EventTail, Json, UserError

_LAST = ("run_done", "run_failed")


class StageResources(BaseModel):
    """What Ray reserves for one task; `resources` are custom ones, by name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    cpus: float = Field(1.0, ge=0, allow_inf_nan=False)
    gpus: int = Field(0, ge=0)
    resources: dict[str, float] = Field(default_factory=dict)

    def amounts(self) -> dict[str, float]:
        """By the names Ray has for them."""
        return {"CPU": self.cpus, "GPU": float(self.gpus), **self.resources}

    def fit_one_of(self, nodes: list[dict[str, float]]) -> bool:
        """Whether one of the nodes (amounts by name) has all of it."""
        return any(all(node.get(name, 0.0) >= count for name, count in self.amounts().items()) for node in nodes)


class RaySettings(base.Settings):
    """`address` of a running cluster (`auto`: RAY_ADDRESS, or the one on this machine); without, one is started here.

    `train` and `evaluate` say what a task of each stage takes; where `gpus` is left out, GPUs are taken if a node has them (to
    train one, or one for each process of `accelerate`; to evaluate as many as the engine spreads over). `max_parallel` limits
    runs at once; Ray queues what does not fit. With `train.gpus` above 1, or `accelerate` (a file of `accelerate config`), a
    run is trained by `accelerate launch`.
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


def _resources(plan: Plan, settings: RaySettings, nodes: list[dict[str, float]]) -> dict[str, StageResources]:
    """What each stage takes on a cluster of `nodes` (what each has, by Ray's names).

    Where nothing is said of GPUs and a node has them, they are taken.

    Raises:
        UserError: no node could ever give it, and Ray would wait for it without a word.
    """
    engine, taken = plan.config.evaluation.engine, {}
    usual = {
        "train": gpus_of_launch(plan, settings.accelerate),
        "evaluate": engine.tensor_parallel_size * engine.data_parallel_size,
    }
    for stage, gpus in usual.items():
        asked: StageResources = getattr(settings, stage)
        with_gpus = asked.model_copy(update={"gpus": gpus})
        taken[stage] = with_gpus if "gpus" not in asked.model_fields_set and with_gpus.fit_one_of(nodes) else asked
        if not taken[stage].fit_one_of(nodes):
            shown = ", ".join(f"{count:g} {name}" for name, count in asked.amounts().items() if count)
            raise UserError(
                f"{plan.source.where(('executor', stage))}: executor.{stage} asks for {shown}; no node of the "
                "cluster has that; lower it, or add a node (ray status lists what there is)"
            )
    return taken


class RaySeat(base.Seat):
    """A task of the cluster, for one run."""

    def __init__(self, executor: "RayExecutor") -> None:
        self._executor, self._started = executor, False
        self._ref: Any = None
        self._remote: Mirror | None = None
        self._unstarted: Ended | None = None
        self._held: list[Event] = []  # how the run ended is told once its task has ended
        self._group: Any = None

    def start(self, job: Job) -> None:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        executor, run_id, folder = self._executor, job["train_job"]["run_id"], self._executor.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log, self._stop, events = (folder / f"ray-{run_id}.{end}" for end in ("log", "stop", "events.jsonl"))
        for path in (events, self._stop, self.log):
            path.unlink(missing_ok=True)
        self._tail = EventTail(events)
        asked, options = executor.asked["train"], executor.options("train")
        launch = launch_arguments(executor.plan, executor.settings.accelerate, asked.gpus)
        if launch is not None:
            job = {**job, "launch": launch}
        if executor.artifacts is not None:
            try:
                self._remote = executor.artifacts.begin_training(job)
            except StoreError as error:
                self._unstarted = Ended(1, str(error), transient=True)
                return
        if launch is not None:  # all of a run's GPUs are to be on one node
            bundle = {name: count for name, count in asked.amounts().items() if count}
            self._group = placement_group([bundle], strategy="STRICT_PACK")
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(placement_group=self._group)
        threads = executor.settings.threads or max(int(asked.cpus), 1)
        task = executor.ray.remote(train_stage).options(**options)
        self._ref = task.remote(job, str(folder), threads, self._remote)

    def poll(self) -> Polled:
        if self._unstarted is not None:
            return Polled([], self._unstarted)
        ray, ended = self._executor.ray, None
        done, _ = ray.wait([self._ref], timeout=0)
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
        # of a run whose task failed not all that it left is here, whatever was told of it
        held = [] if self._remote is not None and ended.code else self._held
        return Polled([*events, *held], ended)

    def stop(self) -> None:
        if self._ref is None:
            return
        self._stop.touch()
        told = self._started  # it may wait for a free node, or for one that Ray gave up to let go of the run
        if self._remote is not None:
            try:
                self._remote.ask_to_stop(self._stop.name)
            except StoreError:
                told = False
        if not told:
            self._executor.ray.cancel(self._ref, force=False)

    def kill(self) -> None:
        if self._ref is not None:
            self._executor.ray.cancel(self._ref, force=True)


def _outcome(ray: Any, ref: Any) -> Any:
    """The `Ended` that a task returned, or how it failed."""
    try:
        return ray.get(ref)
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
        self.asked = _resources(plan, settings, nodes)
        self.artifacts = Artifacts(plan, settings.artifacts) if settings.artifacts is not None else None

    def _connected(self) -> Any:
        """The package `ray`, which this executor alone needs, connected to the cluster."""
        source, address = self.plan.source, self.settings.address
        try:
            import ray
        except ModuleNotFoundError:
            at = source.at("executor", "kind")
            raise UserError(f"{at} is 'ray', which is not installed; pip install 'dpo-beta-harness[ray]'") from None
        if ray.is_initialized():
            return ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own: Json = {"address": "local", "include_dashboard": False, "object_store_memory": 100 * 2**20}
        common: Json = {
            "log_to_driver": False,
            "logging_level": "error",
            "namespace": "dpo-beta-harness",
            "runtime_env": runtime_environment(),
            **(own if address is None else {"address": address}),
        }
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(
                f"{source.at('executor', 'address')} is {address!r}; no cluster there ({first}); "
                "start one with: ray start --head, or leave address out"
            ) from None
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own there, which would lose the current step
        return ray

    def options(self, stage: str) -> Json:
        """Options of a task. Retries are ours, since a run resumes from its checkpoint and tries are counted."""
        cpus, gpus, resources = (getattr(self.asked[stage], name) for name in ("cpus", "gpus", "resources"))
        return {"num_cpus": cpus, "num_gpus": gpus, "resources": dict(resources), "max_retries": 0}

    def seat(self, job: Job) -> RaySeat | None:
        if self.settings.max_parallel is not None and len(self._seats) >= self.settings.max_parallel:
            return None
        self._seats.append(RaySeat(self))
        return self._seats[-1]

    def release(self, seat: base.Seat, usable: bool) -> None:
        assert isinstance(seat, RaySeat)
        self._seats.remove(seat)

    def evaluate(self, job: Job, job_path: Path, on_event: Callable[[Event], None]) -> JobResult:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return self._evaluate(job, job_path, on_event)
            except (StoreError, self.ray.exceptions.RayError) as error:
                if isinstance(error, self.ray.exceptions.RayTaskError) and not _may_pass(error.cause):
                    raise
                first = next(iter(str(error).strip().splitlines()), "")
                said = f"the evaluation failed on the cluster {attempt} times: {type(error).__name__}: {first}"
            on_event({"event": "worker_died", "returncode": None, "restarts": attempt < MAX_ATTEMPTS})
            time.sleep(1.0)
        raise UserError(said)

    def _evaluate(self, job: Job, job_path: Path, on_event: Callable[[Event], None]) -> JobResult:
        ray, events = self.ray, job_path.with_suffix(".ray.jsonl")
        events.unlink(missing_ok=True)
        tail = EventTail(events)
        remote = self.artifacts.begin_evaluation(job, events) if self.artifacts is not None else None
        task = ray.remote(evaluate_stage).options(**self.options("evaluate"))
        ref = task.remote(job, str(job_path), str(events), remote)
        done, fetched = False, False
        try:
            while not (done and fetched):
                time.sleep(0.2 * done)  # the task is over, but the store failed: not at once again
                done = bool(ray.wait([ref], timeout=0.2)[0])
                fetched = remote is None or remote.pull(final=done)
                for event in tail.read():
                    on_event(event)
        except BaseException:
            ray.cancel(ref, force=False)
            raise
        result: JobResult = ray.get(ref)
        return result

    def close(self) -> None:
        for seat in self._seats:
            seat.kill()
