"""A panel of the report: one figure, the rows it is drawn from, and what to say of it. The gallery draws all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reports.panels.style import Look
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Where the page shows a panel.
Section = Literal["comparison", "frontier", "curves", "beta", "tuning", "strata", "judges"]


@dataclass(frozen=True)
class Panel:
    """One figure of the report.

    `rows` turns a matrix and its summary into a table (columns of `columns`); an empty table means that there is nothing to
    draw, which the report says with `absent`. `draw` makes the figure from those rows alone, so the CSV beside the figure
    is the whole truth. `section` is where the page shows it; a `headline` that can be drawn stands beside the verdict instead.
    """

    name: str
    title: str
    section: Section
    columns: Sequence[str]
    rows: Callable[[MatrixData, Summary], list[Row]]
    draw: Callable[[Sequence[Mapping[str, Any]], Mapping[str, Look]], Figure]
    caption: str
    absent: str
    embed: Literal["png", "svg"] = "svg"
    headline: bool = False


PER_LINE = 3


def facets(count: int, height: float, width: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of so many plots, three a line; the rest of the last line is hidden. `height` of one in inches."""
    import matplotlib.pyplot as plt

    columns = min(count, PER_LINE)
    lines = -(-count // columns)
    size = (max(width * columns + 0.8, 5.0), height * lines + 0.5)
    figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def legend(figure: Figure, axes: Sequence[Axes]) -> int:
    """One legend below all plots, each label once; returns how many lines it has."""
    entries: dict[str, Any] = {}
    for one in axes:
        handles, names = one.get_legend_handles_labels()
        entries |= {n: h for n, h in zip(names, handles, strict=True) if n not in entries}
    if not entries:
        return 0
    names = list(entries)
    # Eight-point letters are about 0.075 inches wide; the handle and its gaps take another inch.
    fit = int(figure.get_figwidth() // (1.0 + 0.075 * max(map(len, names))))
    columns = max(1, min(4, fit, len(names)))
    figure.legend(
        list(entries.values()), names, loc="outside lower center", ncols=columns, frameon=False, handlelength=3
    )
    return -(-len(names) // columns)
