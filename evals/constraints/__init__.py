"""Verifiable instruction following: exact checkers for natural-language constraints and the gold reward over them."""

from __future__ import annotations

from evals.constraints import counts, form, wording  # noqa: F401  (importing them registers the kinds)
from evals.constraints.registry import (
    Arg,
    Constraint,
    ConstraintError,
    check,
    choice_arg,
    count_arg,
    describe,
    get,
    kinds,
    register,
    resolve,
    text_arg,
    texts_arg,
)
from evals.constraints.reward import RULE, Check, Result, gold_reward

__all__ = [
    "RULE",
    "Arg",
    "Check",
    "Constraint",
    "ConstraintError",
    "Result",
    "check",
    "choice_arg",
    "count_arg",
    "describe",
    "get",
    "gold_reward",
    "kinds",
    "register",
    "resolve",
    "text_arg",
    "texts_arg",
]
