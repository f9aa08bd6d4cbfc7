"""The share of a prompt's verifiable constraints that an answer satisfies."""

from collections.abc import Sequence

from evals.constraints import RULE, gold_reward, resolve
from evals.rewards.base import Reward, RewardError, Row


class Constraints(Reward):
    """Score in [0, 1]; every prompt row carries its `constraints`."""

    rule = RULE
    reads = ("constraints",)

    def check(self, row: Row) -> None:
        constraints = row.get("constraints")
        if not isinstance(constraints, list) or not constraints:
            raise RewardError("'constraints' is missing or empty; add a list of constraints, or choose another reward")
        for constraint in constraints:
            resolve(constraint)

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> list[float]:
        return [gold_reward(answer, row["constraints"]).score for row, answer in zip(rows, answers, strict=True)]

    def explained(self, rows: Sequence[Row], answers: Sequence[str]) -> list[tuple[float | None, str | None]]:
        """In words: which constraints each answer satisfies."""
        found = [gold_reward(answer, row["constraints"]) for row, answer in zip(rows, answers, strict=True)]
        return [
            (one.score, ", ".join(f"{check.constraint}={'yes' if check.passed else 'no'}" for check in one.checks))
            for one in found
        ]
