"""Panel: win rates against the reference, one small plot for each benchmark and judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.panels.base import Panel
from reports.panels.style import Look
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "benchmark",
    "judge",
    "label",
    "win_rate",
    "low",
    "high",
    "n",
    "wins",
    "ties",
    "losses",
    "without_verdict",
    "length_controlled",
    "length_controlled_low",
    "length_controlled_high",
    "position_consistency",
)


def rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """One row per benchmark, judge and method that has comparisons with the reference."""
    return [
        {
            "benchmark": entry.benchmark,
            "judge": judge.name,
            "label": method.label,
            "win_rate": method.win_rate.value,
            "low": method.win_rate.low,
            "high": method.win_rate.high,
            "n": method.win_rate.n,
            "wins": method.win_rate.wins,
            "ties": method.win_rate.draws,
            "losses": method.win_rate.losses,
            "without_verdict": method.win_rate.failed,
            "length_controlled": method.length_controlled.value,
            "length_controlled_low": method.length_controlled.low,
            "length_controlled_high": method.length_controlled.high,
            "position_consistency": method.position.consistency.value if method.position else None,
        }
        for entry in summary.judges
        for judge in entry.judges
        for method in judge.against_reference
    ]


def draw(table: Sequence[Mapping[str, Any]], look: Mapping[str, Look]) -> Figure:
    """Filled marks: plain win rate; open marks below them: length-controlled. The line at one half is the reference itself."""
    import matplotlib.pyplot as plt

    cells = list(dict.fromkeys((row["benchmark"], row["judge"]) for row in table))
    labels = list(dict.fromkeys(row["label"] for row in table))
    columns = min(len(cells), 3)
    lines = -(-len(cells) // columns)
    size = (3.6 * columns + 1.2, (1.2 + 0.5 * len(labels)) * lines)
    figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes in grid.flat[len(cells) :]:
        axes.set_visible(False)
    for axes, cell in zip(grid.flat, cells, strict=False):
        axes.axvline(0.5, color="#333333", linewidth=1)
        for row in (row for row in table if (row["benchmark"], row["judge"]) == cell):
            place, seen = labels.index(row["label"]), look[row["label"]]
            for key, offset, fill in (("", -0.12, seen.color), ("length_controlled", 0.18, "white")):
                value = row[key or "win_rate"]
                low, high = (row[f"{key}_{end}" if key else end] for end in ("low", "high"))
                if value is None:
                    continue
                if low is not None and high is not None:
                    axes.plot([low, high], [place + offset] * 2, color=seen.color, linewidth=0.9 if key else 2)
                size_of = 5 if key else 7
                axes.plot(
                    value,
                    place + offset,
                    marker=seen.marker,
                    color=seen.color,
                    markersize=size_of,
                    markerfacecolor=fill,
                )
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.set_title(f"{cell[0]}, judged by {cell[1]}")
        axes.set_xlabel("win rate against the reference")
        axes.grid(visible=False, axis="y")
    return figure


PANEL = Panel(
    name="judges",
    title="Win rate against the reference",
    section="judges",
    columns=COLUMNS,
    rows=rows,
    draw=draw,
    caption=(
        "Filled: win rate, ties counted one half. Open: length-controlled. Bars are 95 % intervals over prompts for the seeds "
        "that were trained; the line at one half is the reference."
    ),
    absent="No judge has compared answers with those of the reference.",
)
