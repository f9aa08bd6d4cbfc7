"""Policies compared on one metric: prompts paired within a seed first, then seeds as the unit.

Two questions are kept apart. A checkpoint comparison asks whether two trained policies differ on such prompts. A
method comparison asks whether another seed would show it too, and only seeds can answer that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .labels import Arm
from .records import REFERENCE_ID, RunData, Scores
from .statistics.bootstrap import paired_bootstrap
from .statistics.hierarchical import hierarchical_difference
from .statistics.paired import mcnemar, sign_flip
from .statistics.power import minimum_detectable_effect
from .statistics.proportions import wilson
from .statistics.results import Estimate
from .statistics.seeds import EXACT_SEEDS, seed_interval, seed_permutation, seed_t_test
from .statistics.standard_errors import mean_interval

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
    ids, values = _align([a, b])
    difference = values[0] - values[1]
    groups = [a.groups[i] for i in ids]
    interval = mean_interval(difference, groups)
    test = None
    if ids:
        if len(set(groups)) == len(groups):
            test = mcnemar(*values) if _binary(values) else sign_flip(difference)
        else:  # items of one group are not exchangeable one by one: flip whole groups
            _, index = np.unique(np.asarray(groups), return_inverse=True)
            test = sign_flip(np.bincount(index, weights=difference))
    return {
        "run_id": a.run_id,
        "against_run_id": b.run_id,
        "seed": a.seed,
        "n": len(ids),
        "difference": interval.as_dict(),
        "bootstrap": paired_bootstrap(difference, replicates=BOOTSTRAP_DRAWS).as_dict(),
        "test": None if test is None else test.as_dict(),
        "wins": int((difference > 0).sum()),
        "ties": int((difference == 0).sum()),
        "losses": int((difference < 0).sum()),
        "minimum_detectable_effect": None if interval.stderr is None else minimum_detectable_effect(interval.stderr),
    }


def method_comparison(
    arm: Arm, other: Arm | None, reference: Scores | None, benchmark: str, metric: str
) -> dict[str, Any]:
    """One arm against another arm (paired by seed) or, when `other` is None, against the reference policy.

    The difference is arm - other. Seeds that only one side finished are listed and take no part. The method-level
    interval and tests have the seed as unit; `checkpoints` holds the prompt-level comparison of each seed.
    """
    mine = columns_of(arm.runs, benchmark, metric)
    if other is not None:
        theirs = {c.seed: c for c in columns_of(other.runs, benchmark, metric)}
    else:
        fixed = column(reference, metric, None) if reference is not None else None
        theirs = {c.seed: fixed for c in mine if fixed is not None and fixed.values}
    pairs = [(c, theirs[c.seed]) for c in mine if c.seed in theirs]
    checkpoints = [checkpoint_comparison(a, b) for a, b in pairs]
    usable = [p for p, c in zip(pairs, checkpoints, strict=True) if c["n"]]
    result: dict[str, Any] = {
        "label": arm.label,
        "against": other.label if other is not None else REFERENCE_ID,
        "seeds": [a.seed for a, _ in usable],
        "unpaired_seeds": sorted(({c.seed for c in mine} ^ set(theirs)) - {None}, key=lambda s: -1 if s is None else s),
        "checkpoints": checkpoints,
    }
    differences: Floats = np.empty(0)
    ids: list[str] = []
    hierarchical = hierarchical_difference(np.empty((0, 0)), np.empty((0, 0)))
    if usable:
        ids, stacked = _align([c for pair in usable for c in pair])
        grid = stacked.reshape(len(usable), 2, len(ids))
        if ids:
            differences = (grid[:, 0] - grid[:, 1]).mean(axis=1)
            hierarchical = hierarchical_difference(grid[:, 0], grid[:, 1], replicates=BOOTSTRAP_DRAWS)
    interval = seed_interval(differences, len(ids))
    if differences.size <= EXACT_SEEDS:
        permutation = seed_permutation(differences)
    else:
        permutation = sign_flip(differences)
    result |= {
        "n": len(ids),
        "seed_differences": [float(d) for d in differences],
        "difference": interval.as_dict(),
        "hierarchical": hierarchical.as_dict(),
        "t_test": seed_t_test(differences).as_dict(),
        "permutation": permutation.as_dict(),
        "minimum_detectable_effect": {
            "value": None if interval.stderr is None else minimum_detectable_effect(interval.stderr, len(usable) - 1),
            "reason": "fewer than two paired seeds" if interval.stderr is None else None,
        },
    }
    return result
