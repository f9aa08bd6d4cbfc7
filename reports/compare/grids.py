"""Scores of whole arms as tables, so that every comparison of a matrix is a few array operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.compare.comparison import Floats, Lend, columns_of
from reports.runs.arms import Arm
from reports.statistics.crossed import Prior
from reports.statistics.moderated import prior


@dataclass(frozen=True, slots=True)
class ScoreGrid:
    """One arm on one metric: `values`, a line a seed and a column an item that every policy answered; the items' groups."""

    values: pd.DataFrame
    groups: Mapping[str, str]

    @property
    def means(self) -> pd.Series:
        """Mean score of every seed."""
        return self.values.mean(axis=1)


def arm_grids(all_arms: Sequence[Arm], benchmark: str, metric: str) -> dict[str, ScoreGrid]:
    """The grids of the arms that were scored, by label, in the arms' order."""
    found = {}
    for arm in all_arms:
        columns = columns_of(arm.runs, benchmark, metric)
        values = pd.DataFrame([c.values for c in columns], [c.seed for c in columns], dtype=float).dropna(axis=1)
        if values.size:
            found[arm.label] = ScoreGrid(values, columns[0].groups)
    return found


def aligned(grids: Sequence[ScoreGrid]) -> tuple[list[int | None], list[str], Floats]:
    """Seeds and item ids that all grids share, and their values, shape (grids, seeds, items)."""
    tables = [grid.values for grid in grids]
    seeds = [s for s in tables[0].index if all(s in table.index for table in tables)]
    ids = [i for i in tables[0].columns if all(i in table.columns for table in tables)]
    return seeds, ids, np.stack([table.loc[seeds, ids].to_numpy() for table in tables])


def lender(grids: Mapping[str, ScoreGrid]) -> Lend:
    """What the other arms say of a comparison's spread over seeds (statistics.moderated), from the grids of all arms.

    An arm that lacks a seed or an item of the comparison lends nothing; fewer than three arms lend nothing at all.
    """
    items = {label: frozenset(grid.values.columns) for label, grid in grids.items()}
    means = {label: grid.means for label, grid in grids.items()}

    def lent(first: str, second: str, seeds: Sequence[int | None], ids: Sequence[str], columns: int) -> Prior | None:
        wanted = frozenset(ids)
        there = [one for one in grids if set(seeds) <= set(means[one].index) and wanted <= items[one]]
        if not wanted or first not in there or second not in there:
            return None
        levels = [means[one] if wanted == items[one] else grids[one].values[list(ids)].mean(axis=1) for one in there]
        table = [own.reindex(list(seeds)) for own in levels]
        return prior(table, there.index(first), there.index(second), columns)

    return lent
