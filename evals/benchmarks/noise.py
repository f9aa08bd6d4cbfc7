"""The noise floor: one policy evaluated twice, and how far the two evaluations are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.benchmarks.base import estimate

NEXT_SEED = "the same weights again, with the next seed and the prompts in reverse order"
SAME_SEED = "the same weights again, with the requests in reverse order"


def difference(first: Mapping[str, Any], second: Mapping[str, Any], how: str = NEXT_SEED) -> dict[str, Any]:
    """What goes into `noise` of a score file: for every metric, both values and their difference (second - first).

    `item_difference` is the mean of the items' differences with its standard error, `changed` the share of the items
    whose value is another one. Sampled answers differ by their seeds; greedy answers and log-probs by the engine alone.
    """
    again = {item["id"]: item["values"] for item in second["items"]}
    metrics = {}
    for name, one in first["metrics"].items():
        other = second["metrics"][name]["value"]
        pairs = [(item["values"].get(name), again[item["id"]].get(name)) for item in first["items"]]
        gaps = [b - a for a, b in pairs if a is not None and b is not None]
        known = one["value"] is not None and other is not None
        metrics[name] = {
            "first": one["value"],
            "second": other,
            "difference": other - one["value"] if known else None,
            "item_difference": estimate(gaps, None),
            "changed": sum(gap != 0 for gap in gaps) / len(gaps) if gaps else None,
        }
    return {
        "policy": first["policy"],
        "how": how,
        "metrics": metrics,
    }
