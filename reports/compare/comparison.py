"""Differences between methods: tests, intervals and estimates by policy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.runs import REFERENCE_ID, Arm, RunData, Scores, finite
from reports.schema import AbsentRun, ArmScore, CheckpointPair, Estimate, Inferred, Paired, PolicyScore, Test, Value
from reports.statistics.best_settings import best_mean
from reports.statistics.crossed import (
    NAME,
    CrossedMean,
    Prior,
    crossed_mean,
    hierarchical_difference,
    interval_of,
    studentised_sign_flip,
)
from reports.statistics.design import minimum_detectable_effect
from reports.statistics.intervals import group_columns, mean_interval, outcome, turned, wilson
from reports.statistics.paired import mcnemar, rank_test, seed_interval, seed_permutation, sign_flips, trimmed_test

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
    table = pd.DataFrame(rows).dropna(axis=1)
    return list(table.columns), table.to_numpy(dtype=float)


def paired_grid(pairs: Sequence[tuple[Column, Column]]) -> tuple[list[str], Floats]:
    """Items that every policy answered, and the differences first - second, shape (pairs, groups of items)."""
    ids, stacked = align([c.values for pair in pairs for c in pair])
    return ids, group_columns(stacked[0::2] - stacked[1::2], [pairs[0][0].groups[i] for i in ids])


def crossed_test(mean: CrossedMean) -> Test:
    """Two-sided test that the mean difference is zero over seeds and prompts."""
    p = float(np.minimum(1.0, 2 * np.minimum(mean.p_above(), mean.p_below())))
    if np.isnan(mean.p_above()):
        p = 1.0 if mean.value == 0 and mean.seeds > 1 else np.nan
    return outcome(p, NAME, mean.prompts, mean.seeds, note=mean.note)


def detectable(mean: CrossedMean) -> Value:
    """The smallest true difference that this design finds with chance .80; takes one degree of freedom."""
    if mean.degrees >= 1:
        return Value(value=minimum_detectable_effect(mean.stderr, mean.degrees), reason=None)
    return Value(value=None, reason=mean.note or "the differences vary too little for an estimate")


def tested(
    differences: Floats, n: int, lent: Prior | None = None, others: Sequence[CrossedMean] = (), sign: float = 1.0
) -> Inferred:
    """What a verdict rests on, from paired differences of shape (seeds, groups of items) over `n` items.

    `lent`: what other arms say of the spread over seeds. `others`: the means of `sign` times the differences from further
    settings that the second side was picked from, larger being better; interval and test then pay for the choice.
    """
    mean = crossed_mean(differences, lent)
    interval, test = interval_of(mean, differences), crossed_test(mean)
    if others and mean.seeds > 1:
        picked = replace(mean, value=sign * mean.value)
        best = best_mean([[picked, *others]], picked.value)
        interval, test = best.interval() if sign > 0 else turned(best.interval()), crossed_test(best)
    return Inferred(
        n=n,
        seed_differences=[float(d) for d in differences.mean(axis=1)] if differences.size else [],
        difference=interval,
        degrees_of_freedom=finite(mean.degrees),
        borrowed=mean.borrowed,
        alone=None if mean.alone is None else mean.alone.interval(),
        crossed_test=test,
        minimum_detectable_effect=detectable(mean),
    )


def _binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def policy_estimate(col: Column) -> Estimate:
    """One policy's mean over items: Wilson for 0/1 scores of independent items, else a (clustered) t interval."""
    values = np.array(list(col.values.values()), dtype=float)
    groups = [col.groups[i] for i in col.values]
    if _binary(values) and len(set(groups)) == len(groups):
        return wilson(int(values.sum()), values.size)
    return mean_interval(values, groups)


def arm_summary(arm: Arm, benchmark: str, metric: str) -> ArmScore:
    """Mean over seeds of one arm with the interval over seeds, and every policy's own mean with its interval."""
    columns = columns_of(arm.runs, benchmark, metric)
    found = [policy_estimate(c) for c in columns]
    items = min((len(c.values) for c in columns), default=0)
    share = bool(columns) and all(_binary(np.array(list(c.values.values()))) for c in columns)
    share = share or any(r.scores[benchmark].kind == "constraints" for r in arm.runs if benchmark in r.scores)
    scored = {c.run_id for c in columns}
    return ArmScore(
        label=arm.label,
        method=arm.method,
        rule=arm.rule,
        mean=seed_interval([e.value for e in found if e.value is not None], items, bounds=(0.0, 1.0) if share else None),
        policies=[PolicyScore(run_id=c.run_id, seed=c.seed, **dict(e)) for c, e in zip(columns, found, strict=True)],
        absent=[
            AbsentRun(run_id=r.run_id, seed=r.seed, state=r.state) for r in arm.runs if r.run_id not in scored
        ],
    )  # fmt: skip


def checkpoint_comparisons(pairs: Sequence[tuple[Column, Column]]) -> list[CheckpointPair]:
    """Each pair of policies on the prompts both answered: difference first - second, intervals, a test, wins and losses.

    The test is McNemar's for 0/1 scores of independent items, else a sign flip of items or of whole groups, which are not
    exchangeable one by one; the flips of all pairs are drawn together.
    """
    found: list[CheckpointPair] = []
    flips: dict[int, NDArray[Any]] = {}
    for place, (a, b) in enumerate(pairs):
        ids, values = align([a.values, b.values])
        groups, difference = [a.groups[i] for i in ids], values[0] - values[1]
        interval, test = mean_interval(difference, groups), None
        if ids and len(set(groups)) == len(groups) and _binary(values):
            test = mcnemar(*values)
        elif ids:
            flips[place] = np.bincount(np.unique(groups, return_inverse=True)[1], weights=difference)
        found.append(
            CheckpointPair(
                run_id=a.run_id,
                against_run_id=b.run_id,
                seed=a.seed,
                n=difference.size,
                difference=interval,
                test=test,
                wins=int((difference > 0).sum()),
                ties=int((difference == 0).sum()),
                losses=int((difference < 0).sum()),
                minimum_detectable_effect=None
                if interval.stderr is None
                else minimum_detectable_effect(interval.stderr),
            )
        )
    for place, test in zip(flips, sign_flips(list(flips.values())), strict=True):
        found[place] = found[place].model_copy(update={"test": test})
    return found


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

    def grid_against(one: Arm | None) -> tuple[list[tuple[Column, Column]], list[str], Floats, Prior | None]:
        """Pairs of policies with shared prompts, these prompts, their differences, and what other arms lend."""
        paired = column_pairs(arm, one, reference, benchmark, metric)[0]
        paired = [(a, b) for a, b in paired if a.values.keys() & b.values.keys()]
        ids, cells = paired_grid(paired)
        lent = None
        if one is not None and lend is not None:
            lent = lend(arm.label, one.label, [a.seed for a, _ in paired], ids, cells.shape[1])
        return paired, ids, cells, lent

    pairs, ids, grid, lent = grid_against(other)
    sign = 1.0 if higher_is_better else -1.0
    rivals = [crossed_mean(sign * cells, more) for *_, cells, more in map(grid_against, settings)]
    found = tested(grid, len(ids), lent, rivals, sign)
    per_seed = np.array(found.seed_differences)
    trimmed, trimmed_p = trimmed_test(per_seed)
    every, unpaired = column_pairs(arm, other, reference, benchmark, metric)
    return Paired(
        **dict(found),
        label=arm.label,
        against=other.label if other is not None else REFERENCE_ID,
        seeds=[a.seed for a, _ in pairs],
        unpaired_seeds=unpaired,
        checkpoints=checkpoint_comparisons(every),
        hierarchical=hierarchical_difference(grid, np.zeros_like(grid), replicates=BOOTSTRAP_DRAWS),
        permutation=seed_permutation(per_seed),
        trimmed=trimmed,
        trimmed_test=trimmed_p,
        rank_test=rank_test(per_seed),
        studentised=studentised_sign_flip(grid),
    )


#: Differences of two arms on a metric at a matched KL or over a window of it, shape (seeds, 1) or (seeds, prompts), or a
#: sentence saying why not.
MatchedKL = Callable[..., "Floats | str"]
