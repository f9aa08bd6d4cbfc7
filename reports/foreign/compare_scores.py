"""Two models compared on the same items, from tables of scores of any origin (reports.foreign.score_tables)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reports.foreign.score_tables import ScoreColumn, read_scores
from reports.runs.records import ReportError
from reports.schema.base import Estimate, Test
from reports.schema.score_tables import ScoreComparison, ScoreTables
from reports.statistics import results
from reports.statistics.intervals import difference_interval, welch
from reports.statistics.paired import mcnemar, sign_flip
from trainers.common.words import nearest


def score_tables(
    paths: Sequence[Path],
    item: str | None = None,
    score: str | None = None,
    group: str | None = None,
    baseline: str | None = None,
) -> ScoreTables:
    """Every model against the baseline (the second model, where none is named) on every metric that both have.

    Raises:
        ReportError: a file that cannot be read, fewer than two models, or two models without a common metric or item.
    """
    columns = read_scores(paths, item, score, group)
    models = list(dict.fromkeys(column.model for column in columns))
    if len(models) < 2:
        raise ReportError(f"{paths[0]}: one model, {models[0]}; give a second file, or a table of several models")
    against = baseline or models[1]
    if against not in models:
        raise ReportError(f"--baseline {against}: no such model; {nearest(against, models, ', '.join(models[:12]))}")
    found = []
    for model in (one for one in models if one != against):
        pairs = [
            (a, b) for a in columns for b in columns if a.model == model and b.model == against and a.metric == b.metric
        ]
        if not pairs:
            has = [", ".join(c.metric for c in columns if c.model == name) for name in (model, against)]
            raise ReportError(f"{model} and {against} share no metric: {has[0]} and {has[1]}; name one with --score")
        found += [compare_columns(a, b) for a, b in pairs]
    return ScoreTables(schema_version=1, files=[str(path) for path in paths], comparisons=found)


def compare_columns(a: ScoreColumn, b: ScoreColumn) -> ScoreComparison:
    """`a` minus `b`, paired by item where both have items. ReportError where they share none, or an id means two items."""
    shared = [key for key in a.values if key in b.values]
    said = {"metric": a.metric, "first": a.model, "second": b.model}
    if not a.values or not b.values:
        return _unpaired(a, b, said)
    if not shared:
        one, two = next(iter(a.values)), next(iter(b.values))
        raise ReportError(
            f"{a.path} and {b.path}: {a.model} and {b.model} share no item (the first are {one!r} and {two!r}); "
            "name the column of items with --id"
        )
    other = next((key for key in shared if a.contents.get(key) != b.contents.get(key) and key in a.contents), None)
    if other is not None and other in b.contents:
        raise ReportError(
            f"{b.path}: item {other} is another document than in {a.path}; evaluate both on the same version"
        )
    x, y = (np.array([column.values[key] for key in shared]) for column in (a, b))
    groups = [a.groups.get(key) or b.groups.get(key) or key for key in shared] if a.groups or b.groups else None
    return ScoreComparison(
        **said,
        first_mean=float(x.mean()),
        second_mean=float(y.mean()),
        difference=Estimate.from_result(difference_interval(x - y, groups)),
        test=Test.from_result(_test(x, y, groups)),
        wins=int((x > y).sum()),
        losses=int((x < y).sum()),
        ties=int((x == y).sum()),
        clusters=None if groups is None else len(set(groups)),
        only_first=len(a.values) - len(shared),
        only_second=len(b.values) - len(shared),
    )


def _test(x: np.ndarray, y: np.ndarray, groups: Sequence[str] | None) -> results.Test:
    if groups is not None and len(set(groups)) < len(groups):
        _, index = np.unique(np.asarray(groups), return_inverse=True)
        return sign_flip(np.bincount(index, weights=x - y))
    binary = np.isin(np.concatenate([x, y]), (0, 1)).all()
    return mcnemar(x, y) if binary else sign_flip(x - y)


def _unpaired(a: ScoreColumn, b: ScoreColumn, said: dict[str, str]) -> ScoreComparison:
    """From the means that the files state."""
    means, nothing = (a.mean, b.mean), "a file has means alone: the items cannot be paired"
    known = means[0] is not None and means[1] is not None
    found = (
        welch((means[0] or 0.0, means[1] or 0.0), (a.stderr, b.stderr), (a.n, b.n))
        if known
        else results.undefined("Welch interval, unpaired", 0, "a file states no mean")
    )
    return ScoreComparison(
        **said, first_mean=means[0], second_mean=means[1], difference=Estimate.from_result(found),
        test=Test.from_result(results.Test(None, "none", found.n, note=nothing)), wins=0, losses=0, ties=0, clusters=None,
        only_first=len(a.values), only_second=len(b.values),
    )  # fmt: skip
