"""How much memory a run takes and how much there is, so that no more runs are started than fit."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from harness.plan.plan import Plan
from harness.state import RunStore
from harness.state.machine import nvidia_smi
from trainers.common import Json, read_json
from trainers.common.files import parameter_count
from trainers.common.training_schema import LOG_HISTORY

_GIB = 2**30
#: Libraries and the interpreter of a training process.
BASE_BYTES = 1 * _GIB


def run_bytes(plan: Plan, training: Json, known: dict[str, int]) -> int:
    """Bytes one run is expected to take at its peak.

    `known` keeps the peaks that were found (run id -> bytes), so that a finished run is read once.

    The highest peak that a finished run of this matrix logged; before there is one: weights, gradients and the two moments of
    Adam for what is trained, a frozen copy, and activations.
    """
    for run_id in [spec.run_id for spec in plan.specs if spec.run_id not in known]:
        directory = plan.output / "runs" / run_id
        done = "train" in RunStore(directory).status().stages
        records = (read_json(directory / LOG_HISTORY) or {}).get(run_id, []) if done else []
        if peak := max((int(record.get("peak_memory_bytes") or 0) for record in records), default=0):
            known[run_id] = peak
    if known:
        return max(known.values()) + BASE_BYTES // 4
    parameters = parameter_count(plan.model.path)
    width = 4 if plan.config.model.dtype == "float32" else 2
    trainable = parameters if plan.config.lora is None else parameters // 20
    tokens = int(training.get("max_length") or 1024) * 2 * int(training.get("per_device_train_batch_size", 8))
    activations = int(tokens * parameters**0.5 * 100)
    copies = 2 if plan.config.lora is None else 1
    return parameters * width * copies + trainable * (width + 8) + activations + BASE_BYTES


def free_ram() -> int:
    """Bytes of memory that can be had without swapping: of the machine, or of the control group if that has fewer."""
    free, group = psutil.virtual_memory().available, Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no control group, or "max"
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="ascii")))
    return free


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it is gone or cannot be seen."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def fits(needed: int, running: Iterable[tuple[int, int]], free: int) -> bool:
    """Whether a run of `needed` bytes fits beside the running ones, given as (expected, resident) bytes each.

    What they are still expected to take is kept for them.
    """
    return needed + sum(max(expected - resident, 0) for expected, resident in running) <= free


def visible_gpus() -> list[str]:
    """GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() and name.strip() != "-1"]
    return list(gpu_free_bytes())


def gpu_free_bytes() -> dict[str, int]:
    """Index -> free bytes of every NVIDIA GPU."""
    return {index: int(free) * 2**20 for index, free in nvidia_smi("index", "memory.free")}
