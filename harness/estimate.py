"""What a matrix will cost: time and memory, from measured runs where there are any, else from a rough model."""

from __future__ import annotations

import json
import shutil
import statistics
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.plan import Plan
from harness.store import RunStore

_GIB = 2**30
_BYTES_PER_TOKEN = 3.5  # of text; enough for an estimate


@dataclass(frozen=True)
class Estimate:
    """Seconds for what is left, peak memory and new disk space in bytes, and what the figures rest on."""

    train_seconds: float
    eval_seconds: float
    memory_bytes: int
    disk_bytes: int
    free_disk_bytes: int
    basis: str


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


def matmul_rate(seconds: float = 0.2) -> float:
    """Floating-point operations per second of a float32 matrix product on this CPU, measured for `seconds`."""
    import numpy as np

    a = np.ones((512, 512), dtype=np.float32)
    a @ a
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        a @ a
        count += 1
    return count * 2 * 512**3 / (time.perf_counter() - started)


def _steps(plan: Plan, training: dict[str, Any]) -> int:
    steps = int(training.get("max_steps", -1))
    batch = int(training.get("per_device_train_batch_size", 8)) * int(training.get("gradient_accumulation_steps", 1))
    if steps > 0:
        return steps * batch
    return int(len(plan.pairs) * float(training.get("num_train_epochs", 3)))


def estimate(plan: Plan) -> Estimate:
    """Estimate what is left of the matrix. Figures are rough; those of finished runs are used where there are any."""
    parameters = parameter_count(plan.model.path)
    waiting = [s for s in plan.specs if not RunStore(plan.run_dir(s)).is_done("train", s.fingerprint, verify=False)]
    measured = [
        stage["seconds"]
        for spec in plan.specs
        if (stage := RunStore(plan.run_dir(spec)).status()["stages"].get("train"))
    ]
    characters = statistics.mean(
        sum(len(t["content"].encode()) for t in pair.prompt + pair.chosen + pair.rejected) for pair in plan.pairs
    )
    tokens = characters / _BYTES_PER_TOKEN + 40
    rate = matmul_rate() * 0.7
    factor = 6.0 if plan.config.lora is None else 4.5
    basis = f"a rough model of this CPU ({rate / 1e9:.0f} GFLOP/s)"
    if measured:
        train, basis = statistics.median(measured) * len(waiting), f"{len(measured)} finished runs"
    else:
        train = sum(factor * parameters * tokens * _steps(plan, spec.training) / rate for spec in waiting) + 20
    policies = plan.policies(plan.specs)
    todo = [(p, b) for p in policies for b in plan.benchmarks if not plan.cell_done(p, b)]
    evaluation = 60.0 if todo else 0.0
    for _, benchmark in todo:
        if benchmark["kind"] == "lm_eval":
            evaluation += (benchmark.get("limit") or 200) * 100 * 2 * parameters / rate
        else:
            answers = (benchmark.get("limit") or 200) * benchmark["samples"]
            evaluation += answers * (60 + benchmark["max_new_tokens"]) * 4 * parameters / rate
    width = 4 if plan.config.model.dtype == "float32" else 2
    trainable = parameters if plan.config.lora is None else parameters // 20
    batch = max(int(spec.training.get("per_device_train_batch_size", 8)) for spec in plan.specs)
    activations = int(batch * tokens * parameters**0.5 * 400)
    training_memory = parameters * width + trainable * (width + 8) + activations
    engine_memory = parameters * 4 + plan.config.evaluation.engine.kv_cache_gib * _GIB
    disk = len(waiting) * parameters * width
    free = shutil.disk_usage(next(p for p in (plan.output, *plan.output.parents) if p.exists())).free
    return Estimate(train, evaluation, max(training_memory, engine_memory) + _GIB, disk, free, basis)
