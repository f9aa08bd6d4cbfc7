"""How the figures about dynamic_beta look. Each is drawn from the rows of its table, and tells methods apart in grey."""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from reports.panels.base import QUIET, ZERO, Looks, Rows, facets, groups, label_rows, legend, mark, numbers

MOST_ARMS = 8
#: With more bands on one another nothing is seen.
MOST_BANDS = 3
BETA = "dynamic_beta (1/nat)"
#: Of the loss's null.
NULL = "#b6bcc4"
PROFILE = {
    "mean_beta": "mean beta (1/nat)",
    "spread": "spread: sd of log beta",
    "with_log_perplexity": "Spearman with log perplexity",
    "with_delta": "Spearman with delta",
}
NAMES = {
    "loss": "loss *",
    "gradient_weight": "gradient weight *",
    "grad_norm": "gradient norm *",
    "loss_at_beta0": "loss at fixed beta",
    "log_prompt_perplexity": "log perplexity",
    "prompt_tokens": "prompt tokens",
    "chosen_tokens": "chosen tokens",
    "rejected_tokens": "rejected tokens",
}


def chosen(labels: Sequence[str], most: int = MOST_ARMS) -> list[str]:
    """The labels to draw, in their order: one arm of every method first, then more, up to `most`."""
    unique = list(dict.fromkeys(labels))
    first = {label.split("[")[0]: label for label in reversed(unique)}.values()
    kept = sorted(unique, key=lambda label: label not in first)[:most]
    return [label for label in unique if label in kept]


def _short(label: str, longest: int = 34) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"


def _small() -> tuple[Figure, Axes]:
    return plt.subplots(figsize=(3.6, 2.9), layout="constrained")


def fan(rows: Rows, look: Looks) -> Figure:
    """Median of beta over steps with its middle half; a fixed beta is a dotted line."""
    found, figure, axes = groups(rows, "label", "kind"), *_small()
    moving = chosen([r["label"] for r in rows if r["dynamic"]])
    for label in (*chosen([r["label"] for r in rows if not r["dynamic"]], 2), *moving):
        points, seen, dynamic = found.get((label, "quantiles"), []), look[label], label in moving
        step, median = numbers(points, "step"), numbers(points, "q50")
        if dynamic and len(moving) <= MOST_BANDS:
            low, high = numbers(points, "q25"), numbers(points, "q75")
            axes.fill_between(step, low, high, color=seen.color, alpha=0.15, linewidth=0)
        axes.plot(step, median, color=seen.color, linestyle=seen.dash if dynamic else ":", linewidth=1.4, label=label)
        marks = numbers(found.get((label, "collapse"), []), "step")
        if marks.size and step.size:
            axes.plot(marks, np.interp(marks, step, median), "X", color="black", markersize=7, markeredgecolor="white")
    axes.set(xlabel="optimiser step", ylabel=BETA)
    quantiles = [row for row in rows if row["kind"] == "quantiles"]
    lowest, highest = (min(numbers(quantiles, "q05"), default=0.0), max(numbers(quantiles, "q95"), default=0.0))
    if highest > 10 * lowest > 0:  # only a log axis shows it
        axes.set_yscale("log")
    legend(figure, [axes])
    return figure


def curve(label_x: str, label_y: str, rows: Rows, look: Looks) -> Figure:
    """Means in bins of a quantity, a line for each arm."""
    found, figure, axes = groups(rows, "label"), *_small()
    for label in chosen(list(found)):
        points, seen = found[label], look[label]
        x = numbers(points, "x")
        axes.vlines(x, numbers(points, "low"), numbers(points, "high"), color=seen.color, linewidth=1, alpha=0.5)
        line: dict[str, Any] = {"color": seen.color, "linestyle": seen.dash, "marker": seen.marker}
        axes.plot(x, numbers(points, "mean"), markersize=4, linewidth=1.2, label=label, **line)
    axes.set(xlabel=label_x, ylabel=label_y)
    legend(figure, [axes])
    return figure


def lags(rows: Rows, look: Looks) -> Figure:
    """Cross-correlations by lag, one box per arm (down) and quantity (across)."""
    found = groups(rows, "label", "against")
    arms = chosen([r["label"] for r in rows], 4)
    names = [n for n in ("loss", "loss_at_beta0", "delta", "grad_norm") if any(r["against"] == n for r in rows)]
    across, down = len(names), len(arms)
    figure, boxes = facets(across * down, 1.8, 2.6, across, (0.6, 0.6), 0, sharex=True, sharey=True)
    for axes, (label, name) in zip(boxes, itertools.product(arms, names), strict=True):
        points, seen = found.get((label, name), []), look[label]
        lag, band = numbers(points, "lag"), numbers(points, "band")
        axes.fill_between(lag, -band, band, color="#9aa2ab", alpha=0.35, linewidth=0)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.axvline(0, color=QUIET, linewidth=0.8, linestyle=":")
        axes.vlines(lag, numbers(points, "low"), numbers(points, "high"), color=seen.color, linewidth=1.2)
        axes.plot(lag, numbers(points, "mean"), color=seen.color, marker=seen.marker, markersize=3, linewidth=0.8)
        if name == names[0]:
            axes.set_ylabel(_short(label, 22))
        if label == arms[0]:
            axes.set_title(f"beta with {NAMES.get(name, name)}")
        if label == arms[-1]:
            axes.set_xlabel("lag (logged steps)")
    figure.supylabel("correlation of step-to-step changes", fontsize=9)
    return figure


def associations(rows: Rows, look: Looks) -> Figure:
    """Spearman of beta with every quantity, one box per arm."""

    found, names = groups(rows, "label"), list(groups(rows, "against"))
    arms = chosen(list(found))
    ring: dict[str, Any] = {"marker": "o", "color": "none"}
    height = 0.28 * len(names) + 1.0  # of each box; all have the same axes
    figure, boxes = facets(len(arms), height, 2.9, 4, (0, 0), 4.2, sharex=True, sharey=True)
    for axes, label in zip(boxes, arms, strict=True):
        axes.axvline(0, color=QUIET, linewidth=0.8)
        for row in found[label]:
            y = names.index(row["against"])
            if row.get("null_low") is not None:
                axes.barh(y, row["null_high"] - row["null_low"], left=row["null_low"], height=0.7, color=NULL)
            if row["pooled"] is not None:
                axes.plot(row["pooled"], y + 0.2, markersize=5, markeredgecolor=ZERO, **ring)
            shown = {**row, "linked": row["within"]} if row["linked"] is None else row
            mark(axes, shown, ("linked", "linked_low", "linked_high"), y - 0.1, look[label], size=5)
            if row["simpson"]:
                axes.plot(0, y, markersize=15, markeredgecolor="black", clip_on=False, **ring)
        label_rows(axes, [NAMES.get(n, n) for n in names])
        axes.set(title=_short(label), xlabel="Spearman correlation with beta", xlim=(-1.05, 1.05))
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.label_outer()
    handles = [
        Line2D([], [], marker="o", color=ZERO, linewidth=2, label="within runs"),
        Line2D([], [], marker="o", color="none", markeredgecolor=ZERO, label="all rows pooled (naive)"),
        Patch(color=NULL, label="null of the loss"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def controls(rows: Rows, look: Looks) -> Figure:
    """Level, spread and links of beta: methods and their controls down, quantities across."""
    family = [r for r in rows if r["control"] or r["label"].split("[")[0] in {q["parent"] for q in rows}]
    arms = chosen([r["label"] for r in family or rows], 12)
    size = (11, 0.42 * len(arms) + 1.1)
    figure, grid = plt.subplots(1, len(PROFILE), figsize=size, layout="constrained", sharey=True)
    for axes, (name, title) in zip(grid, PROFILE.items(), strict=True):
        for row in (r for r in rows if r["label"] in arms):
            columns, place = (name, f"{name}_low", f"{name}_high"), arms.index(row["label"])
            mark(axes, row, columns, place, look[row["label"]], hollow=row["control"], clip_on=False)
        if name.startswith("with_"):
            axes.axvline(0, color=QUIET, linewidth=0.8)
        axes.set_xlim((-1.05, 1.05) if name.startswith("with_") else (0, None))
        axes.set_xlabel(title)
        label_rows(axes, [_short(a) for a in arms])
    grid[0].set_title("hollow: control", loc="left", fontsize=8)
    return figure
