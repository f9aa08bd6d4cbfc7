"""Methods over all benchmarks at once: `summary.aggregate`, on the benchmarks whose scores share the scale 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reports.compare.comparison import Floats
from reports.schema.base import Estimate
from reports.schema.metrics import Metric
from reports.schema.tables import Aggregate, AggregateArm, LeftOut, ProfilePoint
from reports.statistics.aggregates import improvement_interval, iqm_interval, performance_profile

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(20))
NOTHING = Aggregate(benchmarks=[], left_out=[], methods=[], reason="one run has nothing to be compared with")


def aggregate_summary(metrics: Sequence[Metric], baseline: str | None) -> Aggregate:
    """Interquartile mean, probability of improvement over the baseline, and performance profile of every method.

    Each benchmark counts with its primary metric, turned round (1 - score) where lower is better. A run counts when it was
    scored on all of them.
    """
    tables: dict[str, dict[str, dict[str, float]]] = {}
    left_out = []
    for entry in (m for m in metrics if m.benchmark_primary):
        found = {
            arm.label: {
                p.run_id: p.value if entry.higher_is_better else 1 - p.value
                for p in arm.policies
                if p.value is not None
            }
            for arm in entry.methods
        }
        values = [v for runs in found.values() for v in runs.values()]
        if not values:
            left_out.append(LeftOut(benchmark=entry.name, reason="no run was scored on it"))
        elif min(values) < 0 or max(values) > 1:
            left_out.append(LeftOut(benchmark=entry.name, reason="its scores are not between 0 and 1"))
        else:
            tables[entry.name] = found
    labels = list(dict.fromkeys(label for found in tables.values() for label in found))
    scores = {label: table for label in labels if (table := _scores(tables, label)).size}
    reason = None if scores else "no run was scored on all of these benchmarks"
    if len(tables) < 2:
        scores, reason = {}, f"{len(tables)} benchmark(s) with scores between 0 and 1; two are needed"
    methods = [_arm(label, table, baseline, scores.get(baseline or "")) for label, table in scores.items()]
    return Aggregate(benchmarks=list(tables), left_out=left_out, methods=methods, reason=reason)


def _arm(label: str, table: Floats, baseline: str | None, against: Floats | None) -> AggregateArm:
    better = None
    if against is not None and label != baseline:
        better = Estimate.from_result(improvement_interval(table, against))
    profile = zip(THRESHOLDS, performance_profile(table, THRESHOLDS), strict=True)
    return AggregateArm(
        label=label,
        runs=len(table),
        iqm=Estimate.from_result(iqm_interval(table)),
        improvement=better,
        profile=[ProfilePoint(above=t, share=float(s)) for t, s in profile],
        reason=None if better else "the baseline itself" if label == baseline else "no baseline was scored",
    )


def _scores(tables: Mapping[str, Mapping[str, Mapping[str, float]]], label: str) -> Floats:
    """Scores of shape (runs, benchmarks) of one method's runs that have them all; no rows where there is none."""
    by_benchmark = [found.get(label, {}) for found in tables.values()]
    runs = [run for run in by_benchmark[0] if all(run in found for found in by_benchmark[1:])]
    return np.array([[found[run] for found in by_benchmark] for run in runs], dtype=float).reshape(
        -1, len(by_benchmark)
    )
