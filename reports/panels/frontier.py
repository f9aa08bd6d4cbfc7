"""Panels: reward against KL and against the length of answers, and methods compared at an equal KL and an equal length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.panels.base import Panel, facets, legend
from reports.panels.style import Look
from reports.runs.records import REFERENCE_ID, MatrixData
from reports.schema import OverReference, Summary
from reports.writing import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

# --- reward against what it costs

#: `level` is reference, seed (one policy of one run) or method (the mean over its seeds, with the interval over the reference).
FRONTIER_COLUMNS = (
    "level", "label", "run_id", "seed", "seeds", "step", "final", "kl", "kl_stderr", "reward", "reward_stderr", "low", "high",
    "length", "length_stderr", "length_metric", "metric",
)  # fmt: skip


def _means(points: Rows, key: str, over: OverReference | None) -> list[Row]:
    """A method's mean over its seeds, at the steps that all of them have; `over` is its row of `over_reference`."""
    runs: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for p in points:
        runs.setdefault(p["run_id"], {})["final" if p["final"] else p["step"]] = p
    finished = [run for run in runs.values() if "final" in run] or list(runs.values())
    rows = []
    for step in (s for s in finished[0] if all(s in run for run in finished)):
        here = [run[step] for run in finished]
        row = {name: here[0][name] for name in ("label", "step", "final", "length_metric")} | {"seeds": len(here)}
        row |= {name: float(np.mean([p[name] for p in here])) for name in dict.fromkeys((key, "reward"))}
        if step == "final" and over and over.ci_low is not None:
            row |= {end: row["reward"] + getattr(over, f"ci_{end}") - over.difference for end in ("low", "high")}
        rows.append(row | {"level": "method"})
    return rows


def _frontier_rows(key: str) -> Callable[[MatrixData, Summary], list[Row]]:
    def rows(matrix: MatrixData, summary: Summary) -> list[Row]:
        found = summary.frontiers
        kept = [
            p
            for p in map(dict, found.points)
            if p[key] is not None and p["reward"] is not None and p["state"] != "failed"
        ]
        labels = list(dict.fromkeys(p["label"] for p in kept if p["label"] != REFERENCE_ID))
        over = {row.label: row for row in summary.over_reference}
        means = [m for n in labels for m in _means([p for p in kept if p["label"] == n], key, over.get(n))]
        of_one = [p | {"level": "reference" if p["label"] == REFERENCE_ID else "seed"} for p in kept]
        every = of_one + means if labels else []
        return [{c: p.get(c) for c in FRONTIER_COLUMNS} | {"metric": found.metric} for p in every]

    return rows


def _root_axis(axes: Axes, furthest: float) -> None:
    """A square-root axis from 0 (Gao et al. 2210.10760 fit reward to it), with a tick half way to the first of the even ones."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xscale("function", functions=(lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: np.sign(x) * x * x))
    ticks = MaxNLocator(6, steps=[1, 2, 4, 10]).tick_values(0, furthest)
    ticks = [0.0, ticks[1] / 4, *ticks[1:]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(-0.002 * furthest, 1.1 * furthest)


def _draw_frontier(key: str, name: str) -> Callable[[Rows, Mapping[str, Look]], Figure]:
    def draw(rows: Rows, look: Mapping[str, Look]) -> Figure:
        """A thick line is a method through its checkpoints, a thin one a seed; the bar is the interval over the reference."""
        import matplotlib.pyplot as plt

        # Drawn at the width of a telephone, so that its letters can be read there; the page enlarges it.
        figure, axes = plt.subplots(figsize=(4.8, 3.2), layout="constrained")
        starts = [r for r in rows if r["level"] == "reference"]
        drawn = list(dict.fromkeys(r["label"] for r in rows if r["level"] == "method"))
        for place, label in enumerate(drawn):
            seen = look[label]
            size = 5 + 1.5 * min(len(drawn) - 1 - place, 4)  # what coincides shows around what lies on it
            runs: dict[str, list[Mapping[str, Any]]] = {}
            for row in (r for r in rows if r["level"] == "seed" and r["label"] == label):
                runs.setdefault(row["run_id"], []).append(row)
            for points in runs.values() if len(runs) > 1 else ():
                x, y = ([r[k] for r in (*starts, *points)] for k in (key, "reward"))
                axes.plot(x, y, color=seen.color, marker=".", markersize=3.5, linewidth=0.6, alpha=0.45)
            means = [r for r in rows if r["level"] == "method" and r["label"] == label]
            x, y = ([r[k] for r in (*starts, *means)] for k in (key, "reward"))
            axes.plot(
                x, y, color=seen.color, linestyle=seen.dash, linewidth=1.8, marker=seen.marker, markersize=size, label=label,
                markevery=range(len(starts), len(x)), markeredgecolor="white", markeredgewidth=0.6, zorder=4,
            )  # fmt: skip
            for row in (r for r in means if r["low"] is not None):
                axes.plot([row[key]] * 2, [row["low"], row["high"]], color=seen.color, linewidth=1.2, zorder=3)
        for row in starts:
            axes.axhline(row["reward"], color="#6b7280", linewidth=0.8, linestyle=":", zorder=1)
            axes.plot(row[key], row["reward"], "k*", markersize=12, label="reference", zorder=5, clip_on=False)
        if key == "kl":
            _root_axis(axes, max(r[key] for r in rows) or 1.0)
        axes.set_xlabel(name if key == "kl" else f"{name} ({rows[-1]['length_metric']})")
        axes.set_ylabel(rows[0]["metric"])
        figure.set_figheight(3.2 + 0.18 * legend(figure, [axes]))
        return figure

    return draw


_HOW = (
    "A thick line is a method from the reference (star) through the checkpoints that all its seeds have to the final policy, at "
    "the mean over seeds; thin lines and dots are single seeds. The bar at its end is the 95 % interval of the difference to the "
    "reference (with one seed: over prompts only)."
)

# --- at equal cost

COLUMNS = (
    "cost", "label", "against", "where", "difference", "low", "high", "n", "seeds", "p", "adjusted_p", "points_per_run", "metric",
)  # fmt: skip
NAMES = {"kl": "at equal KL", "length": "at equal mean length"}
PLACES = {"matched": "where both are furthest", "area": "mean over the shared range"}


def _rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """Comparisons with the baseline that have a value: two places for KL, two for length."""
    found = summary.frontiers
    out = []
    for cost, comparisons in (("kl", found.comparisons), ("length", found.length.comparisons)):
        for c in comparisons:
            if c.against != summary.baseline.value:
                continue
            for place in PLACES:
                at = getattr(c, place)
                d = at.difference
                row: Row = {"cost": cost, "label": c.label, "against": c.against, "where": place}
                row |= {"difference": d.value, "low": d.low, "high": d.high, "n": d.n, "seeds": d.seeds}
                row |= {"p": at.test.p_value, "points_per_run": c.points_per_run}
                row |= {
                    "adjusted_p": c.adjusted_p.value if place == "matched" else None,
                    "metric": found.metric,
                }
                if d.value is not None:
                    out.append(row)
    return out


def _draw(rows: Rows, look: Mapping[str, Look]) -> Figure:
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


PANELS = (
    Panel(
        name="frontier_kl",
        title="Reward against KL",
        section="frontier",
        columns=FRONTIER_COLUMNS,
        rows=_frontier_rows("kl"),
        draw=_draw_frontier("kl", "KL to the reference, nats per answer (square-root axis)"),
        caption=f"{_HOW} KL is the k3 estimate on the policy's own samples at temperature 1. A method is better where its line "
        "lies above another at the same KL.",
        absent="KL to the reference was not measured (a benchmark of kind kl), or no policy has both KL and the primary metric.",
        headline=True,
    ),
    Panel(
        name="frontier_length",
        title="Reward against answer length",
        section="frontier",
        columns=FRONTIER_COLUMNS,
        rows=_frontier_rows("length"),
        draw=_draw_frontier("length", "mean answer length"),
        caption=f"{_HOW} A gain that moves only along the lines is a gain of longer or shorter answers.",
        absent="The length of the answers was not recorded.",
    ),
    Panel(
        name="frontier_matched",
        title="The difference at equal KL and at equal length",
        section="frontier",
        columns=COLUMNS,
        rows=_rows,
        draw=_draw,
        caption="Each seed's two runs are compared where both have moved equally far, inside the range that both reach. Filled: "
        "at the KL, or the mean length, furthest from the reference; open: averaged over the range. Bars: 95 % interval with "
        "seeds and prompts as samples. A gain that vanishes here was bought with distance or with length.",
        absent="No method and the baseline share a range of KL, or of length, with a score at two points.",
    ),
)
