"""Reward against KL and against length, over the checkpoints of every seed, and methods compared at equal KL and length.

`summary.frontiers` holds what this module returns; claims declared `at: matched_kl` are judged from `matched_kl`.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import numpy as np

from reports.compare.comparison import Floats, MatchedKL, align, crossed_test
from reports.compare.frontier_points import Cost, Points, Rows
from reports.runs import Arm, MatrixData, contrasts
from reports.schema import AtEqual, AtSeed, FrontierBand, Frontiers, LengthFrontier, Tested, TurnedOver
from reports.statistics.crossed import NAME, crossed_mean, interval_of
from reports.statistics.frontier import (
    FEWEST_AT_KL,
    FEWEST_OVER_RANGE,
    Frontier,
    band,
    matched,
    shared_range,
    turned_over,
)
from reports.statistics.intervals import group_columns, outcome
from reports.statistics.multiplicity import UNCORRECTED, with_corrected

#: Share of a declared window that both runs of a seed must reach; one seed may fall short of it.
COVERED = 0.7


def nothing(reason: str) -> Frontiers:
    """The part of a summary that has no frontiers, and why."""
    length = LengthFrontier(metric=None, comparisons=[], reason=reason)
    return Frontiers(kl_benchmark=None, metric=None, points=[], comparisons=[], length=length, reason=reason)


def _array(rows: Sequence[Rows], groups: dict[str, str]) -> list[Floats]:
    """One array (points, groups of items) per run, on the items that every point of every run has, in one order."""
    ids, values = align([point for run in rows for point in run])
    grouped = group_columns(values, [groups.get(i, i) for i in ids])
    return np.split(grouped, np.cumsum([len(run) for run in rows])[:-1])


def _pairs(
    points: Points, cost: Cost, first: Arm, second: Arm, benchmark: str, metric: str
) -> list[tuple[int, Frontier, Frontier]] | str:
    """Shared seeds with their pairs of frontiers, or why there are none."""
    mine, theirs = (
        {
            r.seed: found
            for r in arm.runs
            if r.seed is not None and r.state == "done" and (found := points.frontier(r, cost, benchmark, metric))
        }
        for arm in (first, second)
    )
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return f"no seed of both has a {cost.key} and a score at two points"
    rows = [side[s] for s in seeds for side in (mine, theirs)]
    rewards, spent = (
        _array([row[part] for row in rows], points.groups(name))
        for part, name in enumerate((benchmark, cost.benchmark))
    )
    if not rewards[0].size or not spent[0].size:
        return "the checkpoints were not scored on the same prompts"
    every = [Frontier(r, c, cost.key == "KL") for r, c in zip(rewards, spent, strict=True)]
    return list(zip(seeds, every[0::2], every[1::2], strict=True))


def _outward(first: Frontier, second: Frontier) -> tuple[Frontier, Frontier]:
    """The pair with length counted in the direction in which both moved away from their first points, so maybe negative.

    The comparison is made where they are furthest: at the longest length both reach where answers grew longer, at the shortest
    where they grew shorter. At their first point, the reference, both are the same policy.
    """
    low, high = shared_range(first, second)
    start = float(np.mean([first.kl[0].mean(), second.kl[0].mean()]))
    sign = -1.0 if abs(low - start) > abs(high - start) else 1.0
    return replace(first, kl=sign * first.kl), replace(second, kl=sign * second.kl)


def matched_kl(matrix: MatrixData) -> MatchedKL:
    """The function that judges claims `at: matched_kl`: first - second by (seed, prompt), each seed's pair at the largest
    KL both reach, or on average over the part of a window of KL (nats) that both reach; a sentence where that cannot be had."""
    points = Points(matrix)

    def differences(first: Arm, second: Arm, metric: str, window: tuple[float, float] | None = None) -> Floats | str:
        benchmark, name = metric.split("/", 1)
        cost = points.cost("KL", benchmark)
        pairs = cost if isinstance(cost, str) else _pairs(points, cost, first, second, benchmark, name)
        if isinstance(pairs, str):
            return pairs
        fewest = min(len(f.kl) for _, *pair in pairs for f in pair)
        if fewest < FEWEST_AT_KL:
            return f"a run has {_few(fewest, FEWEST_AT_KL)}"
        found = {seed: matched(a, b, window) for seed, a, b in pairs}
        kept = {seed: m for seed, m in found.items() if m is not None}
        within = "" if window is None else f" in the window {window[0]:g} to {window[1]:g}"
        if apart := [seed for seed in found if seed not in kept]:
            return f"seed {apart[0]}: the two runs share no range of KL{within}"
        short = [seed for seed, m in kept.items() if m.covered < COVERED]
        if len(short) > 1:
            return (
                f"not comparable: less than {100 * COVERED:.0f} % of the window {window} is covered under seeds "
                f"{', '.join(map(str, short))}"
            )
        return np.array([m.at_high if window is None else m.over_range for m in kept.values()])

    return differences


def _few(points: int, needed: int) -> str:
    return f"{points} points, the reference among them, where {needed} are needed to interpolate between"


def _tested(cells: Sequence[Floats], points: int | None, needed: int) -> Tested:
    """The mean of the cells with its interval and test; the mean alone where a run has too few points to interpolate."""
    values = np.array(cells) if cells else np.empty((0, 0))
    mean = crossed_mean(values)
    if points is None or points >= needed:
        return Tested(difference=interval_of(mean, values), test=crossed_test(mean))
    mean = replace(mean, stderr=nan, degrees=nan, note=f"a run has {_few(points, needed)}")
    untested = outcome(None, NAME, mean.prompts, mean.seeds, note=mean.note)
    return Tested(difference=mean.interval(), test=untested)


def _compare(points: Points, cost: Cost, first: Arm, second: Arm, benchmark: str, metric: str) -> AtEqual:
    """Two arms at an equal cost, seed by seed."""
    pairs = _pairs(points, cost, first, second, benchmark, metric)
    reason, pairs = (pairs, []) if isinstance(pairs, str) else (None, pairs)
    if cost.key != "KL":
        pairs = [(seed, *_outward(a, b)) for seed, a, b in pairs]
    every = [(seed, (a, b), matched(a, b)) for seed, a, b in pairs]
    found = [(seed, pair, m) for seed, pair, m in every if m is not None]
    if pairs and not found:
        reason = f"no pair of runs shares a range of {cost.key}"
    least = min((len(f.kl) for _, pair, _ in found for f in pair), default=None)
    turned = [
        TurnedOver(label=arm.label, seed=seed, kl=kl)
        for seed, pair, _ in found
        for arm, run in zip((first, second), pair, strict=True)
        if cost.key == "KL" and (kl := turned_over(run)) is not None
    ]
    return AtEqual(
        benchmark=benchmark,
        metric=metric,
        label=first.label,
        against=second.label,
        n=found[0][2].at_high.size if found else 0,
        points_per_run=least,
        seeds_without_shared_range=[seed for seed, _, m in every if m is None],
        per_seed=[
            AtSeed(
                seed=seed,
                low=min(abs(m.low), abs(m.high)),
                high=max(abs(m.low), abs(m.high)),
                matched=float(m.at_high.mean()),
                area=float(m.over_range.mean()),
            )
            for seed, _, m in found
        ],
        turned_over=turned,
        matched=_tested([m.at_high for *_, m in found], least, FEWEST_AT_KL),
        area=_tested([m.over_range for *_, m in found], least, FEWEST_OVER_RANGE),
        note="only the reference and the final policy of some runs: nothing is known between them"
        if least == 2
        else None,
        reason=reason,
        adjusted_p=UNCORRECTED,
    )


def _bands(points: Points, cost: Cost, arm: Arm, benchmark: str, metric: str) -> list[FrontierBand]:
    """The mean curve of an arm over its seeds, where there are two of them that reach a common range of KL."""
    pairs = _pairs(points, cost, arm, arm, benchmark, metric)
    if isinstance(pairs, str) or len(pairs) < 2:
        return []
    return [FrontierBand(label=arm.label, kl=kl, reward=found) for kl, found in band([run for _, run, _ in pairs])]


def frontier_summary(
    matrix: MatrixData, all_arms: Sequence[Arm], primary: str | None, baseline: Arm | None
) -> Frontiers:
    """Points of every run and checkpoint on the primary metric, and differences at matched KL and over the shared range.

    `matched` compares each seed's two runs at the largest KL both reach, `area` averages the difference over the KL both
    reach (area between the frontiers over the length of the range, in the metric's unit). `length` holds the same at equal
    mean length of the answers, there at the shared length furthest from the reference's. Interpolation is in sqrt(KL), and
    linear in length; with fewer than three points a run (five for the area) no interval is given and nothing is tested.
    p-values are adjusted together (Benjamini-Hochberg) at equal KL, and at equal length.
    """
    points = Points(matrix)
    if primary is None:
        return nothing("no primary metric")
    benchmark, metric = primary.split("/", 1)
    rows = points.reference_row(benchmark, metric)
    rows += [points.row(a, r, s, benchmark, metric) for a in all_arms for r in a.runs for s in points.of(r)]
    pairs = contrasts(all_arms, baseline)

    kl, length = (points.cost(key, benchmark) for key in ("KL", "length"))
    at_equal: list[list[AtEqual]] = []
    for cost in (kl, length):
        found = [] if isinstance(cost, str) else [_compare(points, cost, *p, benchmark, metric) for p in pairs]
        at_equal.append(with_corrected(found, [row.matched.test for row in found]))
    unpaired = None if baseline is not None else "no baseline"
    where = LengthFrontier(
        metric=None if isinstance(length, str) else f"{length.benchmark}/{length.metric}",
        comparisons=at_equal[1],
        reason=length if isinstance(length, str) else unpaired,
    )
    if isinstance(kl, str):
        return Frontiers(
            kl_benchmark=None, kl_metric=None, metric=primary, points=rows, comparisons=[], length=where, reason=kl
        )
    return Frontiers(
        kl_benchmark=kl.benchmark,
        kl_metric=kl.metric,
        metric=primary,
        points=rows,
        bands=[b for arm in all_arms for b in _bands(points, kl, arm, benchmark, metric)],
        comparisons=at_equal[0],
        length=where,
        reason=unpaired,
    )
