"""Kind `prompts`: a set of prompts, of one turn or several, and how the answers are written; judges compare them later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.benchmarks.base import AnswerBenchmark, Row
from evals.benchmarks.rows import load_prompts
from evals.benchmarks.text_statistics import distinct, is_refusal, repetition, units


class PromptSet(AnswerBenchmark):
    """Rows `prompt`, AlpacaEval's `instruction`, or MT-Bench's `turns`; every metric is a description."""

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
        )
    )

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
        }

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        return {"category": row["category"]} if "category" in row else {}
