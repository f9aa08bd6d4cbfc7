"""Kinds of benchmark by name. Importing it loads nothing heavy.

A kind from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.benchmarks`; its parameters are the keyword arguments of its `__init__`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.benchmarks.base import Benchmark, BenchmarkError
from trainers.common.plugins import Registry, entry_points

ENTRY_POINT_GROUP = "dpo_beta_harness.benchmarks"

BUILTIN: Mapping[str, str] = {
    "constraints": "evals.benchmarks.constraints:ConstraintBenchmark",
    "prompts": "evals.benchmarks.prompts:PromptSet",
    "gsm8k": "evals.benchmarks.gsm8k:Gsm8k",
    "ifeval": "evals.benchmarks.ifeval:IfEval",
    "preference": "evals.benchmarks.preference:Preference",
    "gold_reward": "evals.benchmarks.gold_reward:GoldReward",
    "kl": "evals.benchmarks.kl:KlToReference",
}


def available() -> dict[str, str]:
    """Names of all kinds with their targets: the built-in ones, then those of installed packages."""
    return {**entry_points(ENTRY_POINT_GROUP), **BUILTIN}


def source_file(kind: str) -> Path | None:
    """The file a kind written as `path/to/file.py:ClassName` comes from; None for a kind with a name."""
    return _registry().source_file(kind)


def _registry() -> Registry:
    return Registry("benchmark kind", available(), (Benchmark,), BenchmarkError)


def find(kind: str) -> type[Benchmark]:
    """The class of a kind.

    Raises:
        BenchmarkError: unknown, not there, or no subclass of Benchmark.
    """
    found = _registry().load(kind)
    if not (isinstance(found, type) and issubclass(found, Benchmark)):
        raise BenchmarkError(f"{kind!r} is no subclass of evals.benchmarks.base.Benchmark")
    lacking = [key for key in ("kind", "metrics") if not hasattr(found, key)]
    if lacking:
        raise BenchmarkError(f"kind {kind!r} does not set {lacking[0]!r}; see evals.benchmarks.base")
    return found


def parameters(cls: type[Benchmark]) -> list[str]:
    """Names of a kind's own parameters."""
    if cls.__init__ is object.__init__:
        return []
    return [name for name in inspect.signature(cls).parameters]


def build(kind: str, params: Mapping[str, Any] | None = None) -> Benchmark:
    """The benchmark of that kind with these parameters.

    Raises:
        BenchmarkError: as `find`; also an unknown, missing or bad parameter.
    """
    cls, params = find(kind), dict(params or {})
    names = parameters(cls)
    unknown = next((key for key in params if key not in names), None)
    if unknown is not None:
        raise BenchmarkError(f"kind {kind!r} has no parameter {unknown!r}; it takes {', '.join(names) or 'none'}")
    try:
        inspect.signature(cls).bind(**params)
    except TypeError as error:
        raise BenchmarkError(f"kind {kind!r}: {error}; add it") from None
    return cls(**params)
