"""Log-probs of given tokens under the weights that the engine serves, kept on disk and resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.benchmarks.base import BenchmarkError, Row, Visit
from evals.benchmarks.generate import identity, kept_rows
from trainers.common import scores_schema

_CHUNK = 64


@dataclass(frozen=True)
class Request:
    """Tokens to score after their context; `id` is unique within a policy's file."""

    id: str
    context: Sequence[int]
    continuation: Sequence[int]

    @property
    def digest(self) -> str:
        """Of both sequences: a kept log-prob counts only for the very tokens it was computed for."""
        return scores_schema.digest([list(self.context), list(self.continuation)])[:16]


def prompt_request(ids: Sequence[int]) -> Request | None:
    """A prompt's own tokens after the first; None for a prompt of one token. Equal prompts have one id."""
    if len(ids) < 2:
        return None
    return Request(f"prompt/{scores_schema.digest(list(ids))[:16]}", ids[:1], ids[1:])


def _valid(visit: Visit, requests: Sequence[Request]) -> dict[str, Row]:
    wanted = {request.id: request.digest for request in requests}
    rows = kept_rows(scores_schema.logprobs_path(Path(visit.policy["out"]), visit.name), visit)
    return {row["id"]: row for row in rows if wanted.get(row["id"]) == row["digest"]}


def are_complete(visit: Visit, requests: Sequence[Request]) -> bool:
    """Whether every request is on disk for the visit's policy."""
    return len(_valid(visit, requests)) == len({request.id for request in requests})


def complete(visit: Visit, requests: Sequence[Request]) -> Mapping[str, list[float]]:
    """Log-probs of every request by its id, nats per token; what is not on disk is asked of the engine.

    Raises:
        BenchmarkError: a request is too long for the engine.
    """
    kept = _valid(visit, requests)
    todo = list({request.id: request for request in requests if request.id not in kept}.values())
    room = visit.engine.max_model_len - 1 if todo else 0  # vLLM generates a token with every prompt it scores
    for request in todo:
        length = len(request.context) + len(request.continuation)
        if length > room:
            raise BenchmarkError(
                f"benchmark {visit.name!r}: {request.id} has {length} tokens, more than "
                f"evaluation.engine.max_model_len - 1 = {room}; raise it, or remove the row"
            )
    started = time.monotonic()
    path = scores_schema.logprobs_path(Path(visit.policy["out"]), visit.name)
    for start in range(0, len(todo), _CHUNK):
        part = todo[start : start + _CHUNK]
        scored = visit.engine.token_logprobs([(request.context, request.continuation) for request in part])
        fresh: list[Row] = [
            {
                **identity(visit),
                "id": request.id,
                "digest": request.digest,
                "logprobs": [round(value, 6) for value in values],
            }
            for request, values in zip(part, scored, strict=True)
        ]
        scores_schema.append_rows(path, fresh)
        kept.update({row["id"]: row for row in fresh})
        done, elapsed = start + len(part), time.monotonic() - started
        visit.progress(
            done=done,
            total=len(todo),
            tokens_per_second=sum(len(r.context) + len(r.continuation) for r in todo[:done]) / elapsed,
            eta_s=elapsed / done * (len(todo) - done),
        )
    scores_schema.sort_rows(path, "id")
    return {name: row["logprobs"] for name, row in kept.items()}
