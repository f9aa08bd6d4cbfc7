"""The verifiable judge: a reward that is a program, by default the share of a prompt's constraints that an answer satisfies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.constraints.registry import code_of as kind_code
from evals.judges.base import Judge, JudgeError, Question, Request
from evals.judges.cache import Cost, Reply
from evals.rewards.registry import code_of, from_spec, placed
from trainers.common import Json, UserError

#: Seconds that checking an answer takes, roughly.
_CHECK_SECONDS = 2e-4


class VerifiableJudge(Judge):
    """Score of a reward; without one in [0, 1], and every question carries its constraints in `context["constraints"]`.

    Kinds from outside the package are known once the benchmark that brings them is built, which the judging job does.

    Args:
        reward: as of benchmark kind `gold_reward`; None for constraints.
    """

    by_rule = True

    def __init__(self, reward: str | Mapping[str, Any] | None = None) -> None:
        self._reward = from_spec("constraints" if reward is None else reward)
        self.context_keys = self._reward.reads

    @classmethod
    def placed(cls, params: Json, base: Path) -> tuple[Json, dict[str, str]]:
        if "reward" not in params:
            return params, {}
        reward = placed(params["reward"], base)
        code = code_of(reward)
        return {**params, "reward": reward}, {} if code is None else {"reward": code}

    def seconds_each(self, flops: Callable[[], float]) -> float:
        return _CHECK_SECONDS

    def identity(self) -> Json:
        return {"kind": "verifiable", "rule": self._reward.identity}

    def context_of(self, question: Question) -> Json:
        """Also the code of constraint kinds from outside: where it has changed, answers are checked again."""
        context = super().context_of(question)
        kinds = {str(constraint["kind"]) for constraint in context.get("constraints") or []}
        code = {kind: found for kind in sorted(kinds) if (found := kind_code(kind)) is not None}
        return context | ({"code": code} if code else {})

    def ask(self, requests: Sequence[Request], spent: Cost) -> Iterator[tuple[int, Reply]]:
        rows = [{**request.question.context, "prompt": request.question.prompt} for request in requests]
        for row in rows:
            try:
                self._reward.check(row)
            except UserError as error:
                raise JudgeError(f"prompt {row['prompt'][:60]!r}: {error}; or use another judge") from None
        found = self._reward.explained(rows, [request.answers[0] for request in requests])
        for index, (value, words) in enumerate(found):
            yield index, Reply(value, None if value is not None else "the reward gave no score", words)
