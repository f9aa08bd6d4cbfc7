"""Differences between methods: tests, intervals and estimates by policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reports.runs.arms import Arm
from reports.runs.records import REFERENCE_ID, RunData, Scores
from reports.schema.base import Estimate, Test, Value
from reports.schema.metrics import AbsentRun, ArmScore, CheckpointPair, Inferred, Paired, PolicyScore, Spread
from reports.statistics import results
from reports.statistics.best_settings import BestMean
from reports.statistics.crossed import NAME as CROSSED
from reports.statistics.crossed import CrossedMean, Prior, crossed_mean, hierarchical_difference, studentised_sign_flip
from reports.statistics.design import components, minimum_detectable_effect
from reports.statistics.intervals import group_columns, mean_interval, wilson
from reports.statistics.paired import (
    EXACT_SEEDS,
    mcnemar,
    rank_test,
    seed_interval,
    seed_permutation,
    sign_flip,
    sign_flips,
    trimmed_test,
)

# Policies compared on one metric: paired by prompt and seed, with both of them as samples.
#
# Two questions are kept apart. A checkpoint comparison asks whether two trained policies differ on such prompts. A
# method comparison asks whether other seeds and other prompts would show it too: prompts are crossed with seeds, since
# every seed meets the same ones, and averaging over seeds never removes what a prompt has for one method.


Floats = NDArray[np.float64]
BOOTSTRAP_DRAWS = 2000
#: What the other arms lend a comparison of two arms (labels) on some seeds and items, in so many columns of items.
Lend = Callable[[str, str, Sequence[int | None], Sequence[str], int], Prior | None]


@dataclass(frozen=True, slots=True)
class Column:
    """One policy's scores on one metric, by item id."""

    run_id: str
    seed: int | None
    values: Mapping[str, float]
    groups: Mapping[str, str]


def column(scores: Scores, metric: str, seed: int | None) -> Column:
    """The finite item values of one metric."""
    return Column(scores.policy, seed, scores.values(metric), scores.groups)


def columns_of(runs: Sequence[RunData], benchmark: str, metric: str) -> list[Column]:
    """Columns of the runs that were scored, in order of seed. A failed run's scores count for nothing.

    A run without a seed is no replicate of anything: it counts only where it is the only run and says what it is.
    """
    alone = len(runs) == 1 and runs[0].identity is not None
    found = [
        column(r.scores[benchmark], metric, r.seed)
        for r in runs
        if r.state in ("done", "running") and benchmark in r.scores and (r.seed is not None or alone)
    ]
    return sorted((c for c in found if c.values), key=lambda c: (c.seed is None, c.seed))


def align(rows: Sequence[Mapping[str, float]]) -> tuple[list[str], Floats]:
    """Item ids that all rows have, in the order of the first, and their values, shape (rows, items)."""
    ids = [i for i in rows[0] if all(i in row for row in rows[1:])]
    return ids, np.array([[row[i] for i in ids] for row in rows], dtype=float).reshape(len(rows), len(ids))


def _group_sums(values: Floats, groups: Sequence[str]) -> Floats:
    """Sums of shape (..., groups) over the items of each group, from values of shape (..., items)."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sums: Floats = np.apply_along_axis(lambda row: np.bincount(index, weights=row), -1, values)
    return sums


def paired_grid(pairs: Sequence[tuple[Column, Column]]) -> tuple[list[str], Floats]:
    """Items that every policy answered, and the differences first - second, shape (pairs, groups of items)."""
    if not pairs:
        return [], np.empty((0, 0))
    ids, stacked = align([c.values for pair in pairs for c in pair])
    if not ids:
        return [], np.empty((len(pairs), 0))
    difference = stacked[0::2] - stacked[1::2]
    return ids, group_columns(difference, [pairs[0][0].groups[i] for i in ids])


def interval_of(mean: CrossedMean, differences: Floats) -> results.Estimate:
    """The crossed interval; of one seed, the interval over its prompts, which says nothing of another seed."""
    if mean.seeds == 1 and differences.size > 1 and np.ptp(differences) > 0:
        only = mean_interval(differences[0])
        note = "one seed: over its prompts only, it says nothing of another seed"
        return replace(only, seeds=1, note=note)
    return mean.interval()


def crossed_test(mean: CrossedMean | BestMean) -> results.Test:
    """Two-sided test that the mean difference is zero over seeds and prompts."""
    above, below = mean.p_above(), mean.p_below()
    p = 1.0 if mean.estimate == 0 and mean.seeds > 1 else None
    if above is not None and below is not None:
        p = min(1.0, 2 * min(above, below))
    return results.Test(p, CROSSED, mean.prompts, mean.seeds, note=mean.note)


def _spread(mean: CrossedMean) -> Spread:
    if mean.squares is None:
        why = mean.note or "one prompt has no spread over prompts"
        return Spread(seed=None, prompt=None, residual=None, reason=why)
    if mean.stderr is None:
        return Spread(seed=0.0, prompt=0.0, residual=0.0, reason=None)
    found, _ = components([mean.squares])
    return Spread(seed=found.seed, prompt=found.prompt, residual=found.residual, reason=None)


def tested(
    differences: Floats, n: int, lent: Prior | None = None, others: Sequence[CrossedMean] = (), sign: float = 1.0
) -> Inferred:
    """What a verdict rests on, from paired differences of shape (seeds, groups of items) over `n` items.

    `lent`: what other arms say of the spread over seeds. `others`: the means of `sign` times the differences from further
    settings that the second side was picked from, larger being better; interval and test then pay for the choice.
    """
    mean = crossed_mean(differences, lent)
    interval, test = interval_of(mean, differences), crossed_test(mean)
    if others and mean.estimate is not None and mean.seeds > 1:
        picked = replace(mean, estimate=sign * mean.estimate)
        best = BestMean(((picked, *others),), picked.estimate)
        interval, test = best.interval() if sign > 0 else best.interval().turned(), crossed_test(best)
    detectable = None
    if mean.stderr is not None and mean.degrees is not None and mean.degrees >= 1:
        detectable = minimum_detectable_effect(mean.stderr, mean.degrees)
    why = None if detectable is not None else mean.note or "the differences vary too little for an estimate"
    return Inferred(
        n=n,
        seed_differences=[float(d) for d in differences.mean(axis=1)] if differences.size else [],
        difference=Estimate.from_result(interval),
        degrees_of_freedom=mean.degrees,
        borrowed=mean.borrowed,
        alone=None if mean.alone is None else Estimate.from_result(mean.alone.interval()),
        spread=_spread(mean),
        crossed_test=Test.from_result(test),
        minimum_detectable_effect=Value(value=detectable, reason=why),
    )


def _binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def policy_estimate(col: Column) -> results.Estimate:
    """One policy's mean over items: Wilson for 0/1 scores of independent items, else a (clustered) t interval."""
    values = np.array(list(col.values.values()), dtype=float)
    groups = [col.groups[i] for i in col.values]
    if _binary(values) and len(set(groups)) == len(groups):
        return wilson(int(values.sum()), values.size)
    return mean_interval(values, groups)


def arm_summary(arm: Arm, benchmark: str, metric: str) -> ArmScore:
    """Mean over seeds of one arm with the interval over seeds, and every policy's own mean with its interval."""
    columns = columns_of(arm.runs, benchmark, metric)
    policies = [(c, policy_estimate(c)) for c in columns]
    items = min((len(c.values) for c in columns), default=0)
    means = [e.estimate for _, e in policies if e.estimate is not None]
    share = bool(columns) and all(_binary(np.array(list(c.values.values()))) for c in columns)
    share = share or any(r.scores[benchmark].kind == "constraints" for r in arm.runs if benchmark in r.scores)
    scored = {c.run_id for c in columns}
    return ArmScore(
        label=arm.label,
        method=arm.method,
        rule=arm.rule,
        mean=Estimate.from_result(seed_interval(means, items, bounds=(0.0, 1.0) if share else None)),
        policies=[PolicyScore(run_id=c.run_id, seed=c.seed, **e.as_dict()) for c, e in policies],
        absent=[
            AbsentRun(run_id=r.run_id, seed=r.seed, state=r.state) for r in arm.runs if r.run_id not in scored
        ],
    )  # fmt: skip


def checkpoint_comparisons(pairs: Sequence[tuple[Column, Column]]) -> list[CheckpointPair]:
    """Each pair of policies on the prompts both answered: difference first - second, intervals, a test, wins and losses.

    The test is McNemar's for 0/1 scores of independent items, else a sign flip of items or of whole groups; the flips of
    all pairs are drawn together.
    """
    differences: list[tuple[Floats, list[str]]] = []
    tests: list[results.Test | None] = []
    flips: dict[int, Floats] = {}
    for place, (a, b) in enumerate(pairs):
        ids, values = align([a.values, b.values])
        groups, difference = [a.groups[i] for i in ids], values[0] - values[1]
        whole = len(set(groups)) == len(groups)
        differences.append((difference, groups))
        tests.append(mcnemar(*values) if ids and whole and _binary(values) else None)
        if ids and tests[-1] is None:  # items of one group are not exchangeable one by one: flip whole groups
            flips[place] = difference if whole else _group_sums(difference, groups)
    for place, test in zip(flips, sign_flips(list(flips.values())), strict=True):
        tests[place] = test
    return [
        _checkpoint(a, b, difference, mean_interval(difference, groups), test)
        for (a, b), (difference, groups), test in zip(pairs, differences, tests, strict=True)
    ]


def _checkpoint(
    a: Column, b: Column, difference: Floats, interval: results.Estimate, test: results.Test | None
) -> CheckpointPair:
    return CheckpointPair(
        run_id=a.run_id,
        against_run_id=b.run_id,
        seed=a.seed,
        n=difference.size,
        difference=Estimate.from_result(interval),
        test=None if test is None else Test.from_result(test),
        wins=int((difference > 0).sum()),
        ties=int((difference == 0).sum()),
        losses=int((difference < 0).sum()),
        minimum_detectable_effect=None if interval.stderr is None else minimum_detectable_effect(interval.stderr),
    )


def column_pairs(
    arm: Arm, other: Arm | None, reference: Scores | None, benchmark: str, metric: str
) -> tuple[list[tuple[Column, Column]], list[int]]:
    """One arm's policies, each with the other arm's of the same seed, or with the reference where `other` is None.

    The second list holds the seeds that only one side was scored at.
    """
    mine = columns_of(arm.runs, benchmark, metric)
    if other is not None:
        theirs = {c.seed: c for c in columns_of(other.runs, benchmark, metric)}
    else:
        fixed = None if reference is None else column(reference, metric, None)
        theirs = {c.seed: fixed for c in mine if fixed is not None and fixed.values}
    alone = {c.seed for c in mine} ^ theirs.keys()
    return [(c, theirs[c.seed]) for c in mine if c.seed in theirs], sorted(s for s in alone if s is not None)


def method_comparison(
    arm: Arm,
    other: Arm | None,
    reference: Scores | None,
    benchmark: str,
    metric: str,
    lend: Lend | None = None,
    settings: Sequence[Arm] = (),
    higher_is_better: bool = True,
) -> Paired:
    """One arm against another arm (paired by seed) or, when `other` is None, against the reference policy.

    The difference is arm - other. Seeds that only one side finished are listed and take no part. `difference` and
    `crossed_test` take seeds and prompts as samples; `permutation` holds the prompts fixed; the hierarchical bootstrap
    resamples both and is too narrow with few seeds. `checkpoints` holds the prompt-level comparison of each seed. `lend` says
    what other arms know of the spread over seeds; `settings` are further ones of the other side, from which `other` was picked
    as the best: interval and test pay for that choice.
    """
    pairs, unpaired = column_pairs(arm, other, reference, benchmark, metric)
    checkpoints = checkpoint_comparisons(pairs)
    usable = [p for p, c in zip(pairs, checkpoints, strict=True) if c.n]
    ids, grid = paired_grid(usable)
    sign = 1.0 if higher_is_better else -1.0
    lent = None if other is None else _lent(lend, arm, other, usable, ids, grid)
    rivals = []
    for one in settings:
        against = column_pairs(arm, one, reference, benchmark, metric)[0]
        items, cells = paired_grid(against)
        rivals.append(crossed_mean(sign * cells, _lent(lend, arm, one, against, items, cells)))
    found = tested(grid, len(ids), lent, rivals, sign)
    per_seed = np.array(found.seed_differences)
    permutation = seed_permutation(per_seed) if per_seed.size <= EXACT_SEEDS else sign_flip(per_seed)
    bootstrap = hierarchical_difference(grid, np.zeros_like(grid), replicates=BOOTSTRAP_DRAWS)
    trimmed, trimmed_p = trimmed_test(per_seed)
    return Paired(
        **dict(found),
        label=arm.label,
        against=other.label if other is not None else REFERENCE_ID,
        seeds=[a.seed for a, _ in usable],
        unpaired_seeds=unpaired,
        checkpoints=checkpoints,
        hierarchical=Estimate.from_result(bootstrap),
        permutation=Test.from_result(permutation),
        trimmed=Estimate.from_result(trimmed),
        trimmed_test=Test.from_result(trimmed_p),
        rank_test=Test.from_result(rank_test(per_seed)),
        studentised=Test.from_result(studentised_sign_flip(grid)),
    )


def _lent(
    lend: Lend | None, arm: Arm, other: Arm, pairs: Sequence[tuple[Column, Column]], ids: Sequence[str], grid: Floats
) -> Prior | None:
    return None if lend is None else lend(arm.label, other.label, [a.seed for a, _ in pairs], ids, grid.shape[1])


#: Differences of two arms on a metric at a matched KL or over a window of it, shape (seeds, 1) or (seeds, prompts), or a
#: sentence saying why not.
MatchedKL = Callable[..., "Floats | str"]
