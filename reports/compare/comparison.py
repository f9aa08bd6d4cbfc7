"""Differences between methods: tests, intervals and estimates by policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.runs.arms import Arm
from reports.runs.records import REFERENCE_ID, RunData, Scores
from reports.statistics.crossed import NAME as CROSSED
from reports.statistics.crossed import CrossedMean, crossed_mean, hierarchical_difference
from reports.statistics.design import components, minimum_detectable_effect
from reports.statistics.intervals import mean_interval, paired_bootstrap, wilson
from reports.statistics.paired import (
    EXACT_SEEDS,
    mcnemar,
    seed_interval,
    seed_permutation,
    seed_t_test,
    sign_flip,
    sign_flips,
)
from reports.statistics.results import Estimate, Test

# Policies compared on one metric: paired by prompt and seed, with both of them as samples.
#
# Two questions are kept apart. A checkpoint comparison asks whether two trained policies differ on such prompts. A
# method comparison asks whether other seeds and other prompts would show it too: prompts are crossed with seeds, since
# every seed meets the same ones, and averaging over seeds never removes what a prompt has for one method.


Floats = NDArray[np.float64]
BOOTSTRAP_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Column:
    """One policy's scores on one metric, by item id."""

    run_id: str
    seed: int | None
    values: Mapping[str, float]
    groups: Mapping[str, str]


def column(scores: Scores, metric: str, seed: int | None) -> Column:
    """The finite item values of one metric; an item without a group is a group of its own."""
    values = {i.id: v for i in scores.items if (v := i.values.get(metric)) is not None}
    groups = {i.id: i.group if i.group is not None else i.id for i in scores.items}
    return Column(scores.policy, seed, values, groups)


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


def _align(columns: Sequence[Column]) -> tuple[list[str], Floats]:
    """Item ids shared by all columns, and their values, shape (columns, items)."""
    ids = [i for i in columns[0].values if all(i in c.values for c in columns[1:])]
    return ids, np.array([[c.values[i] for i in ids] for c in columns], dtype=float).reshape(len(columns), len(ids))


def by_group(values: Floats, groups: Sequence[str]) -> Floats:
    """One column per group of items, from values of shape (..., items); the mean over columns is that over items."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if names.size == len(groups):
        return values
    sums = np.apply_along_axis(lambda row: np.bincount(index, weights=row), -1, values)
    scaled: Floats = sums * names.size / len(groups)
    return scaled


def paired_grid(pairs: Sequence[tuple[Column, Column]]) -> tuple[list[str], Floats]:
    """Items that every policy answered, and the differences first - second, shape (pairs, groups of items)."""
    if not pairs:
        return [], np.empty((0, 0))
    ids, stacked = _align([c for pair in pairs for c in pair])
    if not ids:
        return [], np.empty((len(pairs), 0))
    difference = stacked[0::2] - stacked[1::2]
    return ids, by_group(difference, [pairs[0][0].groups[i] for i in ids])


def interval_of(mean: CrossedMean, differences: Floats) -> Estimate:
    """The crossed interval; of one seed, the interval over its prompts, which says nothing of another seed."""
    if mean.seeds == 1 and differences.size > 1 and np.ptp(differences) > 0:
        only = mean_interval(differences[0])
        note = "one seed: over its prompts only, it says nothing of another seed"
        return Estimate(only.estimate, only.low, only.high, only.method, only.n, 1, only.stderr, note=note)
    return mean.interval()


def crossed_test(mean: CrossedMean) -> Test:
    """Two-sided test that the mean difference is zero over seeds and prompts."""
    above, below = mean.p_above(), mean.p_below()
    if above is not None and below is not None:
        return Test(min(1.0, 2 * min(above, below)), CROSSED, mean.prompts, mean.seeds, note=mean.note)
    same = mean.estimate == 0 and mean.seeds > 1
    return Test(1.0 if same else None, CROSSED, mean.prompts, mean.seeds, note=mean.note)


def _spread(mean: CrossedMean) -> dict[str, Any]:
    """Standard deviations of a paired difference between seeds, between prompts and per cell, as estimated."""
    if mean.squares is None:
        why = mean.note or "one prompt has no spread over prompts"
        return {"seed": None, "prompt": None, "residual": None, "reason": why}
    if mean.stderr is None:
        return {"seed": 0.0, "prompt": 0.0, "residual": 0.0, "reason": None}
    spread, _ = components([mean.squares])
    return {"seed": spread.seed, "prompt": spread.prompt, "residual": spread.residual, "reason": None}


def tested(differences: Floats) -> dict[str, Any]:
    """What a verdict rests on, from paired differences of shape (seeds, groups of items), JSON-ready."""
    mean = crossed_mean(differences)
    detectable = None
    if mean.stderr is not None and mean.degrees is not None and mean.degrees >= 1:
        detectable = minimum_detectable_effect(mean.stderr, mean.degrees)
    return {
        "seed_differences": [float(d) for d in differences.mean(axis=1)] if differences.size else [],
        "difference": interval_of(mean, differences).as_dict(),
        "degrees_of_freedom": mean.degrees,
        "spread": _spread(mean),
        "crossed_test": crossed_test(mean).as_dict(),
        "minimum_detectable_effect": {
            "value": detectable,
            "reason": None
            if detectable is not None
            else mean.note or "the differences vary too little for an estimate",
        },
    }


def inference(differences: Floats) -> dict[str, Any]:
    """Method-level inference from paired differences of shape (seeds, groups of items), JSON-ready.

    `difference` and `crossed_test` take seeds and prompts as samples; `t_test` and `permutation` hold the prompts fixed
    and are shown beside them; the hierarchical bootstrap resamples both and is too narrow with few seeds.
    """
    found = tested(differences)
    per_seed = np.array(found["seed_differences"])
    permutation = seed_permutation(per_seed) if per_seed.size <= EXACT_SEEDS else sign_flip(per_seed)
    zeros = np.zeros_like(differences)
    return found | {
        "hierarchical": hierarchical_difference(differences, zeros, replicates=BOOTSTRAP_DRAWS).as_dict(),
        "t_test": seed_t_test(per_seed).as_dict(),
        "permutation": permutation.as_dict(),
    }


def _binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def policy_estimate(col: Column) -> Estimate:
    """One policy's mean over items: Wilson for 0/1 scores of independent items, else a (clustered) t interval."""
    values = np.array(list(col.values.values()), dtype=float)
    groups = [col.groups[i] for i in col.values]
    if _binary(values) and len(set(groups)) == len(groups):
        return wilson(int(values.sum()), values.size)
    return mean_interval(values, groups)


def arm_summary(arm: Arm, benchmark: str, metric: str) -> dict[str, Any]:
    """Mean over seeds of one arm with the interval over seeds, and every policy's own mean with its interval."""
    columns = columns_of(arm.runs, benchmark, metric)
    policies = [(c, policy_estimate(c)) for c in columns]
    items = min((len(c.values) for c in columns), default=0)
    means = [e.estimate for _, e in policies if e.estimate is not None]
    share = bool(columns) and all(_binary(np.array(list(c.values.values()))) for c in columns)
    share = share or any(r.scores[benchmark].kind == "constraints" for r in arm.runs if benchmark in r.scores)
    return {
        "label": arm.label,
        "method": arm.method,
        "rule": arm.rule,
        "mean": seed_interval(means, items, bounds=(0.0, 1.0) if share else None).as_dict(),
        "policies": [{"run_id": c.run_id, "seed": c.seed, **e.as_dict()} for c, e in policies],
        "absent": [
            {"run_id": r.run_id, "seed": r.seed, "state": r.state}
            for r in arm.runs
            if r.run_id not in {c.run_id for c in columns}
        ],
    }


def checkpoint_comparison(a: Column, b: Column) -> dict[str, Any]:
    """Two policies on the prompts both answered: difference a - b, its intervals, a test, wins, ties and losses."""
    return checkpoint_comparisons([(a, b)])[0]


def checkpoint_comparisons(pairs: Sequence[tuple[Column, Column]]) -> list[dict[str, Any]]:
    """`checkpoint_comparison` of each pair; their sign-flip tests are made together."""
    rows: list[dict[str, Any]] = []
    tests: list[Test | None] = []
    flips: list[tuple[int, Floats]] = []
    for a, b in pairs:
        ids, values = _align([a, b])
        difference = values[0] - values[1]
        groups = [a.groups[i] for i in ids]
        whole = len(set(groups)) == len(groups)
        tests.append(mcnemar(*values) if ids and whole and _binary(values) else None)
        if ids and tests[-1] is None:
            if not whole:  # items of one group are not exchangeable one by one: flip whole groups
                _, index = np.unique(np.asarray(groups), return_inverse=True)
                difference_of_groups: Floats = np.bincount(index, weights=difference).astype(float)
            flips.append((len(rows), difference if whole else difference_of_groups))
        interval = mean_interval(difference, groups)
        detectable = None if interval.stderr is None else minimum_detectable_effect(interval.stderr)
        rows.append(
            {
                "run_id": a.run_id,
                "against_run_id": b.run_id,
                "seed": a.seed,
                "n": len(ids),
                "difference": interval.as_dict(),
                "bootstrap": paired_bootstrap(difference, replicates=BOOTSTRAP_DRAWS).as_dict(),
                "test": None,
                "wins": int((difference > 0).sum()),
                "ties": int((difference == 0).sum()),
                "losses": int((difference < 0).sum()),
                "minimum_detectable_effect": detectable,
            }
        )
    for (place, _), test in zip(flips, sign_flips([d for _, d in flips]), strict=True):
        tests[place] = test
    return [row | {"test": None if test is None else test.as_dict()} for row, test in zip(rows, tests, strict=True)]


def method_comparison(
    arm: Arm, other: Arm | None, reference: Scores | None, benchmark: str, metric: str
) -> dict[str, Any]:
    """One arm against another arm (paired by seed) or, when `other` is None, against the reference policy.

    The difference is arm - other. Seeds that only one side finished are listed and take no part. The method-level
    interval and test have seeds and prompts as samples; `checkpoints` holds the prompt-level comparison of each seed.
    """
    mine = columns_of(arm.runs, benchmark, metric)
    if other is not None:
        theirs = {c.seed: c for c in columns_of(other.runs, benchmark, metric)}
    else:
        fixed = column(reference, metric, None) if reference is not None else None
        theirs = {c.seed: fixed for c in mine if fixed is not None and fixed.values}
    pairs = [(c, theirs[c.seed]) for c in mine if c.seed in theirs]
    checkpoints = checkpoint_comparisons(pairs)
    usable = [p for p, c in zip(pairs, checkpoints, strict=True) if c["n"]]
    result: dict[str, Any] = {
        "label": arm.label,
        "against": other.label if other is not None else REFERENCE_ID,
        "seeds": [a.seed for a, _ in usable],
        "unpaired_seeds": sorted(({c.seed for c in mine} ^ set(theirs)) - {None}, key=lambda s: -1 if s is None else s),
        "checkpoints": checkpoints,
    }
    ids, grid = paired_grid(usable)
    return result | {"n": len(ids)} | inference(grid)


#: Rules whose runs repeat, or mirror, the betas of a parent method.
CONTROL_RULES = ("matched_mean", "permuted", "inverse", "weight_only", "saturation_only")


#: Differences of two arms at a matched KL, shape (seeds, 1) or (seeds, prompts), or a sentence saying why not.
MatchedKL = Callable[[Arm, Arm, str], "Floats | str"]
