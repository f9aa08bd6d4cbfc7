"""Scores of answers on disk, without an engine."""

from pathlib import Path
from typing import Any

from evals.benchmarks.base import Visit
from evals.benchmarks.constraints import ConstraintBenchmark
from evals.job import BenchmarkEntry, Policy


def policy_entry(run_id: str, out: Path, path: Path = Path(), fingerprint: str = "p") -> Policy:
    """A policy of a job."""
    return Policy(run_id=run_id, path=path, fingerprint=fingerprint, out=out)


def entry(name: str, kind: str, fingerprint: str = "b", **settings: Any) -> BenchmarkEntry:
    """A benchmark of a job."""
    return BenchmarkEntry(name=name, kind=kind, fingerprint=fingerprint, **settings)


def score(folder: Path, prompts: list[Any], policy: str, fingerprint: str, name: str) -> Any:
    """The score file of kind `constraints` for the answers of a policy whose directory is `folder`."""
    visit = Visit(None, policy_entry(policy, folder), entry(name, "constraints"), None, print)
    return ConstraintBenchmark().score(visit, prompts, fingerprint)
