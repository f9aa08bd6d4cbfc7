"""Judges by name. Imports nothing heavy: constructing a judge loads no model and opens no connection.

A judge from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.judges`; its parameters are the keyword arguments of its `__init__`.
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

from evals.judges.base import Judge, JudgeError

ENTRY_POINT_GROUP = "dpo_beta_harness.judges"

BUILTIN: Mapping[str, str] = {
    "verifiable": "evals.judges.verifiable:VerifiableJudge",
    "reward_model": "evals.judges.reward_model:RewardModelJudge",
    "llm": "evals.judges.llm:LLMJudge",
}


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}


def available() -> dict[str, str]:
    """Names of all judges with their targets: the built-in ones, then those of installed packages."""
    return {**_entry_points(), **BUILTIN}


def source_file(judge: str) -> Path | None:
    """The file a judge written as `path/to/file.py:ClassName` comes from; None for a judge with a name."""
    location, _, _ = judge.rpartition(":")
    return Path(location) if judge not in available() and location.endswith(".py") else None


def parameters(judge: str) -> list[str] | None:
    """Names of a judge's own parameters; None if it takes any.

    Raises:
        JudgeError: an unknown judge.
    """
    found = inspect.signature(_load(judge)).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return None
    return [p.name for p in found if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]


def build(judge: str, params: Mapping[str, Any] | None = None) -> Judge:
    """The judge of that name (or `path/to/file.py:ClassName`), its parameters checked.

    Raises:
        JudgeError: an unknown judge, parameter or value, with the nearest known name or what was expected.
    """
    cls = _load(judge)
    params = dict(params or {})
    signature = inspect.signature(cls)
    takes = [p for p in signature.parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in takes]
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        for key in params:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names) or 'none'}"
                raise JudgeError(f"judge {judge!r} has no parameter {key!r}; {hint}")
    missing = [p.name for p in takes if p.default is p.empty and p.name not in params]
    if missing:
        raise JudgeError(f"judge {judge!r} needs the parameter {missing[0]!r}; add it")
    try:
        built = cls(**params)
    except JudgeError as error:
        raise JudgeError(f"judge {judge!r}: {error}") from error
    except Exception as error:  # a judge from outside can raise anything
        raise JudgeError(f"judge {judge!r} refuses its parameters: {type(error).__name__}: {error}") from error
    if not isinstance(built, Judge):
        raise JudgeError(f"judge {judge!r}: {cls.__name__} must subclass evals.judges.base.Judge")
    return built


def _load(judge: str) -> Any:
    targets = available()
    target = targets.get(judge, judge)
    location, _, name = target.rpartition(":")
    if judge not in targets and not (location.endswith(".py") and name.isidentifier()):
        near = difflib.get_close_matches(judge, targets, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known judges: {', '.join(sorted(targets))}"
        raise JudgeError(f"unknown judge {judge!r}; {hint}")
    module = _load_file(judge, Path(location)) if location.endswith(".py") else importlib.import_module(location)
    try:
        return getattr(module, name)
    except AttributeError:
        raise JudgeError(f"judge {judge!r}: {location} has no class {name!r}") from None


def _load_file(judge: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise JudgeError(f"judge {judge!r}: no such file {path}; write path/to/file.py:ClassName")
    spec = importlib.util.spec_from_file_location(f"judge_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise JudgeError(f"judge {judge!r}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code can raise anything
        raise JudgeError(f"judge {judge!r}: {path} does not import: {type(error).__name__}: {error}") from error
    return module
