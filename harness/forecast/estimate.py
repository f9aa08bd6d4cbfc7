"""What is left of a matrix and what it costs: time, memory, disk and requests, from what this machine has done so far."""

import contextlib
import os
import shutil
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from evals.job import LM_EVAL, BenchmarkEntry
from evals.judges.worker import cell_name
from harness.executors.memory import run_bytes
from harness.plan.judges import PlannedJudge
from harness.plan.matrix import RunSpec
from harness.plan.plan import Plan
from harness.state import RunStore, whole_rows
from harness.state.machine import gpus
from trainers.common import Json, cache_dir, fingerprint, now, read_json, scores_schema, write_json
from trainers.common.files import parameter_count

_BYTES_PER_TOKEN = 3.5  # of text; enough for an estimate
_GIB = 2**30
#: Share of the rate of large matrix products that training reaches (measured on 2 cores, 135M parameters, LoRA).
_EFFICIENCY = 0.6
_ENGINE_SECONDS = 45.0
_START_SECONDS = 20.0  # imports and the reference pass


@dataclass(frozen=True)
class RunState:
    """One run: whether it is trained, how many of its benchmarks are scored, and seconds its training took if known."""

    spec: RunSpec
    trained: bool
    cells: int
    train_seconds: float | None


def survey(plan: Plan, specs: Sequence[RunSpec]) -> list[RunState]:
    """The state of `specs`, in their order. Files need only be there: their content is checked when the matrix is run."""
    found = []
    for spec, policy in zip(specs, plan.policies(specs)[1:], strict=True):
        store = RunStore(plan.run_dir(spec))
        stages = store.status().stages if store.directory.is_dir() else {}
        trained = "train" in stages and store.is_done("train", spec.fingerprint, verify=False)
        count, cells = len(plan.benchmarks), scores_schema.digest([one.cell(policy) for one in plan.benchmarks])
        if "evaluate" not in stages or not stages["evaluate"].is_there(store.directory, cells):  # the score files tell
            count = sum(plan.cell_done(policy, benchmark) for benchmark in plan.benchmarks) if stages else 0
        found.append(RunState(spec, trained, count, stages["train"].seconds if trained else None))
    return found


# How fast this machine trains and evaluates a model, kept in the user's cache directory.


@dataclass(frozen=True)
class Speed:
    """Seconds, each None or absent where nothing was measured.

    Attributes:
        pair_token: training, a token of a pair (prompt and both answers), over all steps.
        engine: the evaluation engine's start.
        item: one answer or item of a kind of benchmark (see `cell_kind`).
        source: where the figures are from, for people.
    """

    pair_token: float | None = None
    engine: float | None = None
    item: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


def pair_tokens(plan: Plan) -> float:
    """Mean tokens of a training pair, prompt and both answers, going by its bytes; a chat template adds about 40."""
    return plan.mean_pair_bytes / _BYTES_PER_TOKEN + 40


def examples(plan: Plan, training: Json) -> int:
    """Pairs a run trains on, each epoch counted."""
    steps = int(training.get("max_steps", -1))
    batch = int(training.get("per_device_train_batch_size", 8)) * int(training.get("gradient_accumulation_steps", 1))
    return steps * batch if steps > 0 else int(len(plan.pairs) * float(training.get("num_train_epochs", 3)))


def items(benchmark: BenchmarkEntry) -> int:
    """Answers or items of a benchmark; 200 for each sample where no limit is set."""
    return (benchmark.limit or 200) * benchmark.samples


def cell_kind(benchmark: BenchmarkEntry) -> str:
    """Benchmarks whose items cost the same: by task, or by kind and length of the answers."""
    return f"{benchmark.kind} {benchmark.name if benchmark.kind == LM_EVAL else benchmark.max_new_tokens}"


def measured(plan: Plan, states: Sequence[RunState]) -> Speed:
    """What the finished runs and the last evaluation in the output took."""
    per_token = [
        state.train_seconds / (number * pair_tokens(plan))
        for state in states
        if state.train_seconds is not None and (number := examples(plan, state.spec.training))
    ]
    by_name, seconds = {benchmark.name: benchmark for benchmark in plan.benchmarks}, defaultdict[str, list[float]](list)
    engine, last = None, None
    for event in whole_rows(plan.output / "work" / "evaluate.events.jsonl"):
        kind, benchmark = event.get("event"), by_name.get(event.get("benchmark", ""))
        if kind == "engine_started":
            engine = float(event["seconds"])
        if kind == "benchmark_done" and benchmark is not None and last is not None:
            seconds[cell_kind(benchmark)].append(max(event["time"] - last, 0.0) / items(benchmark))
        if kind in ("policy_started", "benchmark_done"):
            last = event["time"]
    return Speed(
        statistics.median(per_token) if per_token else None,
        engine,
        {kind: statistics.median(values) for kind, values in seconds.items()},
        f"{len(per_token)} finished run{'s' * (len(per_token) != 1)} of this matrix" if per_token else "",
    )


def _kept(plan: Plan) -> Path:
    """Where speeds are kept: by machine, model, precision, and how the matrix trains and serves."""
    config = plan.config
    key = {
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": gpus(),
        "model": plan.model_hash,
        "dtype": config.model.dtype,
        "lora": config.lora is not None,
        "prefix_sharing": config.prefix_sharing,
        "engine": config.evaluation.engine.backend,
    }
    return cache_dir() / "speeds" / f"{fingerprint(key)[:16]}.json"


def recall(plan: Plan) -> Speed:
    """What earlier matrices of this model took on this machine; empty where there was none, or one of another version."""
    with contextlib.suppress(OSError, TypeError):  # an estimate must not end a matrix
        return Speed(**(read_json(_kept(plan)) or {}))
    return Speed()


def remember(plan: Plan) -> None:
    """Keep what this output's runs and its last evaluation took for the estimates of later matrices."""
    new, old = measured(plan, survey(plan, plan.specs)), recall(plan)
    if new.pair_token is not None or new.item:
        source = f"runs of this model on this machine, last {now()[:10]}"
        both = Speed(new.pair_token or old.pair_token, new.engine or old.engine, {**old.item, **new.item}, source)
        write_json(_kept(plan), asdict(both))


@dataclass(frozen=True)
class JudgeCost:
    """What is left for one judge.

    Attributes:
        requests: questions still to ask, at most: identical answers are not asked about, kept replies are not asked again.
        seconds: None where nothing is known about its speed.
        max_requests: its budget, over the life of its cache; None for none, or for a kind without one.
    """

    name: str
    requests: int
    seconds: float | None
    max_requests: int | None


def events_path(plan: Plan, judge: str) -> Path:
    """Where the process of a judge tells what it does."""
    return plan.output / "work" / f"judge-{judge}.events.jsonl"


def judge_cost(plan: Plan, judge: PlannedJudge, states: Sequence[RunState], flops: Callable[[], float]) -> JudgeCost:
    """What is left of a judge for the runs in `states`. `flops`: floating-point operations this machine does a second."""
    from evals.judges.registry import build as build_judge

    steps = [plan.config.evaluation.checkpoints_of(state.spec.seed) for state in states]
    checkpoints = sum(len(of_run) for of_run in steps if not isinstance(of_run, bool))  # true: known when trained
    measured, pairs = plan.config.evaluation.checkpoint_benchmarks, len(states)
    if judge.pairs == "all":  # as harness.stages.judge.pairs_of counts them
        pairs += sum(n * (n - 1) // 2 for n in Counter(state.spec.seed for state in states).values())
    total = 0
    for name, answers in judge.answers.items():
        kept = judge.checkpoints and (measured is None or name in measured)
        more = checkpoints if kept else 0
        total += answers * (2 * (pairs + more) if judge.compares else 1 + len(states) + more)  # in both orders
    judged = sum(is_judged(plan, state, [judge]) for state in states)
    left = round(total * (1 - judged / len(states))) if states else 0
    built = build_judge(judge.kind, judge.params)
    # seconds a request: as measured in this output, else what the judge says
    times = [event["time"] for event in whole_rows(events_path(plan, judge.name)) if event["event"] == "progress"]
    each = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else built.seconds_each(flops) if left else 0.0
    return JudgeCost(judge.name, left, None if each is None else left * each, built.max_requests)


def is_judged(plan: Plan, state: RunState, judges: Sequence[PlannedJudge]) -> bool:
    """Whether these judges have scored the run. The files need only be there, as in `survey`."""
    cells = [cell_name(benchmark, judge.name) for judge in judges for benchmark in judge.answers]
    return all(scores_schema.scores_path(plan.run_dir(state.spec), cell).is_file() for cell in cells)


@dataclass(frozen=True)
class Estimate:
    """Seconds for what is left, peak memory and new disk space in bytes, and what the times rest on.

    `rough` says that this machine has not trained this model yet, so that times may be several times off.
    """

    train_seconds: dict[str, float]
    eval_seconds: float
    memory_bytes: int
    disk_bytes: int
    free_disk_bytes: int
    basis: str
    rough: bool
    judges: tuple[JudgeCost, ...] = ()


def matmul_rate(seconds: float = 0.3, size: int = 1024) -> float:
    """Floating-point operations per second of a float32 matrix product on this CPU: the best of those in `seconds`.

    The best, since other work on the machine only ever slows a product down.
    """
    import numpy as np

    a = np.ones((size, size), dtype=np.float32)
    a @ a
    started, best = time.perf_counter(), float("inf")
    while (now := time.perf_counter()) - started < seconds:
        a @ a
        best = min(best, time.perf_counter() - now)
    return 2 * size**3 / best


def estimate(plan: Plan, states: Sequence[RunState]) -> Estimate:
    """Estimate what is left of the runs in `states`; training seconds by method."""
    parameters, lora = parameter_count(plan.model.path), plan.config.lora is not None
    here, before = measured(plan, states), recall(plan)
    each = {**before.item, **here.item}
    waiting = [state.spec for state in states if not state.trained]
    pair_token = here.pair_token or before.pair_token
    rough = pair_token is None
    rate = matmul_rate() * _EFFICIENCY if rough or {cell_kind(one) for one in plan.benchmarks} - {*each} else 0.0
    if pair_token is None:
        pair_token = (4.0 if lora else 6.0) * parameters / rate
    train: dict[str, float] = defaultdict(float)
    for spec in waiting:
        start = _START_SECONDS if rough and not train else 0.0
        train[spec.method] += start + pair_token * pair_tokens(plan) * examples(plan, spec.training)

    def seconds(benchmark: BenchmarkEntry) -> float:
        # an item of a task is read (about 100 tokens), an answer is written one token at a time
        tokens = 100 if benchmark.kind == LM_EVAL else 1.5 * (60 + benchmark.max_new_tokens)
        item = each.get(cell_kind(benchmark))
        return items(benchmark) * (2 * tokens * parameters / rate if item is None else item)

    cells = {one.name: seconds(one) for one in plan.benchmarks}
    left = [sum(cells.values()) * (1 - state.cells / len(cells)) for state in states if cells]
    left += [cells[one.name] for one in plan.benchmarks if not plan.cell_done(plan.reference, one)]
    start = here.engine or before.engine or _ENGINE_SECONDS
    width, peaks = 4 if plan.config.model.dtype == "float32" else 2, dict[str, int]()
    training_memory = max(run_bytes(plan, spec.training, peaks) for spec in plan.specs)
    engine_memory = parameters * 4 + (plan.config.evaluation.engine.kv_cache_gib + 1) * _GIB
    kept = parameters // 20 if lora and plan.config.save == "adapter" else parameters
    existing = next(p for p in (plan.output, *plan.output.parents) if p.exists())
    return Estimate(
        dict(train),
        sum(left) + start if any(left) else 0.0,
        max(training_memory, engine_memory),
        len(waiting) * kept * width,
        shutil.disk_usage(existing).free,
        here.source or before.source or f"a rough model of this CPU ({rate / 1e9:.0f} GFLOP/s)",
        rough and bool(waiting),
        tuple(judge_cost(plan, one, states, lambda: rate or matmul_rate() * _EFFICIENCY) for one in plan.judges),
    )
