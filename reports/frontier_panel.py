"""Panel: methods compared at an equal KL and at an equal length of answers, at one place and over the range both reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .comparison_panels import facets, legend
from .panel import Panel
from .records import MatrixData
from .style import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "cost", "label", "against", "where", "difference", "low", "high", "n", "seeds", "p", "adjusted_p", "points_per_run", "metric",
)  # fmt: skip
NAMES = {"kl": "at equal KL", "length": "at equal mean length"}
PLACES = {"matched": "where both are furthest", "area": "mean over the shared range"}


def _rows(matrix: MatrixData, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Comparisons with the baseline that have a value: two places for KL, two for length."""
    found = summary["frontiers"]
    out = []
    for cost, comparisons in (("kl", found["comparisons"]), ("length", found["length"]["comparisons"])):
        for c in comparisons:
            if c["against"] != summary["baseline"]["value"]:
                continue
            for place in PLACES:
                d = c[place]["difference"]
                row = {"cost": cost, "label": c["label"], "against": c["against"], "where": place}
                row |= {"difference": d["value"], "low": d["low"], "high": d["high"], "n": d["n"], "seeds": d["seeds"]}
                row |= {"p": c[place]["test"]["p_value"], "points_per_run": c["points_per_run"]}
                row |= {
                    "adjusted_p": c["adjusted_p"]["value"] if place == "matched" else None,
                    "metric": found["metric"],
                }
                if d["value"] is not None:
                    out.append(row)
    return out


def _draw(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look]) -> Figure:
    """Filled marks: where both are furthest from the reference; open marks: mean over the shared range."""
    costs = list(dict.fromkeys(r["cost"] for r in rows))
    labels = list(dict.fromkeys(r["label"] for r in rows))
    figure, plots = facets(len(costs), 0.9 + 0.42 * len(labels), 4.4)
    for axes, cost in zip(plots, costs, strict=True):
        axes.axvline(0, color="#333333", linewidth=1)
        for row in (r for r in rows if r["cost"] == cost):
            seen, y = look[row["label"]], labels.index(row["label"]) + (-0.15 if row["where"] == "matched" else 0.15)
            if row["low"] is not None:
                axes.plot([row["low"], row["high"]], [y, y], color=seen.color, linewidth=2, solid_capstyle="butt")
            face = seen.color if row["where"] == "matched" else "white"
            axes.plot(row["difference"], y, marker=seen.marker, color=seen.color, markersize=7, markerfacecolor=face)
        for place, face in zip(PLACES, ("#333333", "white"), strict=True):
            axes.plot([], [], "o", color="#333333", markerfacecolor=face, label=PLACES[place])
        axes.set_yticks(range(len(labels)), labels if axes is plots[0] else [])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(NAMES[cost])
        axes.set_xlabel(f"difference to the baseline ({rows[0]['metric']})")
        axes.grid(visible=False, axis="y")
    legend(figure, plots)
    return figure


PANEL = Panel(
    name="frontier_matched",
    title="The difference at equal KL and at equal length",
    section="frontier",
    columns=COLUMNS,
    rows=_rows,
    draw=_draw,
    caption="Each seed's two runs are compared where both have moved equally far, inside the range that both reach. Filled: at "
    "the KL, or the mean length, furthest from the reference; open: averaged over the range. Bars: 95 % interval with seeds and "
    "prompts as samples. A gain that vanishes here was bought with distance or with length.",
    absent="No method and the baseline share a range of KL, or of length, with a score at two points.",
)
