"""The cost of a matrix and of its judges: time, memory, disk, requests."""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evals.job import LM_EVAL
from evals.judges.worker import cell_name
from harness.executors.memory import run_bytes
from harness.forecast.speed import RunState, Speed, cell_kind, examples, items, measured, pair_tokens, recall
from harness.plan.judges import PlannedJudge
from harness.plan.plan import Plan
from harness.state import whole_rows
from trainers.common import scores_schema
from trainers.common.files import parameter_count

if TYPE_CHECKING:
    from evals.judges.base import Judge


@dataclass(frozen=True)
class JudgeCost:
    """What is left for one judge.

    Attributes:
        runs: of the runs, how many are judged on all its benchmarks.
        requests: questions still to ask, at most: identical answers are not asked about, kept replies are not asked again.
        seconds: None where nothing is known about its speed.
        max_requests: its budget, over the life of its cache; None for none, or for a kind without one.
    """

    name: str
    runs: int
    requests: int
    seconds: float | None
    max_requests: int | None


def events_path(plan: Plan, judge: str) -> Path:
    """Where the process of a judge tells what it does."""
    return plan.output / "work" / f"judge-{judge}.events.jsonl"


def judge_costs(plan: Plan, states: Sequence[RunState], flops: Callable[[], float]) -> tuple[JudgeCost, ...]:
    """One entry for each judge, for the runs in `states`. `flops`: floating-point operations this machine does a second."""
    from evals.judges.registry import build as build_judge

    steps = [plan.config.evaluation.checkpoints_of(state.spec.seed) for state in states]
    checkpoints = sum(len(of_run) for of_run in steps if not isinstance(of_run, bool))  # true: known when trained
    measured, seeds = plan.config.evaluation.checkpoint_benchmarks, Counter(state.spec.seed for state in states)
    every = len(states) + sum(n * (n - 1) // 2 for n in seeds.values())  # as harness.stages.judge.pairs_of counts them
    found = []
    for judge in plan.judges:
        judged, total = sum(is_judged(plan, state, [judge]) for state in states), 0
        pairs = 2 * (every if judge.pairs == "all" else len(states))  # in both orders
        for name, answers in judge.answers.items():
            kept = judge.checkpoints and (measured is None or name in measured)
            questions = pairs if judge.compares else 1 + len(states)
            more = (2 if judge.compares else 1) * checkpoints if kept else 0
            total += answers * (questions + more)
        left = round(total * (1 - judged / len(states))) if states else 0
        built = build_judge(judge.kind, judge.params)
        speed = _seconds_each(plan, judge, built, flops) if left else 0.0
        seconds = None if speed is None else left * speed
        found.append(JudgeCost(judge.name, judged, left, seconds, built.max_requests))
    return tuple(found)


def is_judged(plan: Plan, state: RunState, judges: Sequence[PlannedJudge]) -> bool:
    """Whether these judges have scored the run. The files need only be there, as in `survey`."""
    cells = [cell_name(benchmark, judge.name) for judge in judges for benchmark in judge.answers]
    return all(scores_schema.scores_path(plan.run_dir(state.spec), cell).is_file() for cell in cells)


def _seconds_each(plan: Plan, judge: PlannedJudge, built: Judge, flops: Callable[[], float]) -> float | None:
    """Seconds a request: as measured in this output, else what the judge says."""
    times = [event["time"] for event in whole_rows(events_path(plan, judge.name)) if event["event"] == "progress"]
    if len(times) > 1:
        return (times[-1] - times[0]) / (len(times) - 1)
    return built.seconds_each(flops)


_GIB = 2**30
#: Share of the rate of large matrix products that training reaches (measured on 2 cores, 135M parameters, LoRA).
_EFFICIENCY = 0.6
_ENGINE_SECONDS = 45.0
_START_SECONDS = 20.0  # imports and the reference pass


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
    parameters = parameter_count(plan.model.path)
    here, before = measured(plan, states), recall(plan)
    waiting = [state.spec for state in states if not state.trained]
    pair_token = here.pair_token or before.pair_token
    rough, unknown = pair_token is None, {cell_kind(one) for one in plan.benchmarks} - {*here.item, *before.item}
    rate = matmul_rate() * _EFFICIENCY if rough or unknown else 0.0
    if pair_token is None:
        pair_token = (6.0 if plan.config.lora is None else 4.0) * parameters / rate
    train: dict[str, float] = defaultdict(float)
    for spec in waiting:
        start = _START_SECONDS if rough and not train else 0.0
        train[spec.method] += start + pair_token * pair_tokens(plan) * examples(plan, spec.training)
    basis = here.source or before.source or f"a rough model of this CPU ({rate / 1e9:.0f} GFLOP/s)"
    width, peaks = 4 if plan.config.model.dtype == "float32" else 2, dict[str, int]()
    kept = parameters // 20 if plan.config.lora is not None and plan.config.save == "adapter" else parameters
    training_memory = max(run_bytes(plan, spec.training, peaks) for spec in plan.specs)
    engine_memory = parameters * 4 + (plan.config.evaluation.engine.kv_cache_gib + 1) * _GIB
    free = shutil.disk_usage(next(p for p in (plan.output, *plan.output.parents) if p.exists())).free
    return Estimate(
        dict(train),
        _evaluation(plan, states, here, before, parameters, rate),
        max(training_memory, engine_memory),
        len(waiting) * kept * width,
        free,
        basis,
        rough and bool(waiting),
        judge_costs(plan, states, lambda: rate or matmul_rate() * _EFFICIENCY),
    )


def _evaluation(
    plan: Plan, states: Sequence[RunState], here: Speed, before: Speed, parameters: int, rate: float
) -> float:
    """Seconds for the cells that are left, the reference's among them, and the engine's start if there are any."""
    if not plan.benchmarks:
        return 0.0
    cell = []
    for benchmark in plan.benchmarks:
        item = here.item.get(cell_kind(benchmark), before.item.get(cell_kind(benchmark)))
        if item is None:  # an item of a task is read (about 100 tokens), an answer is written one token at a time
            tokens = 100 if benchmark.kind == LM_EVAL else 1.5 * (60 + benchmark.max_new_tokens)
            item = 2 * tokens * parameters / rate
        cell.append(item * items(benchmark))
    left = [sum(cell) * (1 - state.cells / len(cell)) for state in states]
    left += [seconds for seconds, b in zip(cell, plan.benchmarks, strict=True) if not plan.cell_done(plan.reference, b)]
    start = here.engine or before.engine or _ENGINE_SECONDS
    return sum(left) + start if any(left) else 0.0
