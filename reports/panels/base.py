"""A panel of the report: one figure, the rows it is drawn from, what to say of it, and one look for all of them."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.runs import MatrixData, grouped
from reports.schema import Summary
from reports.writing import Row
from trainers.common.files import write_bytes

# One look for every figure: colour-blind-safe hues, and line styles and markers that tell methods apart in grey.


#: Okabe and Ito (2008), without the yellow that vanishes on white; the baseline gets near-black.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195")
BASELINE_HUE = "#333333"
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True)
class Look:
    """How one method is drawn, in every figure."""

    color: str
    dash: Any
    marker: str


def looks(labels: Sequence[str], baseline: str | None = None) -> dict[str, Look]:
    """A look per label. Beyond seven methods hues repeat with another dash and marker."""
    others = {}
    for number, label in enumerate(label for label in labels if label != baseline):
        turn = number // len(HUES)
        others[label] = Look(HUES[number % 7], DASHES[(number + 1 + 2 * turn) % 7], MARKERS[(number + 1 + turn) % 7])
    return {label: others.get(label, Look(BASELINE_HUE, "-", "o")) for label in labels}


@contextmanager
def style() -> Iterator[None]:
    """Seaborn's whitegrid with sizes for a page, the Agg canvas, and text kept as text in SVG."""
    matplotlib.use("Agg")
    rc = {
        "figure.dpi": 110,
        "savefig.dpi": 150,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "grid.color": "#e3e6ea",
        "axes.edgecolor": "#9aa2ab",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "pdf.fonttype": 42,  # letters as text, not as outlines
        "text.parse_math": False,  # a name may hold a dollar sign
    }
    with matplotlib.rc_context(), seaborn.axes_style("whitegrid"):
        matplotlib.rcParams.update(rc)
        yield


def save(figure: Figure, *paths: Path) -> None:
    """Write a figure to each path (.png, .svg or .pdf) and close it. No date is stored: equal data give equal bytes."""
    for path in paths:
        buffer, kind = BytesIO(), path.suffix.lstrip(".")
        options: dict[str, Any] = {"metadata": {{"svg": "Date", "pdf": "CreationDate"}.get(kind, "Software"): None}}
        if kind == "png":  # half the time of level 6, a tenth larger
            options["pil_kwargs"] = {"compress_level": 3}
        figure.savefig(buffer, format=kind, **options)
        # Laid out once: solving it again for the next format doubles the time.
        figure.set_layout_engine(None)
        write_bytes(path, buffer.getvalue())
    plt.close(figure)


# A panel, and what the drawings share.


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
    key = operator.itemgetter(*columns)
    return grouped((key(row), row) for row in rows)


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
