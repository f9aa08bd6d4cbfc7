"""What a matrix will cost: time from what this machine has done so far, or else from a rough model; memory and disk."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.judge_cost import JudgeCost, judge_costs
from harness.plan import Plan
from harness.speed import Speed, cell_kind, examples, items, measured, pair_tokens, recall
from harness.survey import RunState

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


def parameter_count(model_dir: Path) -> int:
    """Number of weights, from the headers of the safetensors files."""
    total = 0
    for path in Path(model_dir).glob("*.safetensors"):
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            header: dict[str, Any] = json.loads(handle.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                size = 1
                for dimension in entry["shape"]:
                    size *= dimension
                total += size
    return total


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
    rate = matmul_rate() * _EFFICIENCY if pair_token is None or not _items_known(plan, here, before) else 0.0
    rough = pair_token is None
    if pair_token is None:
        pair_token = (6.0 if plan.config.lora is None else 4.0) * parameters / rate
    train: dict[str, float] = {}
    for spec in waiting:
        seconds = pair_token * pair_tokens(plan) * examples(plan, spec.training)
        train[spec.method] = train.get(spec.method, 0.0) + seconds + (_START_SECONDS if not train and rough else 0.0)
    basis = here.source or before.source or f"a rough model of this CPU ({rate / 1e9:.0f} GFLOP/s)"
    width = 4 if plan.config.model.dtype == "float32" else 2
    trainable = parameters if plan.config.lora is None else parameters // 20
    batch = max(int(spec.training.get("per_device_train_batch_size", 8)) for spec in plan.specs)
    activations = int(batch * pair_tokens(plan) * parameters**0.5 * 400)
    training_memory = parameters * width + trainable * (width + 8) + activations
    engine_memory = parameters * 4 + plan.config.evaluation.engine.kv_cache_gib * _GIB
    free = shutil.disk_usage(next(p for p in (plan.output, *plan.output.parents) if p.exists())).free
    return Estimate(
        train,
        _evaluation(plan, states, here, before, parameters, rate),
        max(training_memory, engine_memory) + _GIB,
        len(waiting) * (trainable if plan.config.save == "adapter" else parameters) * width,
        free,
        basis,
        rough and bool(waiting),
        judge_costs(plan, states, lambda: rate or matmul_rate() * _EFFICIENCY),
    )


def _items_known(plan: Plan, *speeds: Speed) -> bool:
    return all(any(cell_kind(benchmark) in speed.item for speed in speeds) for benchmark in plan.benchmarks)


def _evaluation(
    plan: Plan, states: Sequence[RunState], here: Speed, before: Speed, parameters: int, rate: float
) -> float:
    """Seconds for the cells that are left, the reference's among them, and the engine's start if there are any."""
    if not plan.benchmarks:
        return 0.0
    reference = plan.policies([])[0]
    cell = []
    for benchmark in plan.benchmarks:
        item = here.item.get(cell_kind(benchmark), before.item.get(cell_kind(benchmark)))
        if item is None:  # an item of a task is read (about 100 tokens), an answer is written one token at a time
            tokens = 100 if benchmark["kind"] == "lm_eval" else 1.5 * (60 + benchmark.get("max_new_tokens", 0))
            item = 2 * tokens * parameters / rate
        cell.append(item * items(benchmark))
    left = [sum(cell) * (1 - state.cells / len(cell)) for state in states]
    left += [seconds for seconds, b in zip(cell, plan.benchmarks, strict=True) if not plan.cell_done(reference, b)]
    start = here.engine or before.engine or _ENGINE_SECONDS
    return sum(left) + start if any(left) else 0.0
