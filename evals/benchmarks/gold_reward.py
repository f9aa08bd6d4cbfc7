"""Kind `gold_reward`: prompts whose answers are scored by any reward."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.answers import AnswerBenchmark
from evals.benchmarks.base import BenchmarkError, Row, Visit
from evals.benchmarks.generate import turn_id
from evals.benchmarks.rows import load_prompts
from evals.constraints.text import words
from evals.rewards.base import scores
from evals.rewards.registry import from_spec
from trainers.common import UserError

METRIC = "gold_reward"


class GoldReward(AnswerBenchmark):
    """Rows as of kind `prompts`, with what the reward reads. Every turn of a conversation is scored separately.

    Args:
        reward: a name of evals.rewards.registry, `path/to/file.py:ClassName`, or `{kind: NAME, ...}` with its parameters.
    """

    kind = "gold_reward"
    metrics: ClassVar[Mapping[str, bool | None]] = {METRIC: True, "response_words": None}

    def __init__(self, reward: str | Mapping[str, Any]) -> None:
        self._reward = from_spec(reward)
        self.by_rule, self.descriptions = self._reward.by_rule, {METRIC: self._reward.description}

    def identity(self) -> Row:
        return {"reward": self._reward.identity}

    def load(self, path: Path, limit: int | None) -> list[Row]:
        rows = load_prompts(path, limit)
        for row in rows:
            try:
                self._reward.check(row)
            except UserError as error:
                raise BenchmarkError(f"{path}: prompt {row['id']!r}: {error}") from None
        return rows

    def answers_of(self, visit: Visit, rows: list[Row]) -> dict[str, list[Row]]:
        """With the score of each answer, all of them given to the reward at once."""
        found = super().answers_of(visit, rows)
        self.reward(visit, rows, found)
        return found

    def reward(self, visit: Visit, rows: list[Row], found: Mapping[str, list[Row]]) -> None:
        """Give every answer to these rows its score, under METRIC.

        Raises:
            BenchmarkError: the reward cannot score them.
        """
        asked = [
            (row | {"prompt": answer["prompt"]}, answer)
            for row in rows
            for turn in range(len(self.turns_of(row)))
            for answer in found[turn_id(row["id"], turn)]
        ]
        try:
            values = scores(self._reward, [row for row, _ in asked], [answer["text"] for _, answer in asked])
        except UserError as error:
            raise BenchmarkError(f"benchmark {visit.name!r}: {error}") from None
        for (_, answer), value in zip(asked, values, strict=True):
            answer[METRIC] = value

    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        return {METRIC: answer[METRIC], "response_words": float(len(words(answer["text"])))}
