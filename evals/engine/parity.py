"""How often the engine's greedy answers are those of transformers: the share that float noise allows.

Both are given the same weights and prompts. Where two tokens are almost equally likely, rounding decides, and the answers part
from there on; each difference is kept with its place and with how close the two tokens were.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.engine.base import Engine, EngineConfig, Generated, Sampling
from evals.engine.chat import chat_ids
from trainers.common import scores_schema

#: Tokens an answer is compared over, at most: enough for near ties to occur, and cheap.
MAX_NEW_TOKENS = 32


def spread(rows: Sequence[Any], n: int) -> list[Any]:
    """At most `n` of `rows`, evenly spaced from the first on."""
    n = min(n, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]


def compare(
    names: Sequence[str], prompts: Sequence[Sequence[int]], engine: Sequence[Generated], other: Engine
) -> dict[str, Any]:
    """The engine's greedy answers against those of `other`.

    Args:
        names, prompts: id and token ids of each prompt. engine: the engine's answers.

    Returns:
        agree and total (answers that are the same, token by token, of all), share, and `differences`: for each other answer its
        prompt, the position of the first token that differs (from 0), both tokens, and `gap`: by how many nats `other` prefers
        its own token to the engine's there (None where one answer ended).
    """
    differences, places = [], []
    for name, prompt, ours, theirs in zip(
        names, prompts, engine, other.generate(prompts, Sampling(MAX_NEW_TOKENS)), strict=True
    ):
        if ours.token_ids == theirs.token_ids:
            continue
        pairs = zip(ours.token_ids, theirs.token_ids, strict=False)
        shortest = min(len(ours.token_ids), len(theirs.token_ids))
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), shortest)
        both = [answer.token_ids[place] if place < len(answer.token_ids) else None for answer in (ours, theirs)]
        differences.append({"prompt": name, "position": place, "engine_token": both[0], "transformers_token": both[1]})
        places.append(([*prompt, *ours.token_ids[:place]], both))
    requests = [
        (context, [token]) for context, both in places for token in both if None not in both and token is not None
    ]
    scores = iter(other.token_logprobs(requests) if requests else [])
    for difference, (_, both) in zip(differences, places, strict=True):
        difference["gap"] = None if None in both else -next(scores)[0] + next(scores)[0]
    agree = len(prompts) - len(differences)
    return {"agree": agree, "total": len(prompts), "share": agree / len(prompts), "differences": differences}


def measure(
    engine: Engine, config: EngineConfig, reference: dict[str, Any], prompts: Sequence[tuple[str, str]], n: int
) -> dict[str, Any] | None:
    """Compare on `n` of the prompts and write `parity.json` of the reference; None where it stands there already.

    The engine must serve the reference. What goes wrong in transformers (memory, say) is written down and raises nothing.

    Args:
        reference: entry of the job (path, fingerprint, out). prompts: (id, text of the user).
    """
    path = scores_schema.parity_path(Path(reference["out"]))
    chosen = spread(prompts, n)
    identity = scores_schema.digest([reference["fingerprint"], engine.name, chosen, MAX_NEW_TOKENS])
    if scores_schema.read_json(path).get("fingerprint") == identity:
        return None
    record: dict[str, Any] = {
        "schema_version": scores_schema.SCHEMA_VERSION,
        "fingerprint": identity,
        "engine": engine.name,
        "against": None,
        "policy": reference["run_id"],
        "max_new_tokens": MAX_NEW_TOKENS,
        "agree": None,
        "total": len(chosen),
        "share": None,
        "differences": [],
        "reason": "the comparison did not end",
    }
    scores_schema.write_json(
        path, record
    )  # first, so that a comparison that kills the process is not retried endlessly
    ids = [chat_ids(engine.tokenizer, text) for _, text in chosen]
    room = engine.max_model_len - MAX_NEW_TOKENS
    fitting = [(name, row) for (name, _), row in zip(chosen, ids, strict=True) if len(row) <= room]
    if not fitting:
        record["reason"] = f"no prompt leaves room for {MAX_NEW_TOKENS} tokens in max_model_len {engine.max_model_len}"
    else:
        answers = engine.generate([row for _, row in fitting], Sampling(MAX_NEW_TOKENS))
        names, rows = [name for name, _ in fitting], [row for _, row in fitting]
        try:
            other = _transformers(Path(reference["path"]), config)
            record |= {"against": other.name, **compare(names, rows, answers, other), "reason": None}
            other.close()
        except Exception as error:  # another library's failure must not cost an evaluation
            traceback.print_exc()
            record["reason"] = f"transformers failed: {type(error).__name__}: {' '.join(str(error).split()):.200}"
    scores_schema.write_json(path, record)
    return record


def _transformers(path: Path, config: EngineConfig) -> Engine:
    """The same weights in transformers: on the CPU where a GPU is in use by the engine."""
    from evals.engine.transformers_engine import TransformersEngine

    return TransformersEngine(path, replace(config, backend="transformers"), device="cpu")
