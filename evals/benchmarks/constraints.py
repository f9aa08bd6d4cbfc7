"""Kind `constraints`: prompts with verifiable constraints; the gold reward is the share an answer satisfies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.base import Benchmark, Row, Visit
from evals.constraints.benchmark import load_prompts, score
from trainers.common import scores_schema


class ConstraintBenchmark(Benchmark):
    """`evals.constraints.benchmark` over the engine."""

    kind = "constraints"
    metrics: ClassVar[Mapping[str, bool | None]] = {"gold_reward": True, "all_satisfied": True, "response_words": None}

    def load(self, path: Path, limit: int | None) -> list[Row]:
        return load_prompts(path, limit)

    def turns_of(self, row: Row) -> list[str]:
        return [row["prompt"]]

    def collect(self, visit: Visit, rows: list[Row]) -> None:
        from evals.benchmarks import prompt_perplexity
        from evals.benchmarks.generate import generate_missing

        generate_missing(visit, [{"id": row["id"], "turns": self.turns_of(row)} for row in rows])
        prompt_perplexity.collect(visit, rows, self.turns_of)

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Only where the prompts are not scored under the reference yet."""
        from evals.benchmarks import prompt_perplexity

        return prompt_perplexity.is_missing(visit, rows, self.turns_of)

    def score(self, visit: Visit, rows: list[Row], fingerprint: str) -> dict[str, Any]:
        from evals.benchmarks import prompt_perplexity

        answers = scores_schema.read_rows(scores_schema.generations_path(Path(visit.policy["out"]), visit.name))
        rows = prompt_perplexity.with_perplexity(visit, rows, self.turns_of)
        found = score(answers, rows, str(visit.policy["run_id"]), fingerprint, visit.name)
        return found | prompt_perplexity.source(visit)
