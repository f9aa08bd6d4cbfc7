"""Runs of several processes: what `accelerate launch` is told."""

from __future__ import annotations

from pathlib import Path

import yaml

from harness.plan.plan import Plan
from trainers.common import UserError


def launch_arguments(plan: Plan, accelerate: str | None, gpus_per_run: int) -> list[str] | None:
    """Arguments of `accelerate launch` for one run on one machine; None for a run in one process.

    Args:
        accelerate: a file that `accelerate config` wrote, relative to the matrix file; without, DDP over the run's GPUs.

    Raises:
        UserError: no such file.
    """
    if accelerate is None:
        if gpus_per_run < 2:
            return None
        return ["--multi_gpu", "--num_machines", "1", "--num_processes", str(gpus_per_run), "--main_process_port", "0"]
    path = _path(plan, accelerate)
    if not path.is_file():
        at = plan.source.at("executor", "accelerate")
        raise UserError(f"{at} is {accelerate!r}; no such file: {path} (paths are relative to the matrix file)")
    processes = ["--num_processes", str(gpus_per_run)] if gpus_per_run > 1 else []
    return ["--config_file", str(path), *processes, "--main_process_port", "0"]


def gpus_of_launch(plan: Plan, accelerate: str | None) -> int:
    """GPUs that a run takes if nothing else is said: one for each process of the file, 1 without a file."""
    if accelerate is None:
        return 1
    try:
        found = yaml.safe_load(_path(plan, accelerate).read_text(encoding="utf-8"))
        return 0 if found.get("use_cpu") else int(found.get("num_processes", 1))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
        return 1  # what is wrong with it is said when it is used


def _path(plan: Plan, accelerate: str) -> Path:
    return (plan.source.path.parent / Path(accelerate).expanduser()).resolve()
