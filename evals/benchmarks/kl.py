"""Kind `kl`: how far a policy has moved from the reference, on its own samples at temperature 1.

The policy's log-probs are those it was sampled with; the reference's are scored later, when its weights are served. With
d_t = log policy - log reference of token t, an answer gives k1 = sum of d_t and k3 = sum of exp(-d_t) - 1 + d_t
(Schulman, joschu.net/blog/kl-approx.html): both are unbiased for the KL of the answers' distributions in nats, k3 is never
negative and varies less. Answers that are cut at max_new_tokens count as far as they go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.answers import REFERENCE_LOGPROBS, ReferenceScored
from evals.benchmarks.base import BenchmarkError, Row, Visit
from evals.benchmarks.logprobs import Request, log_perplexity
from evals.benchmarks.rows import load_prompts


def k1(policy: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over the tokens of the log-ratio, nats: the plain estimate, with either sign."""
    return math.fsum(p - r for p, r in zip(policy, reference, strict=True))


def k3(policy: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over the tokens of exp(-d) - 1 + d with d the log-ratio, nats; at least 0."""
    return math.fsum(math.expm1(r - p) + (p - r) for p, r in zip(policy, reference, strict=True))


class KlToReference(ReferenceScored):
    """Rows as of kind `prompts`, of one turn; `samples` answers a prompt (4 if not said)."""

    kind = "kl"
    metrics = dict.fromkeys(
        (
            "kl_k3",
            "kl_k1",
            "response_log_perplexity_reference",
            "response_log_perplexity",
            "response_tokens",
            "truncated",
        )
    )
    takes = ("max_new_tokens", "samples", "seed")
    defaults: ClassVar[Mapping[str, Any]] = {"temperature": 1.0, "samples": 4}
    spare = 1  # the reference scores whole answers, and vLLM generates a token with every text it scores

    def load(self, path: Path, limit: int | None) -> list[Row]:
        rows = load_prompts(path, limit)
        several = next((row for row in rows if len(row["turns"]) > 1), None)
        if several is not None:
            raise BenchmarkError(
                f"{path}: prompt {several['id']!r} has several turns; kind kl takes prompts of one turn"
            )
        return rows

    def asked(self, row: Row) -> list[str]:
        return list(row["turns"])

    def turns_of(self, row: Row) -> list[str]:
        """None: judges do not compare samples at temperature 1."""
        return []

    def requests(self, visit: Visit) -> dict[tuple[str, int], Request]:
        visit.of_reference()  # an error where there is none
        return super().requests(visit)

    def answers_of(self, visit: Visit, rows: list[Row]) -> dict[str, list[Row]]:
        """With the estimates of each sample, beside the first of a prompt."""
        answers = super().answers_of(visit, rows)
        for found in answers.values():
            pairs = [(answer["logprobs"], answer[REFERENCE_LOGPROBS]) for answer in found]
            found[0]["samples"] = {"kl_k1": [k1(p, r) for p, r in pairs], "kl_k3": [k3(p, r) for p, r in pairs]}
        return answers

    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        policy, reference = answer["logprobs"], answer[REFERENCE_LOGPROBS]
        return {
            "kl_k3": k3(policy, reference),
            "kl_k1": k1(policy, reference),
            "response_log_perplexity_reference": log_perplexity(reference),
            "response_log_perplexity": log_perplexity(policy),
            "response_tokens": float(len(policy)),
            "truncated": float(answer["finish_reason"] == "length"),
        }

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        return {"samples": answer["samples"]}
