"""Scores of whole arms as arrays, so that every comparison of a matrix is a few array operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.compare.comparison import Column, Floats, Lend, align, columns_of
from reports.runs.arms import Arm
from reports.statistics.crossed import Prior
from reports.statistics.intervals import group_columns
from reports.statistics.moderated import prior


@dataclass(frozen=True, slots=True)
class ScoreGrid:
    """One arm on one metric: `values` (seeds, items), the seeds and item ids along it, and the group of each item."""

    label: str
    seeds: tuple[int | None, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: Floats


def grid_of(label: str, columns: Sequence[Column]) -> ScoreGrid | None:
    """The items that every policy of the arm answered; None where there are none."""
    ids, values = align([c.values for c in columns]) if columns else ([], np.empty(0))
    if not ids:
        return None
    groups = columns[0].groups
    return ScoreGrid(label, tuple(c.seed for c in columns), tuple(ids), tuple(groups[i] for i in ids), values)


def arm_grids(all_arms: Sequence[Arm], benchmark: str, metric: str) -> dict[str, ScoreGrid]:
    """The grids of the arms that were scored, by label, in the arms' order."""
    found = ((a.label, grid_of(a.label, columns_of(a.runs, benchmark, metric))) for a in all_arms)
    return {label: grid for label, grid in found if grid is not None}


def aligned(grids: Sequence[ScoreGrid]) -> tuple[tuple[int | None, ...], tuple[str, ...], Floats]:
    """Seeds and item ids that all grids share, and their values, shape (grids, seeds, items)."""
    seeds = tuple(s for s in grids[0].seeds if all(s in g.seeds for g in grids[1:]))
    if all(g.ids == grids[0].ids for g in grids[1:]):
        ids = grids[0].ids
    else:
        shared = set(grids[0].ids).intersection(*(g.ids for g in grids[1:]))
        ids = tuple(i for i in grids[0].ids if i in shared)
    out = np.empty((len(grids), len(seeds), len(ids)))
    for row, g in enumerate(grids):
        at = {name: i for i, name in enumerate(g.ids)}
        items = [at[i] for i in ids]
        out[row] = g.values[[g.seeds.index(s) for s in seeds]][:, items]
    return seeds, ids, out


def lender(grids: Mapping[str, ScoreGrid]) -> Lend:
    """What the other arms say of a comparison's spread over seeds (statistics.moderated), from the grids of all arms.

    An arm that lacks a seed or an item of the comparison lends nothing; fewer than three arms lend nothing at all.
    """
    items = {label: frozenset(g.ids) for label, g in grids.items()}
    means = {label: dict(zip(g.seeds, g.values.mean(axis=1).tolist(), strict=True)) for label, g in grids.items()}

    def levels(grid: ScoreGrid, seeds: Sequence[int | None], wanted: frozenset[str]) -> list[float]:
        """Mean score of every seed over the items wanted."""
        own = means[grid.label]
        if len(wanted) < len(grid.ids):
            kept = grid.values[:, [i in wanted for i in grid.ids]].mean(axis=1)
            own = dict(zip(grid.seeds, kept.tolist(), strict=True))
        return [own[s] for s in seeds]

    def lent(first: str, second: str, seeds: Sequence[int | None], ids: Sequence[str], columns: int) -> Prior | None:
        wanted = frozenset(ids)
        there = [g for g in grids.values() if set(seeds) <= set(g.seeds) and wanted <= items[g.label]]
        labels = [g.label for g in there]
        if not wanted or first not in labels or second not in labels:
            return None
        table = [levels(g, seeds, wanted) for g in there]
        return prior(table, labels.index(first), labels.index(second), columns)

    return lent


def grouped(grid: ScoreGrid, ids: Sequence[str], values: Floats) -> Floats:
    """Values of shape (..., items) with one column per group of items."""
    at = dict(zip(grid.ids, grid.groups, strict=True))
    return group_columns(values, [at[i] for i in ids])
