"""Panels: every seed's difference to the baseline, and differences by prompt perplexity."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from reports.panels.base import PER_LINE, ZERO, Looks, Panel, Rows, facets, groups, label_rows, legend, mark, numbers
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

# --- differences of every seed

SEED_COLUMNS = ("benchmark", "metric", "label", "against", "seed", "difference", "mean", "low", "high", "n", "interval")


def _seed_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    return [
        {
            "benchmark": metric.benchmark,
            "metric": metric.metric,
            "label": c.label,
            "against": c.against,
            "seed": seed,
            "difference": value,
            "mean": c.difference.value,
            "low": c.difference.low,
            "high": c.difference.high,
            "n": c.n,
            "interval": c.difference.method,
        }
        for metric in summary.metrics
        if metric.benchmark_primary or metric.primary
        for c in metric.comparisons
        if c.against == summary.baseline.value
        for seed, value in zip(c.seeds, c.seed_differences, strict=True)
    ]


def _draw_seeds(rows: Rows, look: Looks) -> Figure:
    """Open marks are seeds, the filled mark with its bar the mean and its interval."""
    metrics, labels = groups(rows, "benchmark", "metric"), list(groups(rows, "label"))
    figure, plots = facets(len(metrics), 0.9 + 0.42 * len(labels))
    for position, (axes, ((benchmark, name), found)) in enumerate(zip(plots, metrics.items(), strict=True)):
        axes.axvline(0, color=ZERO, linewidth=1)
        by_label = groups(found, "label")
        for place, label in enumerate(labels):
            if not (mine := by_label.get(label)):
                continue
            seen = look[label]
            spread = np.linspace(-0.12, 0.12, len(mine)) if len(mine) > 1 else np.zeros(1)
            axes.scatter(
                [r["difference"] for r in mine], place - 0.12 + spread, marker=seen.marker, s=22, facecolors="white",
                edgecolors=seen.color, zorder=3,
            )  # fmt: skip
            mark(axes, mine[0], ("mean", "low", "high"), place + 0.22, seen, solid_capstyle="butt")
        label_rows(axes, labels, position % PER_LINE == 0)
        axes.locator_params(axis="x", nbins=5)
        axes.set(title=f"{benchmark} / {name}", xlabel="difference to the baseline")
    return figure


# --- by prompt perplexity

STRATA_COLUMNS = (
    "benchmark", "metric", "label", "against", "control", "quantile", "of", "low_log_perplexity", "high_log_perplexity",
    "mean_log_perplexity", "difference", "low", "high", "n", "seeds", "slope", "slope_low", "slope_high", "slope_p",
)  # fmt: skip


def _strata_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    return [
        {
            **{k: getattr(c, k) for k in ("benchmark", "metric", "label", "against", "control")},
            "slope": c.slope.value,
            "slope_low": c.slope.low,
            "slope_high": c.slope.high,
            "slope_p": c.adjusted_p.value,
            "quantile": s.quantile,
            "of": s.of,
            "low_log_perplexity": s.low,
            "high_log_perplexity": s.high,
            "mean_log_perplexity": s.mean_log_prompt_perplexity,
            "difference": s.difference.value,
            **{k: getattr(s.difference, k) for k in ("low", "high", "n", "seeds")},
        }
        for c in summary.strata.comparisons
        if c.against == summary.baseline.value
        for s in c.strata
    ]


def _draw_strata(rows: Rows, look: Looks) -> Figure:
    """Difference to the baseline by stratum, at the stratum's mean log perplexity; methods are set apart sideways."""
    metrics, labels = groups(rows, "benchmark", "metric"), list(groups(rows, "label"))
    figure, plots = facets(len(metrics), 3.2, 4.2)
    for axes, ((benchmark, name), mine) in zip(plots, metrics.items(), strict=True):
        step = (np.ptp(numbers(mine, "mean_log_perplexity")) or 1.0) / (10 * max(len(labels), 2))
        axes.axhline(0, color=ZERO, linewidth=1)
        by_label = groups(mine, "label")
        for number, label in enumerate(labels):
            points, seen = by_label.get(label, []), look[label]
            x = numbers(points, "mean_log_perplexity") + step * (number - (len(labels) - 1) / 2)
            hollow = bool(points) and points[0]["control"]
            axes.plot(
                x, numbers(points, "difference"), color=seen.color, linestyle=seen.dash, marker=seen.marker, markersize=5,
                linewidth=1.2, label=label, markerfacecolor="white" if hollow else seen.color,
            )  # fmt: skip
            for place, row in zip(x, points, strict=True):
                if row["low"] is not None:
                    axes.plot([place, place], [row["low"], row["high"]], color=seen.color, linewidth=1)
        axes.set(title=f"{benchmark} / {name}", xlabel="log prompt perplexity (nats per token)")
        axes.set_ylabel("difference to the baseline")
    legend(figure, plots)
    return figure


PANELS = (
    Panel(
        name="seed_differences",
        title="Difference to the baseline, seed by seed",
        section="comparison",
        columns=SEED_COLUMNS,
        rows=_seed_rows,
        draw=_draw_seeds,
        caption="Open marks: one seed each, the mean over the prompts both policies answered. Filled mark and bar: the mean over "
        "seeds and its 95 % interval with seeds and prompts as samples (with one seed: over its prompts only).",
        absent="No method shares a seed and prompts with the baseline.",
    ),
    Panel(
        name="perplexity_strata",
        title="Where the difference appears: by prompt perplexity",
        section="strata",
        columns=STRATA_COLUMNS,
        rows=_strata_rows,
        draw=_draw_strata,
        caption="Prompts are split into equally large strata by log perplexity; marks are the mean paired difference to the "
        "baseline, bars its 95 % interval over seeds and prompts. Open marks are controls. The table holds the slope of the "
        "difference a nat of log perplexity with its adjusted p: a single stratum is not a test.",
        absent="Prompt perplexity is not recorded for the prompts, or no two methods share seeds and prompts.",
    ),
)
