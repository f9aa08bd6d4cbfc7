"""Kind `constraints`: prompts with verifiable constraints; the gold reward is the share an answer satisfies."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.answers import AnswerBenchmark
from evals.benchmarks.base import BenchmarkError, Row
from evals.benchmarks.rows import read, text_of
from evals.constraints import gold_reward
from evals.constraints.text import words
from evals.rewards.constraints import Constraints
from trainers.common import UserError


class ConstraintBenchmark(AnswerBenchmark):
    """Rows `id`, `prompt`, `constraints` and free further keys; `style` is a stratum, kept with the item."""

    kind = "constraints"
    metrics: ClassVar[Mapping[str, bool | None]] = {"gold_reward": True, "all_satisfied": True, "response_words": None}
    by_rule = True
    descriptions: Mapping[str, str] = {"gold_reward": "share of the prompt's constraints that the answer satisfies"}

    def load(self, path: Path, limit: int | None) -> list[Row]:
        rows = read(path, limit)
        for where, row in rows:
            text_of(row, ("prompt",), where)
            try:
                Constraints().check(row)
            except UserError as error:
                raise BenchmarkError(f"{where}: {error}") from None
        return [row for _, row in rows]

    def prompts_of(self, row: Row) -> list[str]:
        return self.turns_of(row)

    def turns_of(self, row: Row) -> list[str]:
        return [row["prompt"]]

    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        result = gold_reward(answer["text"], row["constraints"])
        return {
            "gold_reward": result.score,
            "all_satisfied": float(result.all_satisfied),
            "response_words": float(len(words(answer["text"]))),
        }

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        checks = gold_reward(answer["text"], row["constraints"]).checks
        return {"style": row.get("style"), "checks": [asdict(check) for check in checks]}
