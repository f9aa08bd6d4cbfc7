"""Verifiable instruction following: exact checkers for natural-language constraints and the gold reward over them."""

from evals.constraints import counts, form, wording  # noqa: F401  (importing them registers the kinds)
from evals.constraints.registry import (
    RULE,
    Check,
    Constraint,
    ConstraintError,
    Result,
    check,
    choice_arg,
    count_arg,
    describe,
    gold_reward,
    kinds,
    register,
    resolve,
    text_arg,
    texts_arg,
)

__all__ = [
    "RULE",
    "Check",
    "Constraint",
    "ConstraintError",
    "Result",
    "check",
    "choice_arg",
    "count_arg",
    "describe",
    "gold_reward",
    "kinds",
    "register",
    "resolve",
    "text",
    "text_arg",
    "texts_arg",
]
