"""How often the engine's greedy answers are those of transformers: the share that float noise allows.

Both are given the same weights and prompts. Where two tokens are almost equally likely, rounding decides, and the answers part
from there on; each difference is kept with its place and with how close the two tokens were.
"""

import traceback
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from pydantic import BaseModel, Field

from evals.engine.base import Engine, EngineConfig, Generated, Sampling
from evals.engine.chat import chat_ids
from evals.engine.transformers_engine import TransformersEngine
from evals.job import Policy
from trainers.common import scores_schema

#: Tokens an answer is compared over, at most: enough for near ties to occur, and cheap.
MAX_NEW_TOKENS = 32


def spread(rows: Sequence[Any], n: int) -> list[Any]:
    """At most `n` of `rows`, evenly spaced from the first on."""
    n = min(n, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]


class Difference(BaseModel):
    """An answer of the engine's that is not transformers'."""

    prompt: str
    position: int = Field(description="of the first token that differs, from 0")
    engine_token: int | None = Field(description="id; null where the answer ended before it")
    transformers_token: int | None
    gap: float | None = Field(
        default=None, description="nats by which transformers prefers its token; null where an answer ended"
    )


class Parity(BaseModel):
    """`parity.json`: of how many greedy answers the engine's are those of transformers, token by token."""

    schema_version: int = scores_schema.SCHEMA_VERSION
    fingerprint: str = Field(description="of the weights, the engine and the prompts")
    engine: str
    against: str | None = Field(default=None, description="the other engine; null if it was not reached")
    policy: str
    max_new_tokens: int = MAX_NEW_TOKENS
    agree: int | None = Field(default=None, description="answers that are the same")
    total: int = Field(description="answers that were compared")
    share: float | None = Field(default=None, description="agree / total")
    differences: list[Difference] = []
    reason: str | None = Field(default="the comparison did not finish", description="why there is no share")


def compare(
    names: Sequence[str], prompts: Sequence[Sequence[int]], engine: Sequence[Generated], other: Engine
) -> list[Difference]:
    """Where the engine's greedy answers are not those of `other`.

    Args:
        names, prompts: id and token ids of each prompt. engine: the engine's answers.
    """
    differences, requests = [], []
    answers = other.generate(prompts, Sampling(MAX_NEW_TOKENS))
    for name, prompt, ours, theirs in zip(names, prompts, engine, answers, strict=True):
        both = list(zip_longest(ours.token_ids, theirs.token_ids))
        place = next((i for i, (a, b) in enumerate(both) if a != b), None)
        if place is not None:
            a, b = both[place]
            differences.append(Difference(prompt=name, position=place, engine_token=a, transformers_token=b))
            if a is not None and b is not None:
                requests += [([*prompt, *ours.token_ids[:place]], [token]) for token in (b, a)]
    scores = iter(other.token_logprobs(requests) if requests else [])
    for one in differences:
        if one.engine_token is not None and one.transformers_token is not None:
            one.gap = next(scores)[0] - next(scores)[0]
    return differences


def measure(
    engine: Engine, config: EngineConfig, reference: Policy, prompts: Sequence[tuple[str, str]], n: int
) -> Parity | None:
    """Compare on `n` of the prompts and write `parity.json` of the reference; None where it stands there already.

    The engine must serve the reference. What goes wrong in transformers (memory, say) is written down and raises nothing.

    Args:
        prompts: (id, text of the user).
    """
    path = scores_schema.parity_path(reference.out)
    chosen = spread(prompts, n)
    identity = scores_schema.digest([reference.fingerprint, engine.name, chosen, MAX_NEW_TOKENS])
    if scores_schema.read_json(path).get("fingerprint") == identity:
        return None
    record = Parity(fingerprint=identity, engine=engine.name, policy=reference.run_id, total=len(chosen))
    # first, so that a comparison that kills the process is not retried endlessly
    scores_schema.write_json(path, record.model_dump())
    ids = [chat_ids(engine.tokenizer, text) for _, text in chosen]
    room = engine.max_model_len - MAX_NEW_TOKENS
    fitting = [(name, row) for (name, _), row in zip(chosen, ids, strict=True) if len(row) <= room]
    if fitting:
        names, rows = [name for name, _ in fitting], [row for _, row in fitting]
        answers = engine.generate(rows, Sampling(MAX_NEW_TOKENS))
        try:
            # on the CPU: a GPU is in use by the engine
            other = TransformersEngine(reference.path, replace(config, backend="transformers"), device="cpu")
            record.against, record.differences = other.name, compare(names, rows, answers, other)
            record.total, record.agree, record.reason = len(rows), len(rows) - len(record.differences), None
            record.share = record.agree / len(rows)
            other.close()
        except Exception as error:  # another library's failure must not cost an evaluation
            traceback.print_exc()
            record.reason = f"transformers failed: {type(error).__name__}: {' '.join(str(error).split()):.200}"
    else:
        record.reason = f"no prompt leaves room for {MAX_NEW_TOKENS} tokens in max_model_len {engine.max_model_len}"
    scores_schema.write_json(path, record.model_dump())
    return record
