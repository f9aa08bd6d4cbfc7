"""A judge as a reward: any judge that scores single answers, reward models among them."""

from collections.abc import Sequence
from functools import cached_property

from evals.judges.base import Judge, Question, Request
from evals.judges.cache import Cost, Reply
from evals.rewards.base import Reward, RewardError, Row
from trainers.common.scores_schema import canonical


class JudgeReward(Reward):
    """The judge's score; an answer without a verdict has none. Replies are not cached."""

    def __init__(self, judge: Judge) -> None:
        if judge.compares:
            raise RewardError(
                f"{type(judge).__name__} compares two answers, and a reward scores one; use a scoring template"
            )
        self.judge, self.by_rule = judge, judge.by_rule

    @cached_property
    def rule(self) -> str:  # type: ignore[override]
        return f"judge: {canonical(self.judge.identity())}"

    @property
    def description(self) -> str:
        return f"score of the judge {type(self.judge).__name__}"

    def check(self, row: Row) -> None:
        lacking = next((key for key in self.judge.context_keys if not row.get(key)), None)
        if lacking is not None:
            raise RewardError(f"{lacking!r} is missing or empty, and {type(self.judge).__name__} reads it")

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float | None]:
        requests = [Request(Question(row["prompt"], row), (answer,)) for row, answer in zip(rows, answers, strict=True)]
        replies: dict[int, Reply] = {}
        for index, reply in self.judge.ask(requests, Cost()):
            if not reply.final and reply.value is None:
                raise RewardError(f"{type(self.judge).__name__} gave no reply ({reply.reason}); start again later")
            replies[index] = reply
        return [replies[i].value if i in replies else None for i in range(len(requests))]
