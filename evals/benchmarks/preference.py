"""Kind `preference`: held-out pairs judged by the policy's own implicit reward, beta0 * log(policy / reference).

Rafailov et al., arXiv 2305.18290 (implicit reward); Razin et al., arXiv 2410.08847 (likelihood displacement: the chosen
answer's own probability falls); Chen et al., arXiv 2405.19534 (ranking accuracy: the policy alone, without reference).
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveFloat

from evals.benchmarks.base import Benchmark, BenchmarkError, Row, Visit
from evals.benchmarks.buckets import by_name, by_quantile
from evals.benchmarks.logprobs import Request, are_complete, complete, perplexities, prompt_request
from evals.benchmarks.rows import read
from trainers.common import DataError, after_history, as_turns, checked, pair_ids

_SIDES = ("chosen", "rejected")


class Preference(Benchmark):
    """Rows `prompt`, `chosen`, `rejected`: texts or chat messages; `group` marks pairs that share a prompt.

    Before the prompt may stand a `system` text and a `history` of [question, answer] pairs or of messages. Rows with a
    `subset`, as RewardBench has (arXiv 2403.13787), also give the metric `accuracy:SUBSET`.

    Args:
        beta0: scale of implicit rewards and of the loss, the same for every policy whatever it was trained with.
        quantiles: number of quantiles of prompt perplexity and of answer length.
    """

    kind = "preference"
    metrics: ClassVar[Mapping[str, bool | None]] = {
        "accuracy": True,
        "loss_at_beta0": False,
        "margin": None,
        "chosen_reward": None,
        "rejected_reward": None,
        "displacement": False,
        "ranking_accuracy": True,
    }
    takes = ()
    defaults: ClassVar[Mapping[str, Any]] = {
        "max_new_tokens": 0,
        "samples": 2,
    }  # nothing is generated, two answers a row are scored

    @checked
    def __init__(self, beta0: PositiveFloat = 0.1, quantiles: Annotated[int, Field(ge=2)] = 4) -> None:
        self._beta0, self._quantiles = float(beta0), quantiles
        self._tokens: dict[
            str, tuple[list[int], list[int], list[int]]
        ] = {}  # the tokenizer is the same for all policies

    def load(self, path: Path, limit: int | None) -> list[Row]:
        found = []
        for where, row in read(path, limit):
            pair: Row = {"id": row["id"], "group": None if row.get("group") is None else str(row["group"])}
            try:
                for key, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant")):
                    pair[key] = as_turns(row.get(key), role, where, key)
                    if not any(message["content"].strip() for message in pair[key]):
                        raise BenchmarkError(f"{where}: '{key}' has no text; add it, or remove the row")
                pair["prompt"] = after_history(row, where, pair["prompt"])
            except DataError as error:
                raise BenchmarkError(str(error)) from None
            if pair["chosen"] == pair["rejected"]:
                raise BenchmarkError(f"{where}: chosen and rejected are identical; remove the row")
            if row.get("subset") is not None:
                pair["subset"] = str(row["subset"])
            found.append(pair)
        lacking = [row["id"] for row in found if "subset" not in row]
        if lacking and len(lacking) < len(found):
            raise BenchmarkError(f"{path}: row {lacking[0]} has no 'subset', and others have; name one in every row")
        return found

    def prompts_of(self, row: Row) -> list[str]:
        return [row["prompt"][-1]["content"]]

    def collect(self, visit: Visit, rows: list[Row]) -> None:
        prompts = self._prompts(visit, rows) if visit.policy.is_reference else []
        complete(visit, [*self._answers(visit, rows), *prompts])

    def needs_reference(self, visit: Visit, rows: list[Row]) -> bool:
        """Only where the reference's log-probs are not on disk yet."""
        requests = [*self._answers(visit, rows), *self._prompts(visit, rows)]
        return not are_complete(visit.of_reference(), requests)

    def score(self, visit: Visit, rows: list[Row], fingerprint: str) -> Row:
        requests, prompts = self._answers(visit, rows), self._prompts(visit, rows)
        ours, theirs = complete(visit, requests), complete(visit.of_reference(), requests)
        perplexity = perplexities(visit.of_reference(), prompts)
        items, lengths = [], []
        subsets = sorted({row["subset"] for row in rows if "subset" in row})
        for row, chosen, rejected, log_ppl in zip(rows, requests[::2], requests[1::2], perplexity, strict=True):
            policy = [math.fsum(ours[request.id]) for request in (chosen, rejected)]
            reference = [math.fsum(theirs[request.id]) for request in (chosen, rejected)]
            values = self._values(policy, reference)
            items.append(
                {
                    "id": row["id"],
                    "values": values | {_of(s): values["accuracy"] if row["subset"] == s else None for s in subsets},
                    "group": row["group"],
                    "prompt": row["prompt"][-1]["content"],
                    "policy_logps": policy,
                    "reference_logps": reference,
                    "answer_tokens": [len(chosen.continuation), len(rejected.continuation)],
                    "log_prompt_perplexity": log_ppl,
                }
            )
            lengths.append((len(chosen.continuation), len(rejected.continuation)))
        longer = ["chosen longer" if c > r else "rejected longer" if c < r else "equal" for c, r in lengths]
        return self.result(visit, fingerprint, items, {**self.metrics, **dict.fromkeys(map(_of, subsets), True)}) | {
            "beta0": self._beta0,
            "by_prompt_perplexity": by_quantile(items, perplexity, self._quantiles, self.metrics),
            "by_answer_tokens": by_quantile(items, [(c + r) / 2 for c, r in lengths], self._quantiles, self.metrics),
            "by_longer_answer": by_name(items, longer, self.metrics),
        }

    def _values(self, policy: list[float], reference: list[float]) -> dict[str, float | None]:
        chosen, rejected = (self._beta0 * (p - r) for p, r in zip(policy, reference, strict=True))
        margin = chosen - rejected
        return {
            "accuracy": _above(margin),
            "loss_at_beta0": max(-margin, 0.0) + math.log1p(math.exp(-abs(margin))),
            "margin": margin,
            "chosen_reward": chosen,
            "rejected_reward": rejected,
            "displacement": float(chosen < 0),
            "ranking_accuracy": _above(policy[0] - policy[1]),
        }

    def _ids(self, visit: Visit, row: Row) -> tuple[list[int], list[int], list[int]]:
        if row["id"] not in self._tokens:
            ids = pair_ids(visit.engine.tokenizer, row["prompt"], row["chosen"], row["rejected"])
            self._tokens[row["id"]] = ids
        return self._tokens[row["id"]]

    def _answers(self, visit: Visit, rows: list[Row]) -> list[Request]:
        """Chosen and rejected of every row, one after the other."""
        requests = []
        for row in rows:
            prompt, *answers = self._ids(visit, row)
            requests += [Request(f"{row['id']}/{side}", prompt, ids) for side, ids in zip(_SIDES, answers, strict=True)]
        return requests

    def _prompts(self, visit: Visit, rows: list[Row]) -> list[Request | None]:
        return [prompt_request(self._ids(visit, row)[0]) for row in rows]


def _of(subset: str) -> str:
    return f"accuracy:{subset}"


def _above(difference: float) -> float:
    """1 above zero, 0 below it, one half at it: the reference against itself guesses."""
    return 0.5 if difference == 0 else float(difference > 0)
