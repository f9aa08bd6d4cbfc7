"""The verifiable judge: the gold reward, the share of a prompt's constraints that an answer satisfies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from evals.constraints import RULE, gold_reward
from evals.constraints.registry import code_of
from evals.judges.base import Judge, JudgeError, Question, Request
from evals.judges.cache import Cost, Reply


class VerifiableJudge(Judge):
    """Score in [0, 1]. Every question carries its constraints in `context["constraints"]`.

    Kinds from outside the package are known once the benchmark that brings them is built, which the judging job does.
    """

    context_keys = ("constraints",)

    def identity(self) -> dict[str, Any]:
        return {"kind": "verifiable", "rule": RULE}

    def context_of(self, question: Question) -> dict[str, Any]:
        """Also the code of constraint kinds from outside: where it has changed, answers are checked again."""
        context = super().context_of(question)
        kinds = {str(constraint["kind"]) for constraint in context.get("constraints") or []}
        code = {kind: found for kind in sorted(kinds) if (found := code_of(kind)) is not None}
        return context | ({"code": code} if code else {})

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            constraints = request.question.context.get("constraints")
            if not constraints:
                prompt = request.question.prompt[:60]
                raise JudgeError(
                    f"the verifiable judge needs constraints, and the prompt {prompt!r} has none; use another judge"
                )
            result = gold_reward(request.answers[0], constraints)
            passed = ", ".join(f"{check.constraint}={'yes' if check.passed else 'no'}" for check in result.checks)
            yield index, Reply(result.score, raw=passed)
