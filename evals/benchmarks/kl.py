"""Kind `kl`: how far a policy has moved from the reference, on its own samples at temperature 1.

`kl_exact` is the sum over an answer's tokens of the KL of the two next-token distributions, over the whole vocabulary
(evals.engine.exact_kl), where the engine has both models. Log-probs alone give two other estimates: the policy's are those it
was sampled with; the reference's are scored later, when its weights are served. With d_t = log policy - log reference of token
t, k1 = sum of d_t and k3 = sum of exp(-d_t) - 1 + d_t (Schulman, joschu.net/blog/kl-approx.html). All three are unbiased for
the KL of the answers' distributions in nats; on the same samples k3 varies less than k1, and the exact sum less than k3.
Answers that are cut at max_new_tokens count as far as they go. With a `reward` the same samples are scored too, so that reward
and KL are of the same answers.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from evals.benchmarks.answers import REFERENCE_LOGPROBS, ReferenceScored
from evals.benchmarks.base import BenchmarkError, Row, Visit
from evals.benchmarks.gold_reward import GoldReward
from evals.benchmarks.logprobs import Request, collect_kl, kl_of, log_perplexity
from evals.benchmarks.rows import load_prompts

#: The metric that needs both models' distributions.
EXACT = "kl_exact"


def k1(policy: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over the tokens of the log-ratio, nats: the plain estimate, with either sign."""
    return math.fsum(p - r for p, r in zip(policy, reference, strict=True))


def k3(policy: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over the tokens of exp(-d) - 1 + d with d the log-ratio, nats; at least 0."""
    return math.fsum(math.expm1(r - p) + (p - r) for p, r in zip(policy, reference, strict=True))


class KlToReference(ReferenceScored):
    """Rows as of kind `prompts`, of one turn; `samples` answers a prompt (4 if not said).

    Args:
        reward: as of kind `gold_reward`: scores the same samples.
    """

    kind = "kl"
    metrics: ClassVar[Mapping[str, bool | None]] = dict.fromkeys(
        (
            "kl_k3",
            "kl_k1",
            EXACT,
            "response_log_perplexity_reference",
            "response_log_perplexity",
            "response_tokens",
            "truncated",
        )
    )
    takes = ("max_new_tokens", "samples", "seed")
    defaults: ClassVar[Mapping[str, Any]] = {"temperature": 1.0, "samples": 4}
    spare = 1  # the reference scores whole answers, and vLLM generates a token with every text it scores

    def __init__(self, reward: str | Mapping[str, Any] | None = None) -> None:
        self._gold = None if reward is None else GoldReward(reward)
        if self._gold is not None:
            self.metrics = {**self._gold.metrics, **self.metrics}  # type: ignore[misc]
            self.by_rule, self.descriptions = self._gold.by_rule, self._gold.descriptions

    @classmethod
    def measures(cls, params: Mapping[str, Any]) -> tuple[str, ...]:
        gold = () if params.get("reward") is None else tuple(GoldReward.metrics)
        return (*gold, *super().measures(params))

    def identity(self) -> Row:
        return {} if self._gold is None else self._gold.identity()

    def load(self, path: Path, limit: int | None) -> list[Row]:
        rows = load_prompts(path, limit) if self._gold is None else self._gold.load(path, limit)
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

    def collect(self, visit: Visit, rows: list[Row]) -> None:
        """With the exact KL, for which the policy's weights are needed."""
        super().collect(visit, rows)
        if not visit.policy.is_reference:
            collect_kl(visit, list(self.requests(visit).values()))

    def answers_of(self, visit: Visit, rows: list[Row]) -> dict[str, list[Row]]:
        """With the estimates of each sample, beside the first of a prompt, and each sample's reward."""
        answers, requests = super().answers_of(visit, rows), self.requests(visit)
        exact = kl_of(visit, list(requests.values()))
        for found in answers.values():
            for answer in found:
                request = requests.get((answer["prompt_id"], int(answer["sample"])))
                tokens = [] if request is None else exact.get(request.id)
                answer[EXACT] = None if tokens is None or visit.policy.is_reference else math.fsum(tokens)
            pairs = [(answer["logprobs"], answer[REFERENCE_LOGPROBS]) for answer in found]
            estimates = {"kl_k1": [k1(p, r) for p, r in pairs], "kl_k3": [k3(p, r) for p, r in pairs]}
            found[0]["samples"] = estimates | {EXACT: [answer[EXACT] for answer in found]}
        if self._gold is not None:
            self._gold.reward(visit, rows, answers)
        return answers

    def values(self, row: Row, answer: Mapping[str, Any]) -> dict[str, float | None]:
        policy, reference = answer["logprobs"], answer[REFERENCE_LOGPROBS]
        return {
            "kl_k3": k3(policy, reference),
            "kl_k1": k1(policy, reference),
            EXACT: answer[EXACT],
            "response_log_perplexity_reference": log_perplexity(reference),
            "response_log_perplexity": log_perplexity(policy),
            "response_tokens": float(len(policy)),
            "truncated": float(answer["finish_reason"] == "length"),
            **({} if self._gold is None else self._gold.values(row, answer)),
        }

    def details(self, row: Row, answer: Mapping[str, Any]) -> Row:
        return {"samples": answer["samples"]}

    def result(
        self, visit: Visit, fingerprint: str, items: list[Row], metrics: Mapping[str, bool | None] | None = None
    ) -> Row:
        """With `kl_estimator`: exact, or k3 where the engine has log-probs alone, and then without the exact one."""
        exact = bool(items) and all(item["values"][EXACT] is not None for item in items)
        if not exact:
            for item in items:
                del item["values"][EXACT], item["samples"][EXACT]
        kept = {name: better for name, better in (metrics or self.metrics).items() if exact or name != EXACT}
        return super().result(visit, fingerprint, items, kept) | {"kl_estimator": "exact" if exact else "k3"}
