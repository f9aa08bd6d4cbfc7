"""Judges by name. Imports nothing heavy: constructing a judge loads no model and opens no connection.

A judge from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.judges`; its parameters are the keyword arguments of its `__init__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.judges.base import Judge, JudgeError
from trainers.common.plugins import Registry, entry_points

ENTRY_POINT_GROUP = "dpo_beta_harness.judges"

BUILTIN: Mapping[str, str] = {
    "verifiable": "evals.judges.verifiable:VerifiableJudge",
    "reward_model": "evals.judges.reward_model:RewardModelJudge",
    "llm": "evals.judges.llm:LLMJudge",
}


def available() -> dict[str, str]:
    """Names of all judges with their targets: the built-in ones, then those of installed packages."""
    return {**entry_points(ENTRY_POINT_GROUP), **BUILTIN}


def _registry() -> Registry:
    return Registry("judge", available(), (Judge,), JudgeError)


def source_file(judge: str) -> Path | None:
    """The file a judge written as `path/to/file.py:ClassName` comes from; None for a judge with a name."""
    return _registry().source_file(judge)


def parameters(judge: str) -> list[str] | None:
    """Names of a judge's own parameters; None if it takes any.

    Raises:
        JudgeError: an unknown judge.
    """
    return _registry().parameters(judge)


def build(judge: str, params: Mapping[str, Any] | None = None) -> Judge:
    """The judge of that name (or `path/to/file.py:ClassName`), its parameters checked.

    Raises:
        JudgeError: an unknown judge, parameter or value, with the nearest known name or what was expected.
    """
    built: Judge = _registry().build(judge, params)
    return built
