"""Means over items, and their standard errors clustered by group."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from trainers.common import Json, scores_schema


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined; None if none is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def score_file(
    name: str,
    kind: str,
    policy: str,
    fingerprint: str,
    items: Sequence[Json],
    metrics: Mapping[str, Json],
    primary: str,
) -> Json:
    """`scores/<name>.json` of a policy.

    Args:
        name: of the benchmark. fingerprint: of the policy on it.
        items: one a prompt: `id`, `values` (metric -> number, None where it is not defined), `group` (prompts that are one
            cluster, or None) and more.
        metrics: `estimate` of each metric. primary: the one that is compared first.
    """
    return {
        "schema_version": scores_schema.SCHEMA_VERSION,
        "benchmark": name,
        "kind": kind,
        "policy": policy,
        "fingerprint": fingerprint,
        "metrics": metrics,
        "primary_metric": primary,
        "items": items,
        "noise": None,
    }


def estimate(
    values: Sequence[float | None], higher_is_better: bool | None, groups: Sequence[Any] | None = None
) -> Json:
    """Mean over the defined values, n, and the standard error clustered by group (Miller, arXiv 2411.00640).

    Args:
        groups: one a value; None for a value of its own cluster.
    """
    known = [(i, value) for i, value in enumerate(values) if value is not None]
    middle = mean([value for _, value in known])
    if middle is None:
        return {
            "value": None,
            "stderr": None,
            "n": 0,
            "higher_is_better": higher_is_better,
            "reason": "defined for no item",
        }
    sums: dict[Any, float] = defaultdict(float)
    for i, value in known:
        group = groups[i] if groups is not None else None
        sums[("item", i) if group is None else ("group", group)] += value - middle
    clusters, stderr = len(sums), None
    if clusters > 1:
        stderr = math.sqrt(math.fsum(s * s for s in sums.values()) * clusters / (clusters - 1)) / len(known)
    return {"value": middle, "stderr": stderr, "n": len(known), "higher_is_better": higher_is_better}


def estimates(items: Sequence[Mapping[str, Any]], metrics: Mapping[str, bool | None]) -> Json:
    """`estimate` of every metric (name -> whether higher is better) over the items' `values`, clustered by their `group`."""
    groups = [item.get("group") for item in items]
    return {
        name: estimate([item["values"].get(name) for item in items], better, groups) for name, better in metrics.items()
    }
