"""Methods over all benchmarks at once: `summary["aggregate"]`, on the benchmarks whose scores share the scale 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.statistics.aggregates import improvement_interval, iqm_interval, performance_profile

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(20))
NOTHING: dict[str, Any] = {
    "benchmarks": [],
    "left_out": [],
    "methods": [],
    "reason": "one run has nothing to be compared with",
}


def aggregate_summary(metrics: Sequence[Mapping[str, Any]], baseline: str | None) -> dict[str, Any]:
    """Interquartile mean, probability of improvement over the baseline, and performance profile of every method.

    `metrics` are the summary's entries; each benchmark counts with its primary metric, turned round (1 - score) where
    lower is better. A run counts when it was scored on all of them.
    """
    tables: dict[str, dict[str, dict[str, float]]] = {}
    left_out = []
    for entry in (m for m in metrics if m["benchmark_primary"]):
        found = {
            method["label"]: {p["run_id"]: p["value"] for p in method["policies"] if p["value"] is not None}
            for method in entry["methods"]
        }
        values = [v for runs in found.values() for v in runs.values()]
        name = f"{entry['benchmark']}/{entry['metric']}"
        if not values:
            left_out.append({"benchmark": name, "reason": "no run was scored on it"})
        elif min(values) < 0 or max(values) > 1:
            left_out.append({"benchmark": name, "reason": "its scores are not between 0 and 1"})
        elif entry["higher_is_better"]:
            tables[name] = found
        else:
            tables[name] = {label: {r: 1 - v for r, v in runs.items()} for label, runs in found.items()}
    result: dict[str, Any] = {"benchmarks": list(tables), "left_out": left_out, "methods": [], "reason": None}
    if len(tables) < 2:
        return result | {"reason": f"{len(tables)} benchmark(s) with scores between 0 and 1; two are needed"}
    labels = list(dict.fromkeys(label for found in tables.values() for label in found))
    scores = {label: table for label in labels if (table := _scores(tables, label)).size}
    for label, table in scores.items():
        against = scores.get(baseline or "")
        better = None if against is None or label == baseline else improvement_interval(table, against).as_dict()
        profile = performance_profile(table, THRESHOLDS)
        result["methods"].append(
            {
                "label": label,
                "runs": len(table),
                "iqm": iqm_interval(table).as_dict(),
                "improvement": better,
                "profile": [{"above": t, "share": float(s)} for t, s in zip(THRESHOLDS, profile, strict=True)],
                "reason": None if better else "the baseline itself" if label == baseline else "no baseline was scored",
            }
        )
    return result | {"reason": None if scores else "no run was scored on all of these benchmarks"}


def _scores(tables: Mapping[str, Mapping[str, Mapping[str, float]]], label: str) -> NDArray[np.float64]:
    """Scores of shape (runs, benchmarks) of one method's runs that have them all; no rows where there is none."""
    by_benchmark = [found.get(label, {}) for found in tables.values()]
    runs = [run for run in by_benchmark[0] if all(run in found for found in by_benchmark[1:])]
    return np.array([[found[run] for found in by_benchmark] for run in runs], dtype=float).reshape(
        -1, len(by_benchmark)
    )
