"""All figures of a matrix, each as PNG and SVG, with the numbers behind it in tables/ as CSV and, where short, LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import figures, noise_floor, panels, tables
from .labels import arms
from .latex import write_latex
from .panel import all_panels
from .records import MatrixData
from .style import looks, save, style
from .writing import write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]


def _both(figure: Figure, directory: Path, name: str, embed: str) -> Path:
    save(figure, directory / f"{name}.png", directory / f"{name}.svg")
    return directory / f"{name}.{embed}"


def draw_all(matrix: MatrixData, summary: Mapping[str, Any]) -> dict[str, Path]:
    """Write figures/*.{png,svg} and tables/*.{csv,tex}; returns for each figure drawn the file to embed in the report.

    A figure without data is not drawn, its old files are removed and its table is written with a header only.
    """
    directory, folder = matrix.output_dir / "figures", matrix.output_dir / "tables"
    all_arms = arms(matrix.runs)
    baseline = summary["baseline"]["value"]
    look = looks([a.label for a in all_arms], baseline)
    drawn: dict[str, Path] = {}

    def one(
        name: str, columns: Sequence[str], rows: Rows, show: bool, draw: Callable[[], Figure], embed: str = "svg"
    ) -> None:
        write_csv(folder / f"{name}.csv", columns, rows)
        if show:
            drawn[name] = _both(draw(), directory, name, embed)
        else:
            for kind in ("png", "svg"):
                (directory / f"{name}.{kind}").unlink(missing_ok=True)

    with style():
        for axis in figures.AXES:
            rows = figures.curve_table(all_arms, axis)
            one(
                axis.figure,
                figures.curve_columns(axis),
                rows,
                bool(rows),
                lambda axis=axis: figures.training_curves(all_arms, baseline, axis),  # type: ignore[misc]
                "png",
            )
        forest = tables.forest_table(summary)
        shown = any(r["difference"] is not None for r in forest)
        one("paired_differences", tables.FOREST_COLUMNS, forest, shown, lambda: panels.forest(forest, look))
        bench = tables.benchmark_table(summary)
        shown = any(r["mean"] is not None for r in bench)
        one("benchmarks", tables.BENCHMARK_COLUMNS, bench, shown, lambda: panels.benchmarks(bench, look))
        for panel in all_panels():
            rows = panel.rows(matrix, summary)
            one(
                panel.name,
                panel.columns,
                rows,
                bool(rows),
                lambda panel=panel, rows=rows: panel.draw(rows, look),  # type: ignore[misc]
                panel.embed,
            )
    _tables(folder, summary, forest, bench)
    return drawn


def _tables(folder: Path, summary: Mapping[str, Any], forest: Rows, bench: Rows) -> None:
    """The tables that have no figure, and those of a paper as LaTeX."""
    correlation = tables.correlation_table(summary)
    write_csv(folder / "beta_correlation.csv", tables.CORRELATION_COLUMNS, correlation)
    write_csv(folder / "perplexity_quantiles.csv", tables.QUANTILE_COLUMNS, tables.quantile_table(summary))
    noise = summary["noise_floor"]["rows"]
    write_csv(folder / "noise_floor.csv", noise_floor.COLUMNS, noise)
    claims = tables.claim_table(summary)
    write_csv(folder / "claims.csv", tables.CLAIM_COLUMNS, claims)
    write_csv(folder / "checklist.csv", ("name", "state", "evidence"), summary["checklist"])
    write_latex(folder / "claims.tex", tables.CLAIM_COLUMNS[:8], claims, "Verdicts on the declared claims.")
    write_latex(
        folder / "benchmarks.tex",
        tables.BENCHMARK_COLUMNS[:-1],
        bench,
        "Mean score of each method over its seeds with the 95 % interval.",
    )
    methods = [row for row in forest if row["level"] == "method"]
    write_latex(
        folder / "paired_differences.tex",
        ("benchmark", "metric", "label", "against", "difference", "low", "high", "n", "seeds", "verdict"),
        methods,
        "Paired differences to the baseline with 95 % intervals over seeds and prompts.",
    )
    examples = [row for row in correlation if row.get("level") == "example"]
    write_latex(
        folder / "beta_correlation.tex",
        ("run_id", "against", "n", "spearman", "spearman_detrended", "kendall"),
        examples,
        "Correlation of dynamic_beta over training examples; that with the loss is partly algebra.",
    )
    write_latex(
        folder / "noise_floor.tex",
        noise_floor.COLUMNS[:-1],
        noise,
        "The same policy evaluated twice.",
    )
    write_latex(folder / "checklist.tex", ("name", "state", "evidence"), summary["checklist"], "Reviewer's checklist.")
