"""Answers of one policy: what is on disk is kept, what is missing is asked of the engine, turn after turn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.benchmarks.base import BenchmarkError, Row, Visit
from evals.engine.base import Sampling
from evals.engine.chat import sample_seed
from evals.progress import Clock, batches, kept_rows
from trainers.common import message_ids, scores_schema

_CHUNK = 64


def turn_id(prompt_id: str, turn: int) -> str:
    """Id of a turn's answer: the prompt's own for the first one."""
    return prompt_id if turn == 0 else f"{prompt_id}#turn{turn + 1}"


def identity(visit: Visit) -> Row:
    """What every row of a policy on a benchmark carries, and is checked for."""
    return {
        "policy_fingerprint": visit.policy.fingerprint,
        "benchmark_fingerprint": visit.benchmark.fingerprint,
        "version": scores_schema.ANSWERS_VERSION,
        "engine": visit.engine.name,
    }


def kept(path: Path, visit: Visit) -> list[Row]:
    """Rows of the same policy, settings and engine; of before the engine was written down, they count as the present one's."""
    return kept_rows(path, identity(visit), {"engine": visit.engine.name})


def generate_missing(visit: Visit, questions: Sequence[Mapping[str, Any]], spare: int = 0) -> None:
    """Complete `generations/<benchmark>.jsonl`: one row for every prompt, sample and turn.

    Args:
        questions: `id` and `turns` (what the user says; each turn sees the answers to those before it).
        spare: tokens that the longest prompt with its answers must leave free of the engine's max_model_len.
    """
    path = scores_schema.generations_path(visit.policy.out, visit.name)
    rows = {(row["prompt_id"], row["sample"]): row for row in kept(path, visit)}
    _check_lengths(visit, questions, spare)
    samples = visit.benchmark.samples
    total = samples * sum(len(question["turns"]) for question in questions)
    clock = Clock(visit.progress, total, len(rows))
    for turn in range(max(len(question["turns"]) for question in questions)):
        todo = [
            (question, sample)
            for question in questions
            if len(question["turns"]) > turn
            for sample in range(samples)
            if (turn_id(question["id"], turn), sample) not in rows
        ]
        for part in batches(todo, _CHUNK):
            fresh = _ask(visit, [(q, sample, _messages(q, sample, turn, rows)) for q, sample in part], turn)
            scores_schema.append_rows(path, fresh)
            rows.update({(row["prompt_id"], row["sample"]): row for row in fresh})
            clock.tick(len(fresh), sum(len(row["token_ids"]) for row in fresh))


def _check_lengths(visit: Visit, questions: Sequence[Mapping[str, Any]], spare: int) -> None:
    """Refuse what may not fit the engine, however long the answers become: the same prompts for every policy."""
    room, length = visit.engine.max_model_len, visit.benchmark.max_new_tokens
    for question in questions:
        turns = question["turns"]
        messages = [{"role": "user", "content": turns[0]}]
        for text in turns[1:]:
            messages += [{"role": "assistant", "content": ""}, {"role": "user", "content": text}]
        asked = len(message_ids(visit.engine.tokenizer, messages))
        if asked + len(turns) * length > room - spare:
            raise BenchmarkError(
                f"benchmark {visit.name!r}: prompt {question['id']!r} has {asked} tokens; with {len(turns)} answer(s) of "
                f"max_new_tokens {length} that is more than evaluation.engine.max_model_len {room}"
                f"{f' less {spare}, kept for scoring' if spare else ''}; raise it, lower "
                "max_new_tokens, or remove the prompt"
            )


def _messages(
    question: Mapping[str, Any], sample: int, turn: int, rows: Mapping[tuple[str, int], Row]
) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    for i, text in enumerate(question["turns"][:turn]):
        answer = rows[turn_id(question["id"], i), sample]["text"]
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": question["turns"][turn]}]


def _ask(visit: Visit, part: Sequence[tuple[Mapping[str, Any], int, list[dict[str, str]]]], turn: int) -> list[Row]:
    entry, engine = visit.benchmark, visit.engine
    prompts = [message_ids(engine.tokenizer, messages) for _, _, messages in part]
    seeds = [sample_seed(entry.seed, "\n".join(question["turns"][: turn + 1]), sample) for question, sample, _ in part]
    answers = engine.generate(
        prompts, Sampling(entry.max_new_tokens, entry.temperature, entry.top_p, seeds=tuple(seeds))
    )
    return [
        {
            "policy": visit.policy.run_id,
            **identity(visit),
            "benchmark": visit.name,
            "prompt_id": turn_id(question["id"], turn),
            "sample": sample,
            "prompt": messages[-1]["content"],
            **({"messages": messages[:-1]} if turn else {}),
            "text": answer.text,
            "token_ids": answer.token_ids,
            "logprobs": [round(value, 6) for value in answer.logprobs],
            "finish_reason": answer.finish_reason,
            "sampling": {
                "temperature": entry.temperature,
                "top_p": entry.top_p,
                "max_tokens": entry.max_new_tokens,
                "seed": seed if entry.temperature > 0 else None,
            },
        }
        for (question, sample, messages), answer, seed in zip(part, answers, seeds, strict=True)
    ]


def read_generations(visit: Visit) -> dict[str, list[Row]]:
    """Answers by prompt id, in order of their sample."""
    found: dict[str, list[Row]] = {}
    rows = scores_schema.read_rows(scores_schema.generations_path(visit.policy.out, visit.name))
    for row in sorted(rows, key=lambda row: int(row["sample"])):
        found.setdefault(row["prompt_id"], []).append(row)
    return found
