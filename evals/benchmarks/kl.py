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

from evals.benchmarks.base import Benchmark, BenchmarkError, Row, Visit
from evals.benchmarks.generate import generate_missing, read_generations
from evals.benchmarks.logprobs import Request, are_complete, complete, log_perplexity, prompt_requests
from evals.benchmarks.rows import load_prompts
from evals.engine.chat import chat_ids
from evals.estimates import mean


def k1(policy: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over the tokens of the log-ratio, nats: the plain estimate, with either sign."""
    return math.fsum(p - r for p, r in zip(policy, reference, strict=True))


def k3(policy: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over the tokens of exp(-d) - 1 + d with d the log-ratio, nats; at least 0."""
    return math.fsum(math.expm1(r - p) + (p - r) for p, r in zip(policy, reference, strict=True))


class KlToReference(Benchmark):
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

    def load(self, path: Path, limit: int | None) -> list[Row]:
        rows = load_prompts(path, limit)
        several = next((row for row in rows if len(row["turns"]) > 1), None)
        if several is not None:
            raise BenchmarkError(
                f"{path}: prompt {several['id']!r} has several turns; kind kl takes prompts of one turn"
            )
        return rows

    def collect(self, visit: Visit, rows: list[Row]) -> None:
        # one token is kept free: the reference scores whole answers, and vLLM generates a token with every text it scores
        generate_missing(visit, [{"id": row["id"], "turns": row["turns"]} for row in rows], spare=1)

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Until the samples and the prompts are scored under the reference."""
        prompts = prompt_requests(visit, [row["prompt"] for row in rows])
        samples = self._samples(visit, rows, read_generations(visit))
        return not (are_complete(visit, samples) and are_complete(visit.of_reference(), prompts))

    def score(self, visit: Visit, rows: list[Row], fingerprint: str) -> dict[str, Any]:
        answers = read_generations(visit)
        prompts = prompt_requests(visit, [row["prompt"] for row in rows])
        scored = complete(visit, self._samples(visit, rows, answers))
        prompt_scores = complete(visit.of_reference(), prompts)
        items = []
        for row, prompt in zip(rows, prompts, strict=True):
            found = answers[row["id"]]
            pairs = [(answer["logprobs"], scored[_sample_id(answer)]) for answer in found]
            samples = {"kl_k1": [k1(p, r) for p, r in pairs], "kl_k3": [k3(p, r) for p, r in pairs]}
            items.append(
                {
                    "id": row["id"],
                    "values": {name: mean(values) for name, values in samples.items()}
                    | {
                        "response_log_perplexity_reference": mean([log_perplexity(r) for _, r in pairs]),
                        "response_log_perplexity": mean([log_perplexity(p) for p, _ in pairs]),
                        "response_tokens": mean([float(len(p)) for p, _ in pairs]),
                        "truncated": mean([float(answer["finish_reason"] == "length") for answer in found]),
                    },
                    "group": row.get("group"),
                    "samples": samples,
                    "prompt": row["prompt"],
                    "response": found[0]["text"],
                    "log_prompt_perplexity": None if prompt is None else log_perplexity(prompt_scores[prompt.id]),
                }
            )
        return self.result(visit, fingerprint, items)

    @staticmethod
    def _samples(visit: Visit, rows: list[Row], answers: dict[str, list[Row]]) -> list[Request]:
        requests = []
        for row in rows:
            context = chat_ids(visit.engine.tokenizer, row["prompt"])
            requests += [Request(_sample_id(answer), context, answer["token_ids"]) for answer in answers[row["id"]]]
        return requests


def _sample_id(answer: Row) -> str:
    return f"{answer['prompt_id']}/{answer['sample']}"
