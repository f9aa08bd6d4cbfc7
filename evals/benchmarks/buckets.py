"""Metrics per group of items: quantiles of a number, or named groups."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.benchmarks.base import Row
from evals.estimates import estimate, estimates


def by_quantile(
    items: Sequence[Row], numbers: Sequence[float | None], count: int, metrics: Mapping[str, bool | None]
) -> list[Row]:
    """One entry for each of at most `count` quantiles of `numbers` (one an item): low, high, n, metrics.

    Equal numbers fall into one quantile, so there can be fewer; items without a number are in none.
    """
    known = [(item, float(number)) for item, number in zip(items, numbers, strict=True) if number is not None]
    if not known:
        return []
    values = np.array([number for _, number in known])
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
    places = np.searchsorted(edges, values, side="left")
    groups = [[known[i] for i in np.flatnonzero(places == place)] for place in np.unique(places)]
    return [
        {"quantile": place, "low": min(n for _, n in group), "high": max(n for _, n in group)}
        | _summary([item for item, _ in group], metrics)
        for place, group in enumerate(groups, start=1)
    ]


def by_name(items: Sequence[Row], names: Sequence[str], metrics: Mapping[str, bool | None]) -> list[Row]:
    """One entry for each name that occurs, in order of the name: bucket, n, metrics."""
    return [
        {"bucket": name} | _summary([item for item, own in zip(items, names, strict=True) if own == name], metrics)
        for name in sorted(set(names))
    ]


def _summary(items: Sequence[Row], metrics: Mapping[str, bool | None]) -> Row:
    return {"n": len(items), "metrics": estimates(items, metrics)}


# The noise floor: one policy evaluated twice, and how far the two evaluations are apart.


NEXT_SEED = "the same weights again, with the next seed and the prompts in reverse order"
SAME_SEED = "the same weights again, with the requests in reverse order"


def difference(first: Mapping[str, Any], second: Mapping[str, Any], how: str = NEXT_SEED) -> Row:
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
