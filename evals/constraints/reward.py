"""The gold reward: the share of a prompt's constraints that an answer satisfies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.constraints.registry import ConstraintError, resolve
from evals.constraints.text import is_empty

RULE = "gold_reward/1: share of the prompt's constraints satisfied by exact checks; an empty answer satisfies none"
"""Text and version of the rule, kept with every pair it decided."""


@dataclass(frozen=True)
class Check:
    """One constraint of a prompt, checked: its kind, its English instruction, and whether the answer obeys it."""

    constraint: str
    instruction: str
    passed: bool


@dataclass(frozen=True)
class Result:
    """Score in [0, 1] (share of constraints satisfied), whether all are, and the single checks in order."""

    score: float
    all_satisfied: bool
    checks: tuple[Check, ...]


def gold_reward(text: str, constraints: Sequence[Mapping[str, Any]]) -> Result:
    """Check an answer against the constraints of its prompt.

    Args:
        text: the answer.
        constraints: at least one ``{"kind", "args"}``.

    Raises:
        ConstraintError: no constraints, or a malformed one.
    """
    if not constraints:
        raise ConstraintError("a gold reward needs at least one constraint; the prompt has none")
    empty = is_empty(text)
    checks = []
    for constraint in constraints:
        kind, checker, args = resolve(constraint)
        checks.append(Check(kind, checker.describe(args), not empty and checker.check(text, args)))
    passed = sum(check.passed for check in checks)
    return Result(passed / len(checks), passed == len(checks), tuple(checks))
