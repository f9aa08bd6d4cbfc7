"""The constraint benchmark: prompts with verifiable constraints in, a score file out."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evals.benchmarks.base import BenchmarkError
from evals.constraints.registry import ConstraintError, resolve
from evals.constraints.reward import Result, gold_reward
from evals.constraints.text import words
from evals.estimates import estimate
from trainers.common.jsonl import JsonlError, read_jsonl

SCHEMA_VERSION = 1


def load_prompts(path: str | os.PathLike[str], limit: int | None = None) -> list[dict[str, Any]]:
    """Prompt rows of a JSONL file: ``id``, ``prompt``, ``constraints`` and free further keys.

    Args:
        path: the file.
        limit: only the first so many rows; None for all.

    Raises:
        BenchmarkError: missing or empty file, ill-formed row, id seen before; the message names file and line.
    """
    if limit is not None and limit < 1:
        raise BenchmarkError(f"{path}: limit must be >= 1 or null, got {limit}")
    try:
        rows = read_jsonl(path, limit)
    except JsonlError as error:
        raise BenchmarkError(str(error)) from error
    if not rows:
        raise BenchmarkError(f"{path}: holds no prompts; each line needs id, prompt and constraints")
    first: dict[str, int] = {}
    for number, row in rows:
        where = f"{path}:{number}"
        for key in ("id", "prompt"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise BenchmarkError(f"{where}: {key!r} must be a non-empty string, got {row.get(key)!r}")
        if row["id"] in first:
            raise BenchmarkError(f"{where}: id {row['id']!r} is also on line {first[row['id']]}; ids must be unique")
        first[row["id"]] = number
        constraints = row.get("constraints")
        if not isinstance(constraints, list) or not constraints:
            raise BenchmarkError(f"{where}: 'constraints' must be a non-empty list, got {constraints!r}")
        for constraint in constraints:
            try:
                resolve(constraint)
            except ConstraintError as error:
                raise BenchmarkError(f"{where}: {error}") from error
    return [row for _, row in rows]


def score(
    generations: Iterable[Mapping[str, Any]],
    prompts: Sequence[Mapping[str, Any]],
    policy: str,
    fingerprint: str,
    benchmark: str = "constraints",
) -> dict[str, Any]:
    """Score one policy's generations on the prompts.

    Several samples of a prompt are averaged first, so every value and standard error is over prompts, clustered by their
    ``group``. A prompt's ``style`` is a stratum, chosen and not sampled: it is kept with the item and clusters nothing.

    Args:
        generations: rows with ``prompt_id``, ``text`` and optionally ``sample`` (distinct within a prompt).
        prompts: rows from ``load_prompts``; each needs at least one generation, and no generation may lack its prompt.
        policy: run id.
        fingerprint: of policy and benchmark together.
        benchmark: name of the benchmark.

    Returns:
        The content of ``scores/<benchmark>.json``: metrics gold_reward (primary), all_satisfied and response_words,
        ``by_constraint`` (pass rate per kind; n is the number of prompts that have it), and one item per prompt, its
        response and checks from the lowest sample.

    Raises:
        BenchmarkError: a prompt without generation, a generation of an unknown prompt, or a repeated sample.
    """
    answers: dict[str, dict[int, str]] = {row["id"]: {} for row in prompts}
    for row in generations:
        prompt_id, sample = row["prompt_id"], int(row.get("sample", 0))
        if prompt_id not in answers:
            raise BenchmarkError(f"policy {policy!r}: a generation answers unknown prompt {prompt_id!r}")
        if sample in answers[prompt_id]:
            raise BenchmarkError(f"policy {policy!r}: prompt {prompt_id!r} has sample {sample} twice")
        answers[prompt_id][sample] = row["text"]
    missing = [prompt_id for prompt_id, found in answers.items() if not found]
    if missing:
        raise BenchmarkError(
            f"policy {policy!r}: {len(missing)} prompts have no generation, the first is {missing[0]!r}; generate again"
        )
    items = []
    rates: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    for prompt in prompts:
        texts = [text for _, text in sorted(answers[prompt["id"]].items())]
        results = [gold_reward(text, prompt["constraints"]) for text in texts]
        items.append(_item(prompt, texts, results))
        passed: dict[str, list[float]] = defaultdict(list)
        for result in results:
            for check in result.checks:
                passed[check.constraint].append(float(check.passed))
        for kind, values in passed.items():
            rates[kind].append((_mean(values), prompt.get("group")))
    groups = [item["group"] for item in items]
    # Length is described, not judged: neither direction is better.
    directions = {"gold_reward": True, "all_satisfied": True, "response_words": None}
    metrics = {
        name: estimate([item["values"][name] for item in items], better, groups) for name, better in directions.items()
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark": benchmark,
        "kind": "constraints",
        "policy": policy,
        "fingerprint": fingerprint,
        "metrics": metrics,
        "primary_metric": "gold_reward",
        "by_constraint": {kind: estimate(*_columns(found)) for kind, found in sorted(rates.items())},
        "items": items,
        "noise": None,
    }


def _item(prompt: Mapping[str, Any], texts: Sequence[str], results: Sequence[Result]) -> dict[str, Any]:
    return {
        "id": prompt["id"],
        "values": {
            "gold_reward": _mean([result.score for result in results]),
            "all_satisfied": _mean([float(result.all_satisfied) for result in results]),
            "response_words": _mean([float(len(words(text))) for text in texts]),
        },
        "group": prompt.get("group"),
        "style": prompt.get("style"),
        "prompt": prompt["prompt"],
        "response": texts[0],
        "checks": [
            {"constraint": check.constraint, "instruction": check.instruction, "passed": check.passed}
            for check in results[0].checks
        ],
        "log_prompt_perplexity": prompt.get("log_prompt_perplexity"),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _columns(found: Sequence[tuple[float, Any]]) -> tuple[list[float], bool, list[Any]]:
    """Values, whether higher is better, and groups, for `estimate`."""
    return [value for value, _ in found], True, [group for _, group in found]
