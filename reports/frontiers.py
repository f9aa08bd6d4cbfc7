"""Reward against KL and against length, over the checkpoints of every seed, and methods compared at equal KL.

`summary["frontiers"]` holds what this module returns; claims declared `at: matched_kl` are judged from `matched_kl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoints import Snapshot, snapshots
from .claim_evidence import MatchedKL
from .comparison import by_group, crossed_test, interval_of
from .labels import Arm
from .records import REFERENCE_ID, MatrixData, RunData, Scores
from .statistics.crossed import crossed_mean
from .statistics.frontier import Frontier, Matched, bootstrap_matched, matched
from .statistics.multiplicity import benjamini_hochberg
from .statistics.standard_errors import mean_interval

Floats = NDArray[np.float64]
_Rows = list[dict[str, float]]
KL_METRIC = "kl_k3"
LENGTHS = ("response_tokens", "response_words")
DRAWS = 1000
NOTHING: dict[str, Any] = {
    "kl_benchmark": None,
    "metric": None,
    "points": [],
    "comparisons": [],
    "reason": "one run has nothing to be compared with",
}


class _Points:
    """The policies on the way of each run, read once, with the reference as the point every run starts from."""

    def __init__(self, matrix: MatrixData) -> None:
        self.matrix = matrix
        self.kl = next(
            (s.benchmark for r in matrix.runs for s in r.scores.values() if s.kind == "kl" and KL_METRIC in s.metrics),
            None,
        )
        self._of: dict[str, list[Snapshot]] = {}

    def of(self, run: RunData) -> list[Snapshot]:
        if run.run_id not in self._of:
            self._of[run.run_id] = snapshots(run)
        return self._of[run.run_id]

    def missing(self, benchmark: str) -> str | None:
        if self.kl is None:
            return "KL to the reference was not measured: add a benchmark of kind kl"
        return None if benchmark in self.matrix.benchmarks else f"{benchmark} was not scored"

    def frontier(self, run: RunData, benchmark: str, metric: str) -> tuple[_Rows, _Rows] | None:
        """Item values of reward and KL, one mapping per point that has both; the reference first, at KL 0."""
        reward: _Rows = []
        kl: _Rows = []
        for point in self.of(run):
            scores, moved = point.scores.get(benchmark), point.scores.get(self.kl or "")
            if scores is not None and moved is not None:
                reward.append(_values(scores, metric))
                kl.append(_values(moved, KL_METRIC))
        start = self.matrix.reference.scores.get(benchmark) if self.matrix.reference else None
        if start is not None and kl:
            reward.insert(0, _values(start, metric))
            kl.insert(0, dict.fromkeys(kl[0], 0.0))
        return (reward, kl) if len(kl) > 1 else None


def _values(scores: Scores, metric: str) -> dict[str, float]:
    return {i.id: v for i in scores.items if (v := i.values.get(metric)) is not None}


def _array(rows: Sequence[_Rows], groups: dict[str, str]) -> list[Floats]:
    """One array (points, groups of items) per run, on the items that every point of every run has, in one order."""
    flat = [point for run in rows for point in run]
    ids = [i for i in flat[0] if all(i in point for point in flat[1:])]
    names = [groups.get(i, i) for i in ids]
    return [by_group(np.array([[p[i] for i in ids] for p in run]).reshape(len(run), len(ids)), names) for run in rows]


def _groups(matrix: MatrixData, benchmark: str) -> dict[str, str]:
    scores = next((r.scores[benchmark] for r in matrix.runs if benchmark in r.scores), None)
    return {} if scores is None else {i.id: i.group for i in scores.items if i.group is not None}


def _pairs(
    points: _Points, first: Arm, second: Arm, benchmark: str, metric: str
) -> tuple[list[int], list[tuple[Frontier, Frontier]], str | None]:
    """Shared seeds and their pairs of frontiers, or why there are none."""
    reason = points.missing(benchmark)
    if reason:
        return [], [], reason
    usable = [
        {r.seed: f for r in arm.runs if r.seed is not None and r.state == "done" and (f := points.frontier(r, benchmark, metric))}
        for arm in (first, second)
    ]  # fmt: skip
    seeds = sorted(set(usable[0]) & set(usable[1]))
    if not seeds:
        return [], [], "no seed of both has a KL and a score at two points"
    rows = [usable[side][s] for s in seeds for side in (0, 1)]
    rewards = _array([r for r, _ in rows], _groups(points.matrix, benchmark))
    kls = _array([k for _, k in rows], _groups(points.matrix, points.kl or ""))
    if not rewards[0].size or not kls[0].size:
        return [], [], "the checkpoints were not scored on the same prompts"
    every = [Frontier(r, k) for r, k in zip(rewards, kls, strict=True)]
    return seeds, list(zip(every[0::2], every[1::2], strict=True)), None


def matched_kl(matrix: MatrixData) -> MatchedKL:
    """The function that judges claims `at: matched_kl`: first - second by (seed, prompt), each seed's pair at the largest
    KL both reach; a sentence where that cannot be had."""
    points = _Points(matrix)

    def differences(first: Arm, second: Arm, metric: str) -> Floats | str:
        benchmark, name = metric.split("/", 1)
        seeds, pairs, reason = _pairs(points, first, second, benchmark, name)
        if reason:
            return reason
        found = [matched(a, b) for a, b in pairs]
        apart = [s for s, m in zip(seeds, found, strict=True) if m is None]
        if apart:
            return f"seed {apart[0]}: the two runs share no range of KL"
        return np.array([m.at_high for m in found if m is not None])

    return differences


def _stated(scores: Scores | None, metric: str) -> tuple[float | None, float | None]:
    """Mean over items and its standard error, from the items; None where there are none."""
    values = [] if scores is None else list(_values(scores, metric).values())
    if not values or scores is None:
        return None, None
    groups = [i.group or i.id for i in scores.items if i.values.get(metric) is not None]
    found = mean_interval(values, groups)
    return found.estimate, found.stderr


def _point(points: _Points, arm: Arm, run: RunData, snap: Snapshot, benchmark: str, metric: str) -> dict[str, Any]:
    kl = snap.scores.get(points.kl or "")
    reward = snap.scores.get(benchmark)
    length: tuple[float | None, float | None] = (None, None)
    name: str | None = None
    for source in (reward, kl):
        for key in LENGTHS:
            if length[0] is None and source is not None:
                length = _stated(source, key)
                name = f"{source.benchmark}/{key}" if length[0] is not None else None
    moved, gained = _stated(kl, KL_METRIC), _stated(reward, metric)
    lacking = [
        n for n, v in (("KL", moved[0]), (f"{benchmark}/{metric}", gained[0]), ("length", length[0])) if v is None
    ]
    return {
        "label": arm.label,
        "run_id": run.run_id,
        "seed": run.seed,
        "state": run.state,
        "step": snap.step,
        "final": snap.final,
        "kl": moved[0],
        "kl_stderr": moved[1],
        "reward": gained[0],
        "reward_stderr": gained[1],
        "length": length[0],
        "length_stderr": length[1],
        "length_metric": name,
        "reason": f"not measured: {', '.join(lacking)}" if lacking else None,
    }


def _reference_point(matrix: MatrixData, points: _Points, benchmark: str, metric: str) -> list[dict[str, Any]]:
    if matrix.reference is None or benchmark not in matrix.reference.scores:
        return []
    start = Snapshot(REFERENCE_ID, 0, False, matrix.reference.scores)
    arm = Arm(REFERENCE_ID, REFERENCE_ID, None, {}, ())
    row = _point(points, arm, matrix.reference, start, benchmark, metric)
    lacking = [n for n, k in (("length", "length"), (f"{benchmark}/{metric}", "reward")) if row[k] is None]
    return [row | {"kl": 0.0, "kl_stderr": 0.0, "reason": f"not measured: {', '.join(lacking)}" if lacking else None}]


def _inferred(cells: Floats) -> dict[str, Any]:
    mean = crossed_mean(cells)
    return {"difference": interval_of(mean, cells).as_dict(), "test": crossed_test(mean).as_dict()}


def _comparison(points: _Points, first: Arm, second: Arm, benchmark: str, metric: str) -> dict[str, Any]:
    seeds, pairs, reason = _pairs(points, first, second, benchmark, metric)
    found: list[tuple[int, Matched]] = []
    kept: list[tuple[Frontier, Frontier]] = []
    apart: list[int] = []
    for seed, pair in zip(seeds, pairs, strict=True):
        one = matched(*pair)
        if one is None:
            apart.append(seed)
        else:
            found.append((seed, one))
            kept.append(pair)
    if pairs and not found:
        reason = "no pair of runs shares a range of KL"
    ends = np.array([m.at_high for _, m in found]).reshape(len(found), -1)
    areas = np.array([m.over_range for _, m in found]).reshape(len(found), -1)
    boot = bootstrap_matched(kept, DRAWS)
    least = min((f.kl.shape[0] for pair in kept for f in pair), default=None)
    note = "only the reference and the final policy of some runs: a straight line between them" if least == 2 else None
    return {
        "benchmark": benchmark,
        "metric": metric,
        "label": first.label,
        "against": second.label,
        "n": ends.shape[1] if found else 0,
        "kl_prompts": kept[0][0].kl.shape[1] if kept else 0,
        "points_per_run": least,
        "seeds_without_shared_range": apart,
        "per_seed": [
            {
                "seed": seed,
                "kl_low": m.low,
                "kl_high": m.high,
                "matched": float(m.at_high.mean()),
                "area": float(m.over_range.mean()),
            }
            for seed, m in found
        ],
        "matched": _inferred(ends) | {"bootstrap": boot[0].as_dict()},
        "area": _inferred(areas) | {"bootstrap": boot[1].as_dict()},
        "note": note,
        "reason": reason,
    }


def frontier_summary(
    matrix: MatrixData, all_arms: Sequence[Arm], primary: str | None, baseline: Arm | None, controls: Sequence[str]
) -> dict[str, Any]:
    """Points of every run and checkpoint on the primary metric, and differences at matched KL and over the shared range.

    `matched` compares each seed's two runs at the largest KL both reach, `area` averages the difference over the KL both
    reach (area between the frontiers over the length of the range, in the metric's unit). `controls` are labels of arms.
    """
    points = _Points(matrix)
    if primary is None:
        return NOTHING | {"reason": "no primary metric"}
    benchmark, metric = primary.split("/", 1)
    rows = _reference_point(matrix, points, benchmark, metric)
    rows += [_point(points, a, r, s, benchmark, metric) for a in all_arms for r in a.runs for s in points.of(r)]
    result = {"kl_benchmark": points.kl, "metric": primary, "points": rows, "comparisons": []}
    reason = points.missing(benchmark)
    if reason or baseline is None:
        return result | {"reason": reason or "no baseline"}
    pairs = [(a, baseline) for a in all_arms if a is not baseline]
    tested = [a for a in all_arms if a is not baseline and a.label not in controls and a.method != baseline.method]
    pairs += [(a, c) for a in tested for c in all_arms if c.label in controls]
    comparisons = [_comparison(points, a, b, benchmark, metric) for a, b in pairs]
    adjusted = benjamini_hochberg([c["matched"]["test"]["p_value"] for c in comparisons])
    for row, p in zip(comparisons, adjusted, strict=True):
        row["adjusted_p"] = {
            "value": p,
            "method": "Benjamini-Hochberg",
            "family_size": sum(v is not None for v in adjusted),
            "reason": None if p is not None else row["matched"]["test"]["reason"],
        }
    return result | {"comparisons": comparisons, "reason": None}
