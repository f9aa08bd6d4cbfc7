"""All figures of a matrix, each as PNG and SVG, with the numbers behind it in tables/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import figures, panels, tables
from .labels import arms
from .panel import all_panels
from .records import MatrixData
from .style import looks, save, style
from .writing import write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _both(figure: Figure, directory: Path, name: str, embed: str) -> Path:
    save(figure, directory / f"{name}.png", directory / f"{name}.svg")
    return directory / f"{name}.{embed}"


def draw_all(matrix: MatrixData, summary: Mapping[str, Any]) -> dict[str, Path]:
    """Write figures/*.{png,svg} and tables/*.csv; returns for each figure drawn the file to embed in the report.

    A figure without data is not drawn and not in the result; its table is written with a header only.
    """
    directory, folder = matrix.output_dir / "figures", matrix.output_dir / "tables"
    all_arms = arms(matrix.runs)
    baseline = summary["baseline"]["value"]
    look = looks([a.label for a in all_arms], baseline)
    drawn: dict[str, Path] = {}
    with style():
        curve_rows = figures.curve_table(all_arms)
        write_csv(folder / "training_curves.csv", figures.CURVE_COLUMNS, curve_rows)
        if curve_rows:
            drawn["training_curves"] = _both(
                figures.training_curves(all_arms, baseline), directory, "training_curves", "png"
            )
        forest_rows = tables.forest_table(summary)
        write_csv(folder / "paired_differences.csv", tables.FOREST_COLUMNS, forest_rows)
        if any(r["difference"] is not None for r in forest_rows):
            drawn["paired_differences"] = _both(
                panels.forest(forest_rows, look), directory, "paired_differences", "svg"
            )
        bench_rows = tables.benchmark_table(summary)
        write_csv(folder / "benchmarks.csv", tables.BENCHMARK_COLUMNS, bench_rows)
        if any(r["mean"] is not None for r in bench_rows):
            drawn["benchmarks"] = _both(panels.benchmarks(bench_rows, look), directory, "benchmarks", "svg")
        beta_rows = tables.beta_table(all_arms)
        write_csv(folder / "beta_scatter.csv", tables.BETA_COLUMNS, beta_rows)
        if beta_rows:
            drawn["beta_scatter"] = _both(panels.beta_scatter(beta_rows, look), directory, "beta_scatter", "png")
        for panel in all_panels():
            panel_rows = panel.rows(matrix, summary)
            write_csv(folder / f"{panel.name}.csv", panel.columns, panel_rows)
            if panel_rows:
                drawn[panel.name] = _both(panel.draw(panel_rows, look), directory, panel.name, panel.embed)
    write_csv(folder / "beta_correlation.csv", tables.CORRELATION_COLUMNS, tables.correlation_table(summary))
    write_csv(folder / "perplexity_quantiles.csv", tables.QUANTILE_COLUMNS, tables.quantile_table(summary))
    return drawn
