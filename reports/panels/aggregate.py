"""Panel: methods over all benchmarks at once."""

from __future__ import annotations

from matplotlib.figure import Figure

from reports.panels.base import ZERO, Looks, Panel, Rows, facets, groups, label_rows, legend, mark
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

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


def _draw(rows: Rows, look: Looks) -> Figure:
    """Bars are intervals over runs; the profile's lines say what share of runs and benchmarks scored above a threshold."""
    labels, found = list(groups(rows, "label")), groups(rows, "measure")
    measures = [m for m in TITLES if m in found]
    figure, plots = facets(len(measures), max(2.6, 0.9 + 0.35 * len(labels)))
    for axes, measure in zip(plots, measures, strict=True):
        axes.set_title(TITLES[measure])
        if measure == "profile":
            for label, mine in groups(found[measure], "label").items():
                seen = look[label]
                axes.step(
                    [r["above"] for r in mine], [r["value"] for r in mine], where="post", color=seen.color,
                    linestyle=seen.dash, marker=seen.marker, markevery=4, markersize=4, label=label,
                )  # fmt: skip
            axes.set(xlabel="score", ylabel="share above")
            continue
        for row in found[measure]:
            place = labels.index(row["label"])
            mark(axes, row, ("value", "low", "high"), place, look[row["label"]], solid_capstyle="butt")
        if measure == "improvement":
            axes.axvline(0.5, color=ZERO, linewidth=1)
        label_rows(axes, labels, axes is plots[0])
        axes.set_xlabel("score" if measure == "iqm" else "probability")
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
