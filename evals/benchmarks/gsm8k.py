"""Kind `gsm8k`: the final number of a worked answer against the right one (Cobbe et al., arXiv 2110.14168)."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.answers import AnswerBenchmark
from evals.benchmarks.base import BenchmarkError, Row
from evals.benchmarks.rows import read, text_of
from trainers.common.plugins import checked

_NUMBER = re.compile(r"-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\$?\.\d+")
_MARKED = re.compile(r"####\s*(-?\$?[\d.,]*\d)")

INSTRUCTION = "Think step by step. End your answer with '#### ' and the final number."


def number(text: str) -> Decimal | None:
    """The value of one number as written: currency sign and thousands commas are dropped, 18 equals 18.00."""
    try:
        return Decimal(text.replace("$", "").replace(",", ""))
    except InvalidOperation:
        return None


def marked_answer(text: str) -> Decimal | None:
    """The number after the last `####`; None without one."""
    found = _MARKED.findall(text)
    return number(found[-1]) if found else None


def final_answer(text: str) -> Decimal | None:
    """The number after the last `####`, else the last number of the text; None where there is no number."""
    marked = marked_answer(text)
    if marked is not None:
        return marked
    found = _NUMBER.findall(text)
    return number(found[-1]) if found else None


class Gsm8k(AnswerBenchmark):
    """Rows `question` and `answer` (the number alone, or a solution that ends in `#### n`).

    Args:
        instruction: follows the question on a new line; empty for the bare question.
    """

    kind = "gsm8k"
    by_rule = True
    metrics: ClassVar[Mapping[str, bool | None]] = {
        "exact_match": True,
        "marked_match": True,
        "no_number": False,
        "truncated": None,
        "response_tokens": None,
    }
    defaults: ClassVar[Mapping[str, Any]] = {"max_new_tokens": 256}

    @checked
    def __init__(self, instruction: str = INSTRUCTION) -> None:
        self._instruction = instruction

    def load(self, path: Path, limit: int | None) -> list[Row]:
        found = []
        for where, row in read(path, limit):
            question, answer = text_of(row, ("question", "prompt"), where), text_of(row, ("answer",), where)
            target = marked_answer(answer) if "####" in answer else number(answer.strip())
            if target is None:
                raise BenchmarkError(f"{where}: 'answer' does not end in '#### n' and is not a number: {answer!r:.80}")
            found.append({"id": row["id"], "prompt": question, "target": str(target), "group": row.get("group")})
        return found

    def message(self, row: Row) -> str:
        return f"{row['prompt']}\n{self._instruction}".strip()

    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        target, found = Decimal(row["target"]), final_answer(answer["text"])
        return {
            "exact_match": float(found == target),
            "marked_match": float(marked_answer(answer["text"]) == target),
            "no_number": float(found is None),
            "truncated": float(answer["finish_reason"] == "length"),
            "response_tokens": float(len(answer["token_ids"])),
        }

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        found = final_answer(answer["text"])
        return {"target": row["target"], "answer": None if found is None else str(found)}
