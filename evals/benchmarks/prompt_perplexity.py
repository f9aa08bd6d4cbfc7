"""Log perplexity of a benchmark's prompts under the reference: scored once, while the reference is served, for all policies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from evals.benchmarks.base import Row, Visit
from evals.benchmarks.logprobs import Request, are_complete, complete, prompt_request
from evals.engine.chat import message_ids
from trainers.common import scores_schema

KEY = "log_prompt_perplexity"
#: In a score file: under which policy KEY of its items was measured. Without it, the rows of the benchmark carried the values.
UNDER = "prompt_perplexity_under"

#: What the policy is asked, turn after turn; the first turn is the prompt.
Turns = Callable[[Row], Sequence[str]]


def _requests(visit: Visit, rows: Sequence[Row], turns_of: Turns) -> list[Request | None]:
    tokenizer = visit.engine.tokenizer
    return [prompt_request(message_ids(tokenizer, [{"role": "user", "content": turns_of(row)[0]}])) for row in rows]


def collect(visit: Visit, rows: Sequence[Row], turns_of: Turns) -> None:
    """While the reference is visited: score what is missing. For other policies, and without a reference, nothing is done."""
    if visit.reference is not None and visit.is_reference:
        complete(visit.of_reference(), [one for one in _requests(visit, rows, turns_of) if one is not None])


def is_missing(visit: Visit, rows: Sequence[Row], turns_of: Turns) -> bool:
    """Whether the reference's weights are needed to know the perplexities."""
    if visit.reference is None:
        return False
    requests = [one for one in _requests(visit, rows, turns_of) if one is not None]
    return not are_complete(visit.of_reference(), requests)


def with_perplexity(visit: Visit, rows: Sequence[Row], turns_of: Turns) -> list[Row]:
    """The rows with KEY: nats a token over the prompt's tokens after the first, under the chat template; None for one token.

    A job without a reference leaves the rows, and what values they carry, as they are.
    """
    if visit.reference is None:
        return list(rows)
    requests = _requests(visit, rows, turns_of)
    scored = complete(visit.of_reference(), [one for one in requests if one is not None])
    return [
        {**row, KEY: None if one is None else -math.fsum(scored[one.id]) / len(scored[one.id])}
        for row, one in zip(rows, requests, strict=True)
    ]


def source(visit: Visit) -> dict[str, Any]:
    """What the score file says of where the values come from."""
    return {UNDER: None if visit.reference is None else scores_schema.REFERENCE}
