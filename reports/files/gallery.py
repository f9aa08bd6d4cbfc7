"""All figures of a matrix, each as PNG and SVG, with the numbers behind it in tables/ as CSV and, where short, LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.compare import noise_floor
from reports.files.drawing import draw_figures
from reports.files.logged import draw_curves
from reports.page import tables
from reports.page.latex import write_latex
from reports.panels import judges
from reports.panels.all import all_panels
from reports.panels.style import looks
from reports.runs.arms import arms
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import write_csv

Rows = Sequence[Mapping[str, Any]]


def draw_all(matrix: MatrixData, summary: Summary) -> dict[str, Path]:
    """Write figures/*.{png,svg} and tables/*.{csv,tex}; returns for each figure drawn the file to embed in the report.

    A figure without data is not drawn, its old files are removed and its table is written with a header only.
    """
    baseline = summary.baseline.value
    return draw_curves(matrix.output_dir, arms(matrix.runs), baseline) | draw_compared(matrix, summary)


def draw_compared(matrix: MatrixData, summary: Summary) -> dict[str, Path]:
    """`draw_all` without the training curves."""
    directory, folder = matrix.output_dir / "figures", matrix.output_dir / "tables"
    drawn: dict[str, Path] = {}
    made: dict[str, Rows] = {}

    def add(name: str, columns: Sequence[str], rows: Rows, shown: bool, embed: str = "svg") -> None:
        """Write the table, and have the figure drawn later or take the old one away."""
        write_csv(folder / f"{name}.csv", columns, rows)
        if shown:
            made[name], drawn[name] = rows, directory / f"{name}.{embed}"
        else:
            for kind in ("png", "svg"):
                (directory / f"{name}.{kind}").unlink(missing_ok=True)

    forest = tables.forest_table(summary)
    add("paired_differences", tables.FOREST_COLUMNS, forest, any(r["difference"] is not None for r in forest))
    bench = tables.benchmark_table(summary)
    add("benchmarks", tables.BENCHMARK_COLUMNS, bench, any(r["mean"] is not None for r in bench))
    for panel in all_panels():
        rows = panel.rows(matrix, summary)
        add(panel.name, panel.columns, rows, bool(rows), panel.embed)
    look = looks([a.label for a in arms(matrix.runs)], summary.baseline.value)
    draw_figures(made, look, directory)
    _tables(folder, summary, forest, bench, judges.rows(matrix, summary))
    return drawn


def _tables(folder: Path, summary: Summary, forest: Rows, bench: Rows, judged: Rows) -> None:
    """The tables that have no figure, and those of a paper as LaTeX."""
    correlation = tables.correlation_table(summary)
    write_csv(folder / "beta_correlation.csv", tables.CORRELATION_COLUMNS, correlation)
    write_csv(folder / "perplexity_quantiles.csv", tables.QUANTILE_COLUMNS, tables.quantile_table(summary))
    noise = [dict(row) for row in summary.noise_floor.rows]
    write_csv(folder / "noise_floor.csv", noise_floor.COLUMNS, noise)
    claims, checks = tables.claim_table(summary), [dict(check) for check in summary.checklist]
    write_csv(folder / "claims.csv", tables.CLAIM_COLUMNS, claims)
    write_csv(folder / "checklist.csv", ("name", "state", "evidence"), checks)
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
    write_latex(
        folder / "judges.tex",
        judges.COLUMNS[:7] + judges.COLUMNS[11:14],
        judged,
        "Win rates against the reference with 95 % intervals over prompts, plain and length-controlled.",
    )
    write_latex(folder / "checklist.tex", ("name", "state", "evidence"), checks, "Reviewer's checklist.")
