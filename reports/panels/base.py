"""A panel of the report: one figure, the rows it is drawn from, and what to say of it. The gallery draws all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.panels.style import Look
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

Rows = Sequence[Mapping[str, Any]]
#: By method.
Looks = Mapping[str, Look]
#: Where the page shows a panel; it places those of "scores" and "headline" by name.
Section = Literal[
    "headline", "scores", "comparison", "frontier", "curves", "beta_did", "beta", "tuning", "strata", "judges"
]


@dataclass(frozen=True)
class Panel:
    """One figure of the report.

    `rows` turns a matrix and its summary into a table (columns of `columns`). Where it is empty, or no row has a value of the
    column `needs`, nothing is drawn, which the report says with `absent`. `draw` makes the figure from those rows alone, so the
    CSV beside the figure is the whole truth. `section` is where the page shows it.
    """

    name: str
    title: str
    section: Section
    columns: Sequence[str]
    rows: Callable[[MatrixData, Summary], list[Row]]
    draw: Callable[[Rows, Looks], Figure]
    caption: str
    absent: str
    embed: Literal["png", "svg"] = "svg"
    needs: str | None = None

    def drawable(self, rows: Rows) -> bool:
        """Whether these rows have something to draw."""
        return any(self.needs is None or row[self.needs] is not None for row in rows)


PER_LINE = 3
#: Lines at zero and at other values to compare with, of the plots of scores and of those of beta.
ZERO, QUIET = "#333333", "#6b7280"


def groups(rows: Rows, *columns: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Rows by what they hold in these columns (a tuple where there are several), in order of first appearance."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        key = tuple(row[column] for column in columns)
        found.setdefault(key if len(columns) > 1 else key[0], []).append(row)
    return found


def numbers(rows: Rows, column: str) -> NDArray[np.float64]:
    """One column as an array of shape (n,); NaN where a row has no value."""
    return np.array([np.nan if row.get(column) is None else row[column] for row in rows], dtype=float)


def facets(
    count: int,
    height: float,
    width: float = 3.6,
    per_line: int = PER_LINE,
    margin: tuple[float, float] = (0.8, 0.5),
    least: float = 5.0,
    **shared: bool,
) -> tuple[Figure, list[Axes]]:
    """A figure of so many plots, `per_line` a line; the rest of the last line is hidden.

    `width` and `height` of one plot, `margin` (of all, across and down) and the `least` width of the figure are in inches;
    `shared` goes to matplotlib (sharex, sharey).
    """
    columns = min(count, per_line)
    lines = -(-count // columns)
    size = (max(width * columns + margin[0], least), height * lines + margin[1])
    figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained", **shared)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def label_rows(axes: Axes, labels: Sequence[str], shown: bool = True) -> None:
    """One line of the plot for each label, the first on top; their names only where they are `shown`."""
    axes.set_yticks(range(len(labels)), labels if shown else [])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def mark(
    axes: Axes,
    row: Mapping[str, Any],
    columns: tuple[str, str, str],
    place: float,
    seen: Look,
    size: float = 7,
    width: float = 2,
    hollow: bool = False,
    clip_on: bool = True,
    **line: Any,
) -> None:
    """A value with its interval at a height, from the `columns` of value, low and high; what is null is not drawn.

    `size` of the mark and `width` of the interval's line are in points; `line` goes to matplotlib, for the line.
    """
    value, low, high = (row[column] for column in columns)
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=seen.color, linewidth=width, **line)
    if value is not None:
        face = "white" if hollow else seen.color
        look: dict[str, Any] = {"marker": seen.marker, "markersize": size, "markerfacecolor": face, "clip_on": clip_on}
        axes.plot(value, place, color=seen.color, **look)


def legend(figure: Figure, axes: Sequence[Axes]) -> int:
    """One legend below all plots, each label once; returns how many lines it has."""
    entries: dict[str, Any] = {}
    for one in axes:
        handles, names = one.get_legend_handles_labels()
        entries |= {n: h for n, h in zip(names, handles, strict=True) if n not in entries}
    if not entries:
        return 0
    # Eight-point letters are about 0.075 inches wide; the handle and its gaps take another inch.
    fit = int(figure.get_figwidth() // (1.0 + 0.075 * max(map(len, entries))))
    columns = max(1, min(4, fit, len(entries)))
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "frameon": False, "handlelength": 3}
    figure.legend(list(entries.values()), list(entries), **place)
    return -(-len(entries) // columns)
