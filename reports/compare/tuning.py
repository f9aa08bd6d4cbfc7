"""Methods at their best setting: cross-fitted comparisons, expected best under equal budgets, and the map of settings.

`summary.tuning` holds what this module returns.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reports.compare.comparison import Floats, crossed_test, detectable
from reports.compare.grids import ScoreGrid, aligned, arm_grids
from reports.runs import Arm, differing, grouped
from reports.schema import BestComparison, ExpectedBest, ExpectedPoint, Metric, SeedValue, SettingScore, Tuning
from reports.statistics.best_settings import best_mean, expected_best, tuned
from reports.statistics.crossed import crossed_mean
from reports.statistics.intervals import group_columns, turned
from reports.statistics.multiplicity import UNCORRECTED, with_corrected
from reports.statistics.paired import seed_interval

NOTHING = Tuning(comparisons=[], expected_best=[], map=[], reason="one run: nothing was tuned")


def _sides(
    first: Sequence[ScoreGrid], second: Sequence[ScoreGrid], sign: float
) -> tuple[list[int | None], int, Floats]:
    """Seeds and number of items that all settings of both sides share, and their scores there, larger being better, shape
    (settings of the first and of the second, seeds, groups of items)."""
    seeds, ids, values = aligned([*first, *second])
    return seeds, len(ids), sign * group_columns(values, [first[0].groups[i] for i in ids])


def _gaps(mine: Floats, theirs: Floats) -> Floats | None:
    """Best of the first minus best of the second, each scored where it was not chosen, shape (seeds, groups).

    None where they share too little to choose on one part and to score on another.
    """
    single = len(mine) == len(theirs) == 1
    return np.asarray(tuned(mine) - tuned(theirs)) if mine.size and (mine.shape[2] > 1 or single) else None


def cross_fitted(first: Sequence[ScoreGrid], second: Sequence[ScoreGrid], sign: float) -> float | None:
    """The mean cross-fitted difference of two methods at their best; above zero the first is better. None: none."""
    if not first or not second:
        return None
    cells = _sides(first, second, sign)[2]
    gaps = _gaps(cells[: len(first)], cells[len(first) :])
    return None if gaps is None else float(gaps.mean())


def _compare(entry: Metric, method: str, against: str, families: Mapping[str, list[ScoreGrid]]) -> BestComparison:
    """Both sides at their best: the estimate at settings chosen elsewhere than where they are compared."""
    first, second = families[method], families[against]
    sign = _sign(entry)
    seeds, items, cells = _sides(first, second, sign)
    mine, theirs = cells[: len(first)], cells[len(first) :]
    gaps = _gaps(mine, theirs)
    best = best_mean(
        [[crossed_mean(one - other) for other in theirs] for one in mine],
        float("nan") if gaps is None else float(gaps.mean()),
    )
    interval = best.interval()
    return BestComparison(
        benchmark=entry.benchmark,
        metric=entry.metric,
        primary=entry.primary,
        method=method,
        against=against,
        settings=len(first),
        against_settings=len(second),
        seeds=seeds,
        n=items,
        seed_differences=[] if gaps is None else [float(v) for v in sign * gaps.mean(axis=1)],
        difference=interval if sign > 0 else turned(interval),  # back to the metric's own direction
        test=crossed_test(best),
        minimum_detectable_effect=detectable(best),
        adjusted_p=UNCORRECTED,
    )


def _sign(entry: Metric) -> float:
    return 1.0 if entry.higher_is_better else -1.0


def _seed_values(seeds: Sequence[int | None], values: Iterable[float]) -> list[SeedValue]:
    return [SeedValue(seed=s, value=float(v)) for s, v in zip(seeds, values, strict=True)]


def _curve(entry: Metric, method: str, own: Sequence[ScoreGrid]) -> ExpectedBest:
    """Expected best of n settings: of the means over seeds, and of single seeds where all settings have them."""
    sign, items = _sign(entry), min(g.values.shape[1] for g in own)
    best = sign * expected_best(sign * np.array([g.values.to_numpy().mean() for g in own]))
    seeds = [s for s in own[0].means.index if all(s in g.means.index for g in own[1:])]
    per_seed = np.array([g.means.loc[seeds] for g in own]).T
    curves = sign * expected_best(sign * per_seed) if seeds else np.empty((0, len(own)))
    points = [
        ExpectedPoint(
            n_settings=n,
            value=float(value),
            interval=seed_interval(curve, items),
            per_seed=_seed_values(seeds, curve),
        )
        for n, (value, curve) in enumerate(zip(best, curves.T, strict=True), 1)
    ]
    return ExpectedBest(
        benchmark=entry.benchmark,
        metric=entry.metric,
        primary=entry.primary,
        method=method,
        settings=len(own),
        n=items,
        note="the best of noisy means is too good by its luck; compare methods at equal n",
        points=points,
    )


def _map(entry: Metric, family: Sequence[Arm], grids: Mapping[str, ScoreGrid]) -> list[SettingScore]:
    moved = differing([arm.settings for arm in family])
    return [
        SettingScore(
            benchmark=entry.benchmark,
            metric=entry.metric,
            primary=entry.primary,
            method=arm.method,
            label=arm.label,
            settings={n: arm.settings.get(n) for n in moved},
            mean=seed_interval(grids[arm.label].means, grids[arm.label].values.shape[1]),
            per_seed=_seed_values(grids[arm.label].means.index.tolist(), grids[arm.label].means),
        )
        for arm in family
    ]


def tuning_summary(
    all_arms: Sequence[Arm], metrics: Sequence[Metric], baseline: str | None, controls: Sequence[str]
) -> Tuning:
    """Every metric: methods at cross-fitted best settings, expected-best curves, and the mean at each setting.

    `baseline` and `controls` are names of methods. A comparison is the method's best setting against the other's best: the
    estimate is cross-fitted (no setting is scored where it was chosen), interval and p pay for the choice. p-values are
    adjusted together (Benjamini-Hochberg) over all comparisons here. A difference is in the metric's own direction.
    """
    comparisons: list[BestComparison] = []
    curves: list[ExpectedBest] = []
    settings: list[SettingScore] = []
    for entry in metrics:
        grids = arm_grids(all_arms, entry.benchmark, entry.metric)
        scored = [arm for arm in all_arms if arm.label in grids]
        families = grouped((arm.method, arm) for arm in scored)
        sides = {method: [grids[a.label] for a in family] for method, family in families.items()}
        for method in families:
            others = [baseline, *([] if method in controls else controls)] if method != baseline else []
            comparisons += [_compare(entry, method, other, sides) for other in others if other in sides]
            curves.append(_curve(entry, method, sides[method]))
            settings += _map(entry, families[method], grids)
    reason = None if comparisons else "no baseline with scores beside a method with scores"
    comparisons = with_corrected(comparisons, [c.test for c in comparisons])
    return Tuning(comparisons=comparisons, expected_best=curves, map=settings, reason=reason)
