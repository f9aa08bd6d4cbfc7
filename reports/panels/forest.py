"""Figures of the comparison: forest plot, method by benchmark, beta against what it should follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.panels.style import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forest(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look]) -> Figure:
    """Differences to the baseline, one panel per metric: large marks over seeds, small ones a seed's prompts."""
    import matplotlib.pyplot as plt

    metrics = list(dict.fromkeys((r["benchmark"], r["metric"]) for r in rows))
    labels = list(dict.fromkeys(r["label"] for r in rows))
    per_label = max(
        sum(r["label"] == n and (r["benchmark"], r["metric"]) == m for r in rows) for n in labels for m in metrics
    )
    height = 0.9 + len(labels) * (0.35 + 0.16 * per_label)
    columns = min(len(metrics), 3)
    lines = -(-len(metrics) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(3.6 * columns + 1.2, height * lines),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axes in grid.flat[len(metrics) :]:
        axes.set_visible(False)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        axes.axvline(0, color="#333333", linewidth=1)
        for place, label in enumerate(labels):
            mine = [r for r in rows if r["label"] == label and (r["benchmark"], r["metric"]) == metric]
            seen = look[label]
            offsets = np.linspace(-0.3, 0.3, max(len(mine), 2))
            for offset, row in zip(offsets, mine, strict=False):
                if row["difference"] is None:
                    continue
                main = row["level"] == "method"
                y = place + offset
                if row["low"] is not None:
                    axes.plot(
                        [row["low"], row["high"]],
                        [y, y],
                        color=seen.color,
                        linewidth=2.4 if main else 0.8,
                        alpha=1 if main else 0.6,
                        solid_capstyle="butt",
                    )
                axes.plot(
                    row["difference"],
                    y,
                    marker=seen.marker,
                    color=seen.color,
                    markersize=8 if main else 3.5,
                    markerfacecolor=seen.color if main else "white",
                )
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(f"{metric[0]} / {metric[1]}")
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("difference to the baseline")
        axes.grid(visible=False, axis="y")
    return figure


def benchmarks(rows: Sequence[Mapping[str, Any]], look: Mapping[str, Look]) -> Figure:
    """Method by benchmark: the mean over seeds and its interval, the reference policy as a dashed line."""
    import matplotlib.pyplot as plt

    metrics = list(dict.fromkeys((r["benchmark"], r["metric"]) for r in rows))
    labels = [n for n in dict.fromkeys(r["label"] for r in rows) if n != "reference"]
    columns = min(len(metrics), 3)
    lines = -(-len(metrics) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(3.6 * columns + 1.2, (1.1 + 0.42 * len(labels)) * lines),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axes in grid.flat[len(metrics) :]:
        axes.set_visible(False)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        for row in (r for r in rows if (r["benchmark"], r["metric"]) == metric):
            if row["mean"] is None:
                continue
            if row["label"] == "reference":
                axes.axvline(row["mean"], color="#6b7280", linestyle="--", linewidth=1)
                continue
            y, seen = labels.index(row["label"]), look[row["label"]]
            if row["low"] is not None:
                axes.plot([row["low"], row["high"]], [y, y], color=seen.color, linewidth=2)
            axes.plot(row["mean"], y, marker=seen.marker, color=seen.color, markersize=7)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_title(f"{metric[0]} / {metric[1]}")
        axes.set_xlabel("mean score (dashed: reference policy)")
        axes.grid(visible=False, axis="y")
    return figure
