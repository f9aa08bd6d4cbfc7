"""Benchmarks that look at each answer by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from evals.benchmarks.base import Benchmark, Row, Visit
from evals.estimates import mean


class AnswerBenchmark(Benchmark):
    """A benchmark that looks at each answer by itself: a subclass says what a row is and what an answer is worth."""

    @abstractmethod
    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        """Value of every metric for one answer (a row of generations: text, token_ids, finish_reason, ...)."""

    def message(self, row: Row) -> str:
        """What the policy is asked."""
        return str(row["prompt"])

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        """Further keys of a row's item, from its first answer."""
        return {}

    def answers_of(self, visit: Visit, rows: list[Row]) -> dict[str, list[Row]]:
        """The policy's answers to `rows` by prompt id, in order of their sample."""
        from evals.benchmarks.generate import read_generations

        return read_generations(visit)

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
        """Samples of a prompt are averaged first; later turns are items of their own, in the group of the first.

        Prompt perplexity is that of the first turn: later ones follow on what the policy has said.
        """
        from evals.benchmarks import prompt_perplexity
        from evals.benchmarks.generate import turn_id

        answers = self.answers_of(visit, rows)
        rows = prompt_perplexity.with_perplexity(visit, rows, self.turns_of)
        items = []
        for row in rows:
            turns = self.turns_of(row)
            for turn, text in enumerate(turns):
                found = answers[turn_id(row["id"], turn)]
                each = [self.values(row, answer) for answer in found]
                items.append(
                    {
                        "id": turn_id(row["id"], turn),
                        "values": {name: mean([values.get(name) for values in each]) for name in self.metrics},
                        "group": row["id"] if len(turns) > 1 else row.get("group"),
                        "prompt": text,
                        "response": found[0]["text"],
                        "log_prompt_perplexity": None if turn else row.get("log_prompt_perplexity"),
                        **self.details(row, found[0]),
                    }
                )
        return self.result(visit, fingerprint, items) | prompt_perplexity.source(visit)

    def turns_of(self, row: Row) -> list[str]:
        return list(row.get("turns") or [self.message(row)])
