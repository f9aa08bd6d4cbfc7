"""Log-probs of given tokens under the weights that the engine serves, kept on disk and resumed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from evals.benchmarks.base import BenchmarkError, Row, Visit
from evals.benchmarks.generate import identity, kept
from evals.engine.base import EngineError
from evals.engine.chat import chat_ids
from evals.engine.merge import served_weights
from evals.progress import Clock, batches
from trainers.common import scores_schema

_CHUNK = 64
#: Begins the id of a row that holds the KL of an answer's tokens, and not their log-probs.
_EXACT = "exact/"


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
    name = f"prompt/{scores_schema.digest(list(ids))[:16]}"
    return Request(name, ids[:1], ids[1:]) if len(ids) > 1 else None


def prompt_requests(visit: Visit, prompts: Sequence[str]) -> list[Request | None]:
    """`prompt_request` of each text as one user message under the chat template."""
    return [prompt_request(chat_ids(visit.engine.tokenizer, prompt)) for prompt in prompts]


def log_perplexity(logprobs: Sequence[float]) -> float | None:
    """Mean negative log-prob, nats per token; None without tokens."""
    return -math.fsum(logprobs) / len(logprobs) if logprobs else None


def _valid(visit: Visit, requests: Sequence[Request]) -> dict[str, Row]:
    wanted = {request.id: request.digest for request in requests}
    rows = kept(scores_schema.logprobs_path(visit.policy.out, visit.name), visit)
    return {row["id"]: row for row in rows if wanted.get(row["id"]) == row["digest"]}


def are_complete(visit: Visit, requests: Sequence[Request | None]) -> bool:
    """Whether every request is on disk for the visit's policy; None in `requests` is skipped."""
    wanted = [request for request in requests if request is not None]
    return len(_valid(visit, wanted)) == len({request.id for request in wanted})


def complete(visit: Visit, requests: Sequence[Request | None]) -> Mapping[str, list[float]]:
    """Log-probs of every request by its id, nats per token; the engine computes what is not on disk. None is skipped.

    Raises:
        BenchmarkError: a request is too long for the engine.
    """
    wanted = [request for request in requests if request is not None]
    found = _valid(visit, wanted)
    todo = list({request.id: request for request in wanted if request.id not in found}.values())
    room = visit.engine.max_model_len - 1 if todo else 0  # vLLM generates a token with every prompt it scores
    for request in todo:
        length = len(request.context) + len(request.continuation)
        if length > room:
            raise BenchmarkError(
                f"benchmark {visit.name!r}: {request.id} has {length} tokens, more than "
                f"evaluation.engine.max_model_len - 1 = {room}; raise it, or remove the row"
            )
    clock = Clock(visit.progress, len(todo))
    path = scores_schema.logprobs_path(visit.policy.out, visit.name)
    for part in batches(todo, _CHUNK):
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
        found.update({row["id"]: row for row in fresh})
        clock.tick(len(part), sum(len(request.context) + len(request.continuation) for request in part))
    scores_schema.sort_rows(path, "id")
    return {name: row["logprobs"] for name, row in found.items()}


def collect_kl(visit: Visit, requests: Sequence[Request]) -> None:
    """While the policy is served: the KL to the reference at each token, where the engine has it, kept beside the reference's
    log-probs, which then need no pass of their own.

    Raises:
        BenchmarkError: the policy has another vocabulary than the reference.
    """
    found = kl_of(visit, requests)
    todo = [request for request in requests if request.id not in found]
    if not todo or visit.reference is None:
        return
    pairs = [(request.context, request.continuation) for request in todo]
    try:
        with served_weights(visit.reference) as reference:
            values = visit.engine.token_kl(pairs, reference, partial(served_weights, visit.policy))
    except EngineError as error:
        raise BenchmarkError(f"benchmark {visit.name!r}: {error}") from None
    if values is None:
        return
    rows: list[Row] = []
    for one, scored in zip(todo, values, strict=True):
        same = {**identity(visit), "digest": one.digest}
        rows.append({**same, "id": _EXACT + one.id, "kl": [round(v, 6) for v in scored.kl]})
        if scored.reference:
            rows.append({**same, "id": one.id, "logprobs": [round(v, 6) for v in scored.reference]})
    scores_schema.append_rows(scores_schema.logprobs_path(visit.policy.out, visit.name), rows)


def kl_of(visit: Visit, requests: Sequence[Request]) -> dict[str, list[float]]:
    """What `collect_kl` kept of these requests by their ids, nats per token."""
    named = [replace(request, id=_EXACT + request.id) for request in requests]
    return {name.removeprefix(_EXACT): row["kl"] for name, row in _valid(visit, named).items()}


def perplexities(visit: Visit, requests: Sequence[Request | None]) -> list[float | None]:
    """`log_perplexity` of every request, None of None; the engine computes what is not on disk."""
    scored = complete(visit, requests)
    return [None if request is None else log_perplexity(scored[request.id]) for request in requests]
