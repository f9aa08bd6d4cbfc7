"""Reward against KL and against length, over the checkpoints of every seed, and methods compared at equal KL and length.

`summary["frontiers"]` holds what this module returns; claims declared `at: matched_kl` are judged from `matched_kl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.compare.comparison import MatchedKL, by_group, crossed_test, interval_of
from reports.compare.frontier_points import Cost, Points, Rows
from reports.runs.arms import Arm
from reports.runs.records import MatrixData
from reports.statistics.crossed import crossed_mean
from reports.statistics.frontier import Frontier, Matched, bootstrap_matched, matched, shared_range
from reports.statistics.multiplicity import benjamini_hochberg

Floats = NDArray[np.float64]
DRAWS = 1000
_ALONE = "one run has nothing to be compared with"
NOTHING: dict[str, Any] = {
    "kl_benchmark": None,
    "metric": None,
    "points": [],
    "comparisons": [],
    "length": {"metric": None, "comparisons": [], "reason": _ALONE},
    "reason": _ALONE,
}


def _array(rows: Sequence[Rows], groups: dict[str, str]) -> list[Floats]:
    """One array (points, groups of items) per run, on the items that every point of every run has, in one order."""
    flat = [point for run in rows for point in run]
    ids = [i for i in flat[0] if all(i in point for point in flat[1:])]
    names = [groups.get(i, i) for i in ids]
    return [by_group(np.array([[p[i] for i in ids] for p in run]).reshape(len(run), len(ids)), names) for run in rows]


def _groups(matrix: MatrixData, benchmark: str) -> dict[str, str]:
    scores = next((r.scores[benchmark] for r in matrix.runs if benchmark in r.scores), None)
    return {} if scores is None else {i.id: i.group for i in scores.items if i.group is not None}


def _pairs(
    points: Points, cost: Cost, first: Arm, second: Arm, benchmark: str, metric: str
) -> tuple[list[int], list[tuple[Frontier, Frontier]], str | None]:
    """Shared seeds and their pairs of frontiers, or why there are none."""
    usable = [
        {
            r.seed: found
            for r in arm.runs
            if r.seed is not None and r.state == "done" and (found := points.frontier(r, cost, benchmark, metric))
        }
        for arm in (first, second)
    ]
    seeds = sorted(set(usable[0]) & set(usable[1]))
    if not seeds:
        return [], [], f"no seed of both has a {'KL' if cost.key == 'kl' else cost.key} and a score at two points"
    rows = [usable[side][s] for s in seeds for side in (0, 1)]
    rewards = _array([r for r, _ in rows], _groups(points.matrix, benchmark))
    spent = _array([c for _, c in rows], _groups(points.matrix, cost.benchmark))
    if not rewards[0].size or not spent[0].size:
        return [], [], "the checkpoints were not scored on the same prompts"
    every = [Frontier(r, c) for r, c in zip(rewards, spent, strict=True)]
    return seeds, list(zip(every[0::2], every[1::2], strict=True)), None


def _outward(pair: tuple[Frontier, Frontier]) -> tuple[tuple[Frontier, Frontier], float]:
    """The pair with length counted in the direction in which both moved away from their first points, and its sign.

    The comparison is made where they are furthest: at the longest length both reach where answers grew longer, at the shortest
    where they grew shorter. At their first point, the reference, both are the same policy.
    """
    low, high = shared_range(*(f.kl.mean(axis=1) for f in pair))
    start = float(np.mean([f.kl[0].mean() for f in pair]))
    sign = -1.0 if abs(low - start) > abs(high - start) else 1.0
    first, second = (Frontier(f.reward, sign * f.kl) for f in pair)
    return (first, second), sign


def matched_kl(matrix: MatrixData) -> MatchedKL:
    """The function that judges claims `at: matched_kl`: first - second by (seed, prompt), each seed's pair at the largest
    KL both reach; a sentence where that cannot be had."""
    points = Points(matrix)

    def differences(first: Arm, second: Arm, metric: str) -> Floats | str:
        benchmark, name = metric.split("/", 1)
        cost = points.cost("kl", benchmark)
        if isinstance(cost, str):
            return cost
        seeds, pairs, reason = _pairs(points, cost, first, second, benchmark, name)
        if reason:
            return reason
        found = [matched(a, b) for a, b in pairs]
        apart = [s for s, m in zip(seeds, found, strict=True) if m is None]
        if apart:
            return f"seed {apart[0]}: the two runs share no range of KL"
        return np.array([m.at_high for m in found if m is not None])

    return differences


def _inferred(cells: Floats) -> dict[str, Any]:
    mean = crossed_mean(cells)
    return {"difference": interval_of(mean, cells).as_dict(), "test": crossed_test(mean).as_dict()}


def _comparison(points: Points, cost: Cost, first: Arm, second: Arm, benchmark: str, metric: str) -> dict[str, Any]:
    seeds, pairs, reason = _pairs(points, cost, first, second, benchmark, metric)
    key, is_kl = cost.key, cost.key == "kl"
    found: list[tuple[int, Matched, float]] = []
    kept: list[tuple[Frontier, Frontier]] = []
    apart: list[int] = []
    for seed, given in zip(seeds, pairs, strict=True):
        pair, sign = (given, 1.0) if is_kl else _outward(given)
        one = matched(*pair)
        if one is None:
            apart.append(seed)
        else:
            found.append((seed, one, sign))
            kept.append(pair)
    if pairs and not found:
        reason = f"no pair of runs shares a range of {'KL' if is_kl else key}"
    none = np.empty((0, 0))
    ends = np.array([m.at_high for _, m, _ in found]) if found else none
    areas = np.array([m.over_range for _, m, _ in found]) if found else none
    least = min((f.kl.shape[0] for pair in kept for f in pair), default=None)
    note = "only the reference and the final policy of some runs: a straight line between them" if least == 2 else None
    # Length is measured on the answers themselves, so that its error is the smaller part: no bootstrap over it.
    boot = bootstrap_matched(kept, DRAWS) if is_kl else None
    return {
        "benchmark": benchmark,
        "metric": metric,
        "label": first.label,
        "against": second.label,
        "n": ends.shape[1] if found else 0,
        f"{key}_prompts": kept[0][0].kl.shape[1] if kept else 0,
        "points_per_run": least,
        "seeds_without_shared_range": apart,
        "per_seed": [
            {
                "seed": seed,
                f"{key}_low": min(sign * m.low, sign * m.high),
                f"{key}_high": max(sign * m.low, sign * m.high),
                "matched": float(m.at_high.mean()),
                "area": float(m.over_range.mean()),
            }
            for seed, m, sign in found
        ],
        "matched": _inferred(ends) | ({"bootstrap": boot[0].as_dict()} if boot else {}),
        "area": _inferred(areas) | ({"bootstrap": boot[1].as_dict()} if boot else {}),
        "note": note,
        "reason": reason,
    }


def _compared(
    points: Points, cost: Cost, pairs: Sequence[tuple[Arm, Arm]], benchmark: str, metric: str
) -> list[dict[str, Any]]:
    """Every pair at an equal cost, the p-values of the matched differences adjusted together."""
    comparisons = [_comparison(points, cost, a, b, benchmark, metric) for a, b in pairs]
    adjusted = benjamini_hochberg([c["matched"]["test"]["p_value"] for c in comparisons])
    for row, p in zip(comparisons, adjusted, strict=True):
        row["adjusted_p"] = {
            "value": p,
            "method": "Benjamini-Hochberg",
            "family_size": sum(v is not None for v in adjusted),
            "reason": None if p is not None else row["matched"]["test"]["reason"],
        }
    return comparisons


def frontier_summary(
    matrix: MatrixData, all_arms: Sequence[Arm], primary: str | None, baseline: Arm | None, controls: Sequence[str]
) -> dict[str, Any]:
    """Points of every run and checkpoint on the primary metric, and differences at matched KL and over the shared range.

    `matched` compares each seed's two runs at the largest KL both reach, `area` averages the difference over the KL both
    reach (area between the frontiers over the length of the range, in the metric's unit). `length` holds the same at equal
    mean length of the answers, there at the shared length furthest from the reference's. `controls` are labels of arms.
    """
    points = Points(matrix)
    if primary is None:
        why = "no primary metric"
        return NOTHING | {"length": NOTHING["length"] | {"reason": why}, "reason": why}
    benchmark, metric = primary.split("/", 1)
    rows = points.reference_row(benchmark, metric)
    rows += [points.row(a, r, s, benchmark, metric) for a in all_arms for r in a.runs for s in points.of(r)]
    pairs: list[tuple[Arm, Arm]] = []
    if baseline is not None:
        pairs = [(a, baseline) for a in all_arms if a is not baseline]
        tested = [a for a in all_arms if a is not baseline and a.label not in controls and a.method != baseline.method]
        pairs += [(a, c) for a in tested for c in all_arms if c.label in controls]
    made: dict[str, tuple[str | None, list[dict[str, Any]], str | None]] = {}
    for key in ("kl", "length"):
        cost = points.cost(key, benchmark)
        if isinstance(cost, str):
            made[key] = (None, [], cost)
        else:
            name = f"{cost.benchmark}/{cost.metric}"
            compared = _compared(points, cost, pairs, benchmark, metric)
            made[key] = (name, compared, None if baseline is not None else "no baseline")
    of_length, by_length, no_length = made["length"]
    return {
        "kl_benchmark": points.kl,
        "metric": primary,
        "points": rows,
        "comparisons": made["kl"][1],
        "length": {"metric": of_length, "comparisons": by_length, "reason": no_length},
        "reason": made["kl"][2],
    }
