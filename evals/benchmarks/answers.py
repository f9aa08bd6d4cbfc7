"""Benchmarks that score answers one at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from evals.benchmarks.base import Benchmark, Row, Visit
from evals.benchmarks.generate import generate_missing, read_generations, turn_id
from evals.benchmarks.logprobs import Request, are_complete, complete, log_perplexity, prompt_requests
from evals.estimates import mean
from trainers.common import scores_schema

PERPLEXITY = "log_prompt_perplexity"
#: In a score file: the policy under which PERPLEXITY of its items was measured; null where the rows carried the values.
PERPLEXITY_UNDER = "prompt_perplexity_under"


class AnswerBenchmark(Benchmark):
    """A benchmark that scores answers one at a time: a subclass reads the rows and gives each answer its values."""

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
        return read_generations(visit)

    def collect(self, visit: Visit, rows: list[Row]) -> None:
        """Generate the answers; of the reference, also score the prompts."""
        generate_missing(visit, [{"id": row["id"], "turns": self.turns_of(row)} for row in rows])
        if visit.is_reference and visit.reference is not None:
            complete(visit.of_reference(), self._prompts(visit, rows))

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Whether the prompts are not yet scored under the reference."""
        return visit.reference is not None and not are_complete(visit.of_reference(), self._prompts(visit, rows))

    def score(self, visit: Visit, rows: list[Row], fingerprint: str) -> Row:
        """The score file; samples of a prompt are averaged, and later turns are items of their own in the group of the first.

        Prompt perplexity (nats per token after the first, under the reference) is that of the first turn.
        """
        answers, perplexity = self.answers_of(visit, rows), self._prompt_perplexity(visit, rows)
        items = []
        for row, log_ppl in zip(rows, perplexity, strict=True):
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
                        PERPLEXITY: None if turn else log_ppl,
                        **self.details(row, found[0]),
                    }
                )
        under = None if visit.reference is None else scores_schema.REFERENCE
        said = {PERPLEXITY_UNDER: under, "by_rule": self.by_rule, "descriptions": dict(self.descriptions)}
        return self.result(visit, fingerprint, items) | said

    def turns_of(self, row: Row) -> list[str]:
        return list(row.get("turns") or [self.message(row)])

    def _prompts(self, visit: Visit, rows: list[Row]) -> list[Request | None]:
        return prompt_requests(visit, [self.turns_of(row)[0] for row in rows])

    def _prompt_perplexity(self, visit: Visit, rows: list[Row]) -> list[float | None]:
        """Of each row; without a reference what the rows carry."""
        if visit.reference is None:
            return [row.get(PERPLEXITY) for row in rows]
        requests = self._prompts(visit, rows)
        scored = complete(visit.of_reference(), requests)
        return [None if request is None else log_perplexity(scored[request.id]) for request in requests]
