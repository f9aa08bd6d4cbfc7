"""Kinds of benchmark by name. Importing it loads nothing heavy.

A kind from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.benchmarks`; its parameters are the keyword arguments of its `__init__`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from evals.benchmarks.base import Benchmark, BenchmarkError

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


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}


def available() -> dict[str, str]:
    """Names of all kinds with their targets: the built-in ones, then those of installed packages."""
    return {**_entry_points(), **BUILTIN}


def source_file(kind: str) -> Path | None:
    """The file a kind written as `path/to/file.py:ClassName` comes from; None for a kind with a name."""
    location, _, _ = kind.rpartition(":")
    return Path(location) if kind not in available() and location.endswith(".py") else None


def find(kind: str) -> type[Benchmark]:
    """The class of a kind.

    Raises:
        BenchmarkError: unknown, not there, or no subclass of Benchmark.
    """
    targets = available()
    location, _, name = targets.get(kind, kind).rpartition(":")
    if kind not in targets and not (location.endswith(".py") and name.isidentifier()):
        near = difflib.get_close_matches(kind, targets, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known kinds: {', '.join(sorted(targets))}"
        raise BenchmarkError(f"unknown benchmark kind {kind!r}; {hint}")
    module = _load_file(Path(location)) if location.endswith(".py") else importlib.import_module(location)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Benchmark)):
        raise BenchmarkError(f"{location} has no class {name!r} that subclasses evals.benchmarks.base.Benchmark")
    lacking = [key for key in ("kind", "metrics") if not hasattr(found, key)]
    if lacking:
        raise BenchmarkError(f"{location}: class {name!r} does not set {lacking[0]!r}; see evals.benchmarks.base")
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


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BenchmarkError(f"no such file {path}; write path/to/file.py:ClassName")
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BenchmarkError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code can raise anything
        raise BenchmarkError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module
