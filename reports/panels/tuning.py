"""Panels of tuning: expected best of n settings, and the metric over the settings tried."""

from matplotlib.figure import Figure

from reports.panels.base import Look, Looks, Panel, Rows, facets, groups, legend, looks, numbers
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import Row

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
    tuned = any(c.settings > 1 for c in curves)
    return [
        {key: getattr(c, key) for key in ("benchmark", "metric", "method", "n")}
        | dict(zip(("n_settings", "seed", "value", "low", "high"), (p.n_settings, *of), strict=True))
        for c in curves
        for p in (c.points if tuned else ())
        for of in (
            (None, p.value, p.interval.low, p.interval.high),
            *((s.seed, s.value, None, None) for s in p.per_seed),
        )
    ]


def _looks(rows: Rows, look: Looks) -> dict[str, Look]:
    """By method, the look of its only arm, or one of its own where it has several settings."""
    methods = list(groups(rows, "method"))
    return {m: look.get(m, own) for m, own in looks(methods).items()}


def _draw_curves(rows: Rows, look: Looks) -> Figure:
    """Thick: of the means over seeds. Thin: single seeds."""
    metrics, seen = groups(rows, "benchmark", "metric"), _looks(rows, look)
    figure, plots = facets(len(metrics), 3.0)
    for axes, ((benchmark, name), found) in zip(plots, metrics.items(), strict=True):
        by_method = groups(found, "method")
        for method, one in seen.items():
            lines = groups(by_method.get(method, []), "seed")
            means = lines.pop(None, [])
            for line in lines.values():
                dot = "." if len(line) == 1 else None
                x, y = numbers(line, "n_settings"), numbers(line, "value")
                axes.plot(x, y, color=one.color, linewidth=0.6, alpha=0.5, marker=dot)
            axes.plot(
                numbers(means, "n_settings"), numbers(means, "value"), color=one.color, linestyle=one.dash,
                marker=one.marker, markersize=5, linewidth=2, label=method,
            )  # fmt: skip
        axes.set(title=f"{benchmark} / {name}", xlabel="settings tried (n)", ylabel="expected best of n")
        axes.locator_params(axis="x", integer=True)
    legend(figure, plots)
    return figure


def _map_rows(matrix: MatrixData, summary: Summary) -> list[Row]:
    """The primary metric at each value of each setting that was varied; one row per seed, seed null for the mean."""
    return [
        {
            **{key: getattr(row, key) for key in ("benchmark", "metric", "method", "label")},
            "setting": name,
            "x": x,
            "other_settings": ", ".join(f"{k}={v}" for k, v in row.settings.items() if k != name),
            "mean": row.mean.value,
            "low": row.mean.low,
            "high": row.mean.high,
            "seed": seed,
            "value": value,
        }
        for row in summary.tuning.map
        for name, x in row.settings.items()
        if row.primary and isinstance(x, (int, float)) and not isinstance(x, bool)
        for seed, value in ((None, None), *((s.seed, s.value) for s in row.per_seed))
    ]


def _draw_map(rows: Rows, look: Looks) -> Figure:
    """One plot per setting. Lines join the means of settings that are equal in all else; small marks are seeds."""
    settings, seen = groups(rows, "setting"), _looks(rows, look)
    figure, plots = facets(len(settings), 3.2, 4.2)
    for axes, (setting, mine) in zip(plots, settings.items(), strict=True):
        by_method = groups(mine, "method")
        for method, one in seen.items():
            found = by_method.get(method, [])
            points = [r for r in found if r["seed"] is not None]
            axes.scatter(
                numbers(points, "x"), numbers(points, "value"), marker=one.marker, s=14, facecolors="white",
                edgecolors=one.color, linewidths=0.7, zorder=3,
            )  # fmt: skip
            for other, means in groups([r for r in found if r["seed"] is None], "other_settings").items():
                line = sorted(means, key=lambda r: r["x"])
                axes.plot(
                    numbers(line, "x"), numbers(line, "mean"), color=one.color, linestyle=one.dash, marker=one.marker,
                    markersize=6, linewidth=1.4, label=method,
                )  # fmt: skip
                if other:
                    end = line[-1]["x"], line[-1]["mean"]
                    axes.annotate(other, end, fontsize=6, xytext=(4, 0), textcoords="offset points")
        values = sorted(groups(mine, "x"))
        if values[0] > 0 and values[-1] >= 8 * values[0]:
            axes.set_xscale("log")
            axes.set_xticks(values, [f"{v:g}" for v in values])
            axes.minorticks_off()
        axes.set(xlabel=setting, ylabel=f"{mine[0]['benchmark']} / {mine[0]['metric']}")
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
