"""Panels of tuning: expected best of n settings, and the metric over the settings tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.panels.base import Panel, facets, legend
from reports.panels.style import Look, looks
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
CURVE_COLUMNS = ("benchmark", "metric", "method", "n_settings", "seed", "value", "n", "low", "high")
MAP_COLUMNS = (
    "benchmark",
    "metric",
    "method",
    "label",
    "setting",
    "x",
    "other_settings",
    "seed",
    "value",
    "mean",
    "low",
    "high",
)


def _curve_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """Rows of the primary metrics; nothing where no method was tried at more than one setting. seed null: the mean."""
    primary = {(m.benchmark, m.metric) for m in summary.metrics if m.benchmark_primary or m.primary}
    curves = [c for c in summary.tuning.expected_best if (c.benchmark, c.metric) in primary]
    if not any(c.settings > 1 for c in curves):
        return []
    out: list[Row] = []
    for c in curves:
        for p in c.points:
            head: Row = {"benchmark": c.benchmark, "metric": c.metric, "method": c.method, "n": c.n}
            head["n_settings"] = p.n_settings
            out.append(head | {"seed": None, "value": p.value, "low": p.interval.low, "high": p.interval.high})
            out += [head | {"seed": s.seed, "value": s.value, "low": None, "high": None} for s in p.per_seed]
    return out


def _draw_curves(rows: Rows, look: Mapping[str, Look]) -> Figure:
    """Thick: of the means over seeds. Thin: single seeds."""
    metrics = list(dict.fromkeys((r["benchmark"], r["metric"]) for r in rows))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    seen = _methods(methods, look)
    figure, plots = facets(len(metrics), 3.0)
    for axes, metric in zip(plots, metrics, strict=True):
        for method in methods:
            mine = [r for r in rows if r["method"] == method and (r["benchmark"], r["metric"]) == metric]
            one = seen[method]
            for seed in dict.fromkeys(r["seed"] for r in mine if r["seed"] is not None):
                line = [r for r in mine if r["seed"] == seed]
                x, y = [r["n_settings"] for r in line], [r["value"] for r in line]
                axes.plot(x, y, color=one.color, linewidth=0.6, alpha=0.5, marker="." if len(x) == 1 else None)
            line = [r for r in mine if r["seed"] is None]
            x, y = [r["n_settings"] for r in line], [r["value"] for r in line]
            axes.plot(
                x, y, color=one.color, linestyle=one.dash, marker=one.marker, markersize=5, linewidth=2, label=method
            )
        axes.set_title(f"{metric[0]} / {metric[1]}")
        axes.set_xlabel("settings tried (n)")
        axes.set_ylabel("expected best of n")
        axes.locator_params(axis="x", integer=True)
    legend(figure, plots)
    return figure


def _methods(methods: Sequence[str], look: Mapping[str, Look]) -> dict[str, Look]:
    """The look of a method's only arm, or one of its own where it has several settings."""
    own = looks(methods)
    return {m: look.get(m, own[m]) for m in methods}


def _map_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """The primary metric at each value of each setting that was varied; one row per seed, seed null for the mean."""
    out: list[Row] = []
    for row in summary.tuning.map:
        if not row.primary:
            continue
        for name, value in row.settings.items():
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                continue
            others = ", ".join(f"{k}={v}" for k, v in row.settings.items() if k != name)
            head: Row = {
                "benchmark": row.benchmark,
                "metric": row.metric,
                "method": row.method,
                "label": row.label,
            }
            head |= {"setting": name, "x": value, "other_settings": others}
            mean = row.mean
            shown = {"mean": mean.value, "low": mean.low, "high": mean.high}
            out.append(head | shown | {"seed": None, "value": None})
            out += [head | shown | {"seed": s.seed, "value": s.value} for s in row.per_seed]
    return out


def _draw_map(rows: Rows, look: Mapping[str, Look]) -> Figure:
    """One plot per setting. Lines join the means of settings that are equal in all else; small marks are seeds."""
    settings = list(dict.fromkeys(r["setting"] for r in rows))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    seen = _methods(methods, look)
    figure, plots = facets(len(settings), 3.2, 4.2)
    for axes, setting in zip(plots, settings, strict=True):
        mine = [r for r in rows if r["setting"] == setting]
        for method in methods:
            one = seen[method]
            points = [r for r in mine if r["method"] == method and r["seed"] is not None]
            axes.scatter(
                [r["x"] for r in points], [r["value"] for r in points], marker=one.marker, s=14, facecolors="white",
                edgecolors=one.color, linewidths=0.7, zorder=3,
            )  # fmt: skip
            means = [r for r in mine if r["method"] == method and r["seed"] is None]
            for other in dict.fromkeys(r["other_settings"] for r in means):
                line = sorted((r for r in means if r["other_settings"] == other), key=lambda r: r["x"])
                axes.plot(
                    [r["x"] for r in line], [r["mean"] for r in line], color=one.color, linestyle=one.dash,
                    marker=one.marker, markersize=6, linewidth=1.4, label=method,
                )  # fmt: skip
                if other:
                    axes.annotate(
                        other, (line[-1]["x"], line[-1]["mean"]), fontsize=6, xytext=(4, 0), textcoords="offset points"
                    )
        values = sorted({r["x"] for r in mine})
        if values[0] > 0 and values[-1] >= 8 * values[0]:
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{v:g}" for v in values])
            axes.minorticks_off()
        axes.set_xlabel(setting)
        axes.set_ylabel(f"{mine[0]['benchmark']} / {mine[0]['metric']}")
    legend(figure, plots)
    return figure


PANELS = (
    Panel(
        name="expected_best",
        title="Expected best under an equal tuning budget",
        section="tuning",
        columns=CURVE_COLUMNS,
        rows=_curve_rows,
        draw=_draw_curves,
        caption="Mean of the best of n settings drawn at random from those tried (Dodge et al. 2019, unbiased form). Thick: of "
        "the means over seeds. Thin: of single seeds. Compare methods at equal n; the best of noisy means is too good by "
        "its luck, more so the larger n.",
        absent="No method was tried at more than one setting.",
    ),
    Panel(
        name="setting_map",
        title="The primary metric over the settings tried",
        section="tuning",
        columns=MAP_COLUMNS,
        rows=_map_rows,
        draw=_draw_map,
        caption="Filled marks: mean over seeds at one setting; open marks: every seed. Lines join settings that are equal in all "
        "else. A best value at the end of the line says that the grid was too short.",
        absent="No method was tried at more than one numeric setting.",
    ),
)
