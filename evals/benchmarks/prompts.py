"""Kind `prompts`: a set of prompts, of one turn or several, and how the answers are written; judges compare them later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.benchmarks.answers import AnswerBenchmark
from evals.benchmarks.base import Row, Visit
from evals.benchmarks.generate import read_generations
from evals.benchmarks.logprobs import Request, are_complete, complete, log_perplexity
from evals.benchmarks.rows import load_prompts
from evals.benchmarks.text_statistics import distinct, is_refusal, repetition, units
from evals.engine.chat import message_ids
from trainers.common.plugins import checked

#: Metric: perplexity of the answers under the reference, log.
PERPLEXITY = "response_log_perplexity_reference"


class PromptSet(AnswerBenchmark):
    """Rows `prompt`, AlpacaEval's `instruction`, or MT-Bench's `turns`; every metric is a description.

    Args:
        reference_perplexity: also score the answers under the reference (nats a token), once all policies were visited.
    """

    kind = "prompts"
    metrics = dict.fromkeys(
        (
            "response_words",
            "response_tokens",
            "distinct_1",
            "distinct_2",
            "repetition_4",
            "refusal",
            "truncated",
            "empty",
            "response_log_perplexity",
            PERPLEXITY,
        )
    )

    @checked
    def __init__(self, reference_perplexity: bool = True) -> None:
        self._reference_perplexity = reference_perplexity

    def load(self, path: Path, limit: int | None) -> list[Row]:
        return load_prompts(path, limit)

    def prompts_of(self, row: Row) -> list[str]:
        return list(row["turns"])

    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        tokens = units(answer["text"])
        return {
            "response_words": float(len(tokens)),
            "response_tokens": float(len(answer["token_ids"])),
            "distinct_1": distinct(tokens, 1),
            "distinct_2": distinct(tokens, 2),
            "repetition_4": repetition(tokens),
            "refusal": float(is_refusal(answer["text"])),
            "truncated": float(answer["finish_reason"] == "length"),
            "empty": float(not answer["text"].strip()),
            "response_log_perplexity": log_perplexity(answer.get("logprobs") or ()),
            PERPLEXITY: answer.get(PERPLEXITY),
        }

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Where prompts or answers are not scored under the reference yet."""
        return super().needs_reference(visit, rows) or not are_complete(visit, list(self._requests(visit).values()))

    def answers_of(self, visit: Visit, rows: list[Row]) -> dict[str, list[Row]]:
        """With the perplexity of each answer under the reference, whose weights are served where it is not on disk."""
        answers, requests = super().answers_of(visit, rows), self._requests(visit)
        scored = complete(visit, list(requests.values()))
        for found in answers.values():
            for answer in found:
                request = requests.get((answer["prompt_id"], int(answer["sample"])))
                answer[PERPLEXITY] = None if request is None else log_perplexity(scored[request.id])
        return answers

    def _requests(self, visit: Visit) -> dict[tuple[str, int], Request]:
        """Every answer after what led to it; none where the perplexities are not wanted or there is no reference."""
        if not self._reference_perplexity or visit.reference is None:
            return {}
        tokenizer, room, found = visit.engine.tokenizer, visit.engine.max_model_len - 1, {}
        for answer in (one for rows in read_generations(visit).values() for one in rows):
            question = {"role": "user", "content": answer["prompt"]}
            context = message_ids(tokenizer, [*answer.get("messages", []), question])
            # of an answer that fills max_model_len all but the last token: vLLM generates one with every text it scores
            tokens = answer["token_ids"][: room - len(context)]
            if tokens:
                name = f"{answer['prompt_id']}/{answer['sample']}"
                found[answer["prompt_id"], int(answer["sample"])] = Request(name, context, tokens)
        return found

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        return {"category": row["category"]} if "category" in row else {}
