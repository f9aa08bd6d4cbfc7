"""The verifiable judge: a reward that is a program, by default the share of a prompt's constraints that an answer satisfies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evals.constraints import RULE, gold_reward
from evals.constraints.registry import code_of
from evals.judges.base import Judge, JudgeError, Question, Request
from evals.judges.cache import Cost, Reply
from evals.rewards.base import Reward, RewardError, scores


class VerifiableJudge(Judge):
    """Score of a reward; without one in [0, 1], and every question carries its constraints in `context["constraints"]`.

    Kinds from outside the package are known once the benchmark that brings them is built, which the judging job does.

    Args:
        reward: as of benchmark kind `gold_reward`; None for constraints.
    """

    by_rule = True

    def __init__(self, reward: str | Mapping[str, Any] | None = None) -> None:
        self._reward: Reward | None = None
        if reward in (None, "constraints"):
            self.context_keys = ("constraints",)
            return
        from evals.rewards.registry import from_spec

        try:
            self._reward = from_spec(reward)
        except RewardError as error:
            raise JudgeError(str(error)) from None

    def identity(self) -> dict[str, Any]:
        return {"kind": "verifiable", "rule": RULE if self._reward is None else self._reward.identity}

    def context_of(self, question: Question) -> dict[str, Any]:
        """Also the code of constraint kinds from outside: where it has changed, answers are checked again."""
        context = super().context_of(question)
        kinds = {str(constraint["kind"]) for constraint in context.get("constraints") or []}
        code = {kind: found for kind in sorted(kinds) if (found := code_of(kind)) is not None}
        return context | ({"code": code} if code else {})

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        if self._reward is not None:
            yield from enumerate(self._by_reward(self._reward, requests))
            return
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

    def _by_reward(self, reward: Reward, requests: Sequence[Request]) -> list[Reply]:
        rows = [{**request.question.context, "prompt": request.question.prompt} for request in requests]
        try:
            for row in rows:
                reward.check(row)
            found = scores(reward, rows, [request.answers[0] for request in requests])
        except RewardError as error:
            raise JudgeError(str(error)) from None
        return [Reply(value, None if value is not None else "the reward gave no score") for value in found]
