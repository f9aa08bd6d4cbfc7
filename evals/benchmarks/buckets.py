"""Metrics per group of items: quantiles of a number, or named groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.benchmarks.base import Row, estimate


def by_quantile(
    items: Sequence[Row], numbers: Sequence[float | None], count: int, metrics: Mapping[str, bool | None]
) -> list[dict[str, Any]]:
    """One entry for each of at most `count` quantiles of `numbers` (one an item): low, high, n, metrics.

    Equal numbers fall into one quantile, so there can be fewer; items without a number are in none.
    """
    known = np.array([number for number in numbers if number is not None], dtype=float)
    if not known.size:
        return []
    edges = np.unique(np.quantile(known, np.linspace(0, 1, count + 1)[1:-1]))
    found: dict[int, list[int]] = {}
    for i, number in enumerate(numbers):
        if number is not None:
            found.setdefault(int(np.searchsorted(edges, number, side="left")), []).append(i)
    entries = []
    for place, (_, members) in enumerate(sorted(found.items()), start=1):
        inside = [float(number) for i in members if (number := numbers[i]) is not None]
        entry = {"quantile": place, "low": min(inside), "high": max(inside)}
        entries.append(entry | _summary([items[i] for i in members], metrics))
    return entries


def by_name(items: Sequence[Row], names: Sequence[str], metrics: Mapping[str, bool | None]) -> list[dict[str, Any]]:
    """One entry for each name that occurs, in order of the name: bucket, n, metrics."""
    return [
        {"bucket": name} | _summary([item for item, own in zip(items, names, strict=True) if own == name], metrics)
        for name in sorted(set(names))
    ]


def _summary(items: Sequence[Row], metrics: Mapping[str, bool | None]) -> dict[str, Any]:
    groups = [item["group"] for item in items]
    return {
        "n": len(items),
        "metrics": {
            name: estimate([item["values"].get(name) for item in items], better, groups)
            for name, better in metrics.items()
        },
    }
