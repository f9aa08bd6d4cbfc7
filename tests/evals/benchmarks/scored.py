"""Scores of answers on disk, without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.benchmarks.base import Visit
from evals.benchmarks.constraints import ConstraintBenchmark


def score(folder: Path, prompts: list[Any], policy: str, fingerprint: str, name: str) -> Any:
    """The score file of kind `constraints` for the answers of a policy whose directory is `folder`."""
    visit = Visit(None, {"run_id": policy, "out": str(folder)}, {"name": name}, None, print)
    return ConstraintBenchmark().score(visit, prompts, fingerprint)
