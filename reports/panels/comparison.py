"""Panels: every seed's difference to the baseline, and differences by prompt perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.panels.base import PER_LINE, Panel, facets, legend
from reports.panels.style import Look
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


# --- differences of every seed

SEED_COLUMNS = ("benchmark", "metric", "label", "against", "seed", "difference", "mean", "low", "high", "n", "interval")


def _seed_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    out = []
    for metric in summary.metrics:
        if not (metric.benchmark_primary or metric.primary):
            continue
        for c in metric.comparisons:
            if c.against != summary.baseline.value:
                continue
            d = c.difference
            for seed, value in zip(c.seeds, c.seed_differences, strict=True):
                out.append(
                    {"benchmark": metric.benchmark, "metric": metric.metric, "label": c.label, "seed": seed}
                    | {
                        "against": c.against,
                        "difference": value,
                        "mean": d.value,
                        "low": d.low,
                        "high": d.high,
                    }
                    | {"n": c.n, "interval": d.method}
                )
    return out


def _draw_seeds(rows: Rows, look: Mapping[str, Look]) -> Figure:
    """Open marks are seeds, the filled mark with its bar the mean and its interval."""
    metrics = list(dict.fromkeys((r["benchmark"], r["metric"]) for r in rows))
    labels = list(dict.fromkeys(r["label"] for r in rows))
    figure, plots = facets(len(metrics), 0.9 + 0.42 * len(labels))
    for axes, metric in zip(plots, metrics, strict=True):
        axes.axvline(0, color="#333333", linewidth=1)
        for place, label in enumerate(labels):
            mine = [r for r in rows if r["label"] == label and (r["benchmark"], r["metric"]) == metric]
            if not mine:
                continue
            seen = look[label]
            spread = np.linspace(-0.12, 0.12, len(mine)) if len(mine) > 1 else [0.0]
            axes.scatter(
                [r["difference"] for r in mine],
                place - 0.12 + np.asarray(spread),
                marker=seen.marker,
                s=22,
                facecolors="white",
                edgecolors=seen.color,
                zorder=3,
            )
            if mine[0]["low"] is not None:
                ends = [mine[0]["low"], mine[0]["high"]]
                axes.plot(ends, [place + 0.22] * 2, color=seen.color, linewidth=2, solid_capstyle="butt")
            axes.plot(mine[0]["mean"], place + 0.22, marker=seen.marker, color=seen.color, markersize=7)
        axes.set_yticks(range(len(labels)), labels if axes is plots[0] or plots.index(axes) % PER_LINE == 0 else [])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(f"{metric[0]} / {metric[1]}")
        axes.set_xlabel("difference to the baseline")
        axes.grid(visible=False, axis="y")
    return figure


# --- by prompt perplexity

STRATA_COLUMNS = (
    "benchmark", "metric", "label", "against", "control", "quantile", "of", "low_log_perplexity", "high_log_perplexity",
    "mean_log_perplexity", "difference", "low", "high", "n", "seeds", "slope", "slope_low", "slope_high", "slope_p",
)  # fmt: skip


def _strata_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    out = []
    for c in summary.strata.comparisons:
        if c.against != summary.baseline.value:
            continue
        slope = {f"slope{k}": getattr(c.slope, v) for k, v in (("", "value"), ("_low", "low"), ("_high", "high"))}
        head = {k: getattr(c, k) for k in ("benchmark", "metric", "label", "against", "control")} | slope
        head["slope_p"] = c.adjusted_p.value
        for s in c.strata:
            d = s.difference
            out.append(
                head
                | {"quantile": s.quantile, "of": s.of, "low_log_perplexity": s.low}
                | {"high_log_perplexity": s.high, "mean_log_perplexity": s.mean_log_prompt_perplexity}
                | {"difference": d.value, "low": d.low, "high": d.high, "n": d.n, "seeds": d.seeds}
            )
    return out


def _draw_strata(rows: Rows, look: Mapping[str, Look]) -> Figure:
    """Difference to the baseline by stratum, at the stratum's mean log perplexity; methods are set apart sideways."""
    metrics = list(dict.fromkeys((r["benchmark"], r["metric"]) for r in rows))
    labels = list(dict.fromkeys(r["label"] for r in rows))
    figure, plots = facets(len(metrics), 3.2, 4.2)
    for axes, metric in zip(plots, metrics, strict=True):
        mine = [r for r in rows if (r["benchmark"], r["metric"]) == metric]
        places = [r["mean_log_perplexity"] for r in mine]
        step = (max(places) - min(places) or 1.0) / (10 * max(len(labels), 2))
        axes.axhline(0, color="#333333", linewidth=1)
        for number, label in enumerate(labels):
            points = [r for r in mine if r["label"] == label]
            seen, shift = look[label], step * (number - (len(labels) - 1) / 2)
            x, y = [r["mean_log_perplexity"] + shift for r in points], [r["difference"] for r in points]
            axes.plot(
                x, y, color=seen.color, linestyle=seen.dash, marker=seen.marker, markersize=5, linewidth=1.2, label=label,
                markerfacecolor="white" if points and points[0]["control"] else seen.color,
            )  # fmt: skip
            for place, row in zip(x, points, strict=True):
                if row["low"] is not None:
                    axes.plot([place, place], [row["low"], row["high"]], color=seen.color, linewidth=1)
        axes.set_title(f"{metric[0]} / {metric[1]}")
        axes.set_xlabel("log prompt perplexity (nats per token)")
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
        "difference a nat of log perplexity with its adjusted p: a stratum by itself is no test.",
        absent="Prompt perplexity is not recorded for the prompts, or no two methods share seeds and prompts.",
    ),
)
