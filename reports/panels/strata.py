"""Panel: differences to the baseline by prompt perplexity."""

import numpy as np
from matplotlib.figure import Figure

from reports.panels.base import ZERO, Looks, Panel, Rows, facets, groups, legend, numbers
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

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


PANEL = Panel(
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
)
