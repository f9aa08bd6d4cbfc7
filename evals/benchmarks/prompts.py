"""Kind `prompts`: a set of prompts, of one turn or several, and how the answers are written; judges compare them later."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.benchmarks.answers import REFERENCE_LOGPROBS, ReferenceScored
from evals.benchmarks.base import Row, Visit
from evals.benchmarks.logprobs import Request, log_perplexity
from evals.benchmarks.rows import load_prompts
from evals.benchmarks.text_statistics import distinct, is_refusal, repetition, units
from trainers.common.plugins import checked

#: Metric: perplexity of the answers under the reference, log.
PERPLEXITY = "response_log_perplexity_reference"


class PromptSet(ReferenceScored):
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
            PERPLEXITY: log_perplexity(answer[REFERENCE_LOGPROBS]),
        }

    def requests(self, visit: Visit) -> dict[tuple[str, int], Request]:
        return super().requests(visit) if self._reference_perplexity else {}

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        return {"category": row["category"]} if "category" in row else {}
