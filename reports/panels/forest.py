"""Panels of the scores: differences to the baseline, and the mean of every method on every benchmark."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from reports.panels.base import QUIET, ZERO, Looks, Panel, Rows, facets, groups, label_rows, mark
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

#: `level` is method (over seeds) or checkpoint (one seed's pair of checkpoints, over prompts).
FOREST_COLUMNS = (
    "benchmark",
    "metric",
    "label",
    "against",
    "level",
    "seed",
    "difference",
    "low",
    "high",
    "n",
    "seeds",
    "method",
    "verdict",
)
BENCHMARK_COLUMNS = ("benchmark", "metric", "label", "mean", "low", "high", "seeds", "n", "interval")


def _forest_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """One row per comparison with the baseline: the method level (over seeds) and each seed's checkpoint level."""
    rows: list[Row] = []
    for metric in summary.metrics:
        for c in metric.comparisons:
            if c.against != summary.baseline.value:
                continue
            shared = {"benchmark": metric.benchmark, "metric": metric.metric, "label": c.label, "against": c.against}
            method = {"level": "method", "seed": None, "n": c.n, "seeds": len(c.seeds), "verdict": c.verdict.code}
            levels = [(method, c.difference)]
            for p in c.checkpoints:
                one = {"level": "checkpoint", "seed": p.seed, "n": p.n, "seeds": 1, "verdict": None}
                levels.append((one, p.difference))
            rows += [
                shared | head | {"difference": d.value, "low": d.low, "high": d.high, "method": d.method}
                for head, d in levels
            ]
    return rows


def _forest(rows: Rows, look: Looks) -> Figure:
    """Differences to the baseline, one panel per metric: large marks over seeds, small ones a seed's prompts."""
    metrics, labels = groups(rows, "benchmark", "metric"), list(groups(rows, "label"))
    per_label = max(map(len, groups(rows, "benchmark", "metric", "label").values()))
    height = 0.9 + len(labels) * (0.35 + 0.16 * per_label)
    figure, plots = facets(len(metrics), height, margin=(1.2, 0), least=0, sharey=True)
    for axes, ((benchmark, name), found) in zip(plots, metrics.items(), strict=True):
        axes.axvline(0, color=ZERO, linewidth=1)
        for label, mine in groups(found, "label").items():
            offsets = labels.index(label) + np.linspace(-0.3, 0.3, max(len(mine), 2))
            for place, row in zip(offsets, mine, strict=False):
                main, columns = row["level"] == "method", ("difference", "low", "high")
                size, width, alpha = (8, 2.4, 1) if main else (3.5, 0.8, 0.6)
                mark(
                    axes, row, columns, place, look[label], size, width, not main, alpha=alpha, solid_capstyle="butt"
                )  # fmt: skip
        label_rows(axes, labels)
        axes.locator_params(axis="x", nbins=5)
        axes.set(title=f"{benchmark} / {name}", xlabel="difference to the baseline")
    return figure


def _benchmark_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """Mean per method and metric over seeds with its interval; the reference policy's own row first."""
    rows: list[Row] = []
    for metric in summary.metrics:
        levels = [("reference", metric.reference)] if metric.reference else []
        levels += [(method.label, method.mean) for method in metric.methods]
        rows += [
            {
                "benchmark": metric.benchmark,
                "metric": metric.metric,
                "label": label,
                "mean": e.value,
                "low": e.low,
                "high": e.high,
                "seeds": None if e is metric.reference else e.seeds,
                "n": e.n,
                "interval": e.method,
            }
            for label, e in levels
        ]
    return rows


def _benchmarks(rows: Rows, look: Looks) -> Figure:
    """Method by benchmark: the mean over seeds and its interval, the reference policy as a dashed line."""
    metrics = groups(rows, "benchmark", "metric")
    labels = [label for label in groups(rows, "label") if label != "reference"]
    figure, plots = facets(len(metrics), 1.1 + 0.42 * len(labels), margin=(1.2, 0), least=0, sharey=True)
    for axes, ((benchmark, name), found) in zip(plots, metrics.items(), strict=True):
        for row in found:
            if row["label"] != "reference":
                mark(axes, row, ("mean", "low", "high"), labels.index(row["label"]), look[row["label"]])
            elif row["mean"] is not None:
                axes.axvline(row["mean"], color=QUIET, linestyle="--", linewidth=1)
        label_rows(axes, labels)
        axes.set(title=f"{benchmark} / {name}", xlabel="mean score (dashed: reference policy)")
    return figure


FOREST = Panel(
    name="paired_differences",
    title="Forest plot of the paired differences",
    section="scores",
    columns=FOREST_COLUMNS,
    rows=_forest_rows,
    draw=_forest,
    caption="Large filled marks: the method, with seeds and prompts as samples. Small open marks: the two checkpoints of one "
    "seed, paired over prompts; they say nothing about another seed.",
    absent="No method shares a seed and prompts with the baseline.",
    needs="difference",
)
BENCHMARKS = Panel(
    name="benchmarks",
    title="Mean score per method and benchmark",
    section="scores",
    columns=BENCHMARK_COLUMNS,
    rows=_benchmark_rows,
    draw=_benchmarks,
    caption="Mean over seeds and 95 % t interval over seeds.",
    absent="No benchmark was scored.",
    needs="mean",
)
PANELS = (FOREST, BENCHMARKS)
