"""Panels: reward against KL and against the length of answers, and methods compared at an equal KL and an equal length."""

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.panels.base import QUIET, ZERO, Looks, Panel, Rows, facets, groups, label_rows, legend, mark, numbers
from reports.runs.records import REFERENCE_ID, MatrixData
from reports.schema import OverReference, Summary
from reports.writing import Row

#: Inches: the width of a telephone, so that letters can be read there; the page enlarges it.
SIZE = (4.8, 3.4)
#: Names of a legend inside the axes.
MOST_INSIDE = 8
KL_NAME = "KL to the reference, nats an answer (square-root axis)"

# --- reward against what it costs

#: `level` is reference, seed (one policy of one run), method (the mean over its seeds, with the interval over the reference) or
#: band (that mean interpolated at one KL, with the interval over seeds).
FRONTIER_COLUMNS = (
    "level", "label", "run_id", "seed", "seeds", "step", "final", "kl", "kl_stderr", "reward", "reward_stderr", "low", "high",
    "length", "length_stderr", "length_metric", "metric",
)  # fmt: skip


def _means(points: Rows, key: str, over: OverReference | None) -> list[Row]:
    """A method's mean over its seeds, at the steps that all of them have; `over` is its row of `over_reference`."""
    runs = [{"final" if p["final"] else p["step"]: p for p in run} for run in groups(points, "run_id").values()]
    finished = [run for run in runs if "final" in run] or runs
    rows = []
    for step in (s for s in finished[0] if all(s in run for run in finished)):
        here = [run[step] for run in finished]
        row = {name: here[0][name] for name in ("label", "step", "final", "length_metric")} | {"seeds": len(here)}
        row |= {name: float(np.mean([p[name] for p in here])) for name in {key, "reward"}}
        if step == "final" and over and over.ci_low is not None:
            row |= {end: row["reward"] + getattr(over, f"ci_{end}") - over.difference for end in ("low", "high")}
        rows.append(row | {"level": "method"})
    return rows


def frontier_rows(key: str, matrix: MatrixData, summary: Summary) -> list[Row]:
    """Rows of FRONTIER_COLUMNS with a reward and this cost; nothing where there is only the reference."""
    kept = [
        dict(p)
        for p in summary.frontiers.points
        if p.state != "failed" and getattr(p, key) is not None and p.reward is not None
    ]
    trained = groups([p for p in kept if p["label"] != REFERENCE_ID], "label")
    over = {row.label: row for row in summary.over_reference}
    every = [p | {"level": "reference" if p["label"] == REFERENCE_ID else "seed"} for p in kept if trained]
    every += [mean for label, found in trained.items() for mean in _means(found, key, over.get(label))]
    every += [
        {
            "level": "band",
            "label": b.label,
            "kl": b.kl,
            "reward": b.reward.value,
            "low": b.reward.low,
            "high": b.reward.high,
        }
        for b in (summary.frontiers.bands if key == "kl" and trained else [])
    ]
    return [{c: p.get(c) for c in FRONTIER_COLUMNS} | {"metric": summary.frontiers.metric} for p in every]


def _root_axis(axes: Axes, furthest: float) -> None:
    """A square-root axis from 0 (Gao et al. 2210.10760 fit reward to it), with a tick half way to the first of the even ones."""

    axes.set_xscale("function", functions=(lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: np.sign(x) * x * x))
    ticks = MaxNLocator(6, steps=[1, 2, 4, 10]).tick_values(0, furthest)
    ticks = [0.0, ticks[1] / 4, *ticks[1:]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(-0.002 * furthest, 1.1 * furthest)


def draw_frontier(axes: Axes, rows: Rows, look: Looks, key: str, name: str) -> None:
    """A thick line is a method through its checkpoints, a thin one a seed."""
    levels = groups(rows, "level")
    starts, methods = levels.get("reference", []), groups(levels.get("method", []), "label")
    seeds, bands = groups(levels.get("seed", []), "label"), groups(levels.get("band", []), "label")
    for place, (label, means) in enumerate(methods.items()):
        seen = look[label]
        size = 5 + 1.5 * min(len(methods) - 1 - place, 4)  # what coincides shows around what lies on it
        runs = groups(seeds[label], "run_id")
        for points in runs.values() if len(runs) > 1 else ():
            x, y = (numbers([*starts, *points], k) for k in (key, "reward"))
            axes.plot(x, y, color=seen.color, marker=".", markersize=3.5, linewidth=0.6, alpha=0.45)
        x, y = (numbers([*starts, *means], k) for k in (key, "reward"))
        axes.plot(
            x, y, color=seen.color, linestyle=seen.dash, linewidth=1.8, marker=seen.marker, markersize=size, label=label,
            markevery=range(len(starts), len(x)), markeredgecolor="white", markeredgewidth=0.6, zorder=4,
        )  # fmt: skip
        band = [r for r in bands.get(label, []) if r["low"] is not None]
        x, low, high = (numbers(band, k) for k in (key, "low", "high"))
        axes.fill_between(x, low, high, color=seen.color, alpha=0.05, linewidth=0)
    for row in starts:
        axes.axhline(row["reward"], color=QUIET, linewidth=0.8, linestyle=":", zorder=1)
        axes.plot(row[key], row["reward"], "k*", markersize=12, label="reference", zorder=5, clip_on=False)
    if key == "kl":
        _root_axis(axes, max(r[key] for r in rows if r[key] is not None) or 1.0)
    unit = "" if key == "kl" else f" ({rows[-1]['length_metric']})"
    axes.set(xlabel=f"{name}{unit}", ylabel=rows[0]["metric"])
    axes.legend(loc="best", handlelength=3)


def _draw_alone(key: str, name: str, rows: Rows, look: Looks) -> Figure:
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    draw_frontier(axes, rows, look, key, name)
    if len(axes.get_legend_handles_labels()[1]) > MOST_INSIDE:
        axes.get_legend().remove()
        figure.set_figheight(SIZE[1] + 0.18 * legend(figure, [axes]))
    return figure


_HOW = (
    "A thick line is a method from the reference (star) through the checkpoints that all its seeds have to the final policy, at "
    "the mean over seeds; thin lines and dots are single seeds."
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
    compared = [("kl", c) for c in found.comparisons] + [("length", c) for c in found.length.comparisons]
    return [
        {
            "cost": cost,
            "label": c.label,
            "against": c.against,
            "where": place,
            "difference": at.difference.value,
            **{key: getattr(at.difference, key) for key in ("low", "high", "n", "seeds")},
            "p": at.test.p_value,
            "adjusted_p": c.adjusted_p.value if place == "matched" else None,
            "points_per_run": c.points_per_run,
            "metric": found.metric,
        }
        for cost, c in compared
        if c.against == summary.baseline.value
        for place, at in (("matched", c.matched), ("area", c.area))
        if at.difference.value is not None
    ]


def _draw(rows: Rows, look: Looks) -> Figure:
    """Filled marks: where both are furthest from the reference; open marks: mean over the shared range."""
    costs, labels = groups(rows, "cost"), list(groups(rows, "label"))
    figure, plots = facets(len(costs), 0.9 + 0.42 * len(labels), 4.4)
    for axes, (cost, found) in zip(plots, costs.items(), strict=True):
        axes.axvline(0, color=ZERO, linewidth=1)
        for row in found:
            area = row["where"] == "area"
            place, columns = labels.index(row["label"]) + (0.15 if area else -0.15), ("difference", "low", "high")
            mark(axes, row, columns, place, look[row["label"]], hollow=area, solid_capstyle="butt")
        for words, face in zip(PLACES.values(), (ZERO, "white"), strict=True):
            axes.plot([], [], "o", color=ZERO, markerfacecolor=face, label=words)
        label_rows(axes, labels, axes is plots[0])
        axes.locator_params(axis="x", nbins=5)
        axes.set(title=NAMES[cost], xlabel=f"difference to the baseline ({rows[0]['metric']})")
    legend(figure, plots)
    return figure


PANELS = (
    Panel(
        name="frontier_kl",
        title="Reward against KL",
        section="headline",
        columns=FRONTIER_COLUMNS,
        rows=partial(frontier_rows, "kl"),
        draw=partial(_draw_alone, "kl", KL_NAME),
        caption=f"{_HOW} KL is measured on the policy's own samples at temperature 1, over the whole vocabulary at every token "
        "(kl_exact) where every policy was, else by k3. Shaded: 95 % interval of the mean over seeds at each KL. A method is "
        "better where its line lies above another at the same KL.",
        absent="KL to the reference was not measured (a benchmark of kind kl), or no policy has both KL and the primary metric.",
    ),
    Panel(
        name="frontier_length",
        title="Reward against answer length",
        section="frontier",
        columns=FRONTIER_COLUMNS,
        rows=partial(frontier_rows, "length"),
        draw=partial(_draw_alone, "length", "mean answer length"),
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
