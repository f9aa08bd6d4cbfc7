"""Panel: methods over all benchmarks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.panels.base import Panel, facets, legend
from reports.panels.style import Look
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("label", "measure", "above", "value", "low", "high", "runs", "benchmarks")
TITLES = {"iqm": "interquartile mean", "improvement": "chance to beat a baseline run", "profile": "performance profile"}


def _rows(_: MatrixData, summary: Summary) -> list[Row]:
    found = summary.aggregate
    out = []
    for method in found.methods:
        head = {"label": method.label, "runs": method.runs, "benchmarks": len(found.benchmarks)}
        for measure in ("iqm", "improvement"):
            if (e := getattr(method, measure)) is not None:
                out.append(head | {"measure": measure, "value": e.value, "low": e.low, "high": e.high})
        out += [head | {"measure": "profile", "above": p.above, "value": p.share} for p in method.profile]
    return out


def _draw(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look]) -> Figure:
    """Bars are intervals over runs; the profile's lines say what share of runs and benchmarks scored above a threshold."""
    labels = list(dict.fromkeys(r["label"] for r in rows))
    measures = [m for m in TITLES if any(r["measure"] == m for r in rows)]
    figure, plots = facets(len(measures), max(2.6, 0.9 + 0.35 * len(labels)))
    for axes, measure in zip(plots, measures, strict=True):
        for label in labels:
            mine, seen = [r for r in rows if (r["label"], r["measure"]) == (label, measure)], look[label]
            if measure == "profile":
                axes.step(
                    [r["above"] for r in mine], [r["value"] for r in mine], where="post", color=seen.color,
                    linestyle=seen.dash, marker=seen.marker, markevery=4, markersize=4, label=label,
                )  # fmt: skip
                continue
            for row in mine:
                y = labels.index(label)
                if row["low"] is not None:
                    axes.plot([row["low"], row["high"]], [y, y], color=seen.color, linewidth=2, solid_capstyle="butt")
                axes.plot(row["value"], y, marker=seen.marker, color=seen.color, markersize=7)
        axes.set_title(TITLES[measure])
        if measure == "profile":
            axes.set_xlabel("score")
            axes.set_ylabel("share above")
            continue
        if measure == "improvement":
            axes.axvline(0.5, color="#333333", linewidth=1)
        axes.set_yticks(range(len(labels)), labels if axes is plots[0] else [])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("score" if measure == "iqm" else "probability")
        axes.grid(visible=False, axis="y")
    legend(figure, plots[-1:])
    return figure


PANEL = Panel(
    name="across_benchmarks",
    title="All benchmarks at once",
    section="comparison",
    columns=COLUMNS,
    rows=_rows,
    draw=_draw,
    caption="Over all benchmarks whose scores lie between 0 and 1. Left: mean of the middle half of the scores of all runs and "
    "benchmarks. Middle: chance that a run of the method scores higher than one of the baseline, ties half. Bars: 95 % "
    "bootstrap interval over whole runs, too narrow with few of them. Right: share of runs and benchmarks with a score above the "
    "threshold.",
    absent="Fewer than two benchmarks have scores between 0 and 1 from the same runs.",
)
