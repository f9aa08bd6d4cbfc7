"""Writes the report: summary, page, Markdown, figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.beta.run import Analysed
from reports.files.gallery import draw_all, draw_compared
from reports.files.logged import logged_files
from reports.page.context import context
from reports.page.explain import explain_html
from reports.page.html import render
from reports.runs.records import MatrixData, load_matrix
from reports.schema import Summary
from reports.summary import baseline_label, build_summary
from reports.writing import write_large_json, write_text


def write_report(
    output_dir: Path | str,
    run_ids: Sequence[str],
    config: Mapping[str, Any] | None = None,
    summary: Summary | None = None,
) -> Path:
    """Write report.html, report.md, explain.html, figures/ and tables/ of a matrix; returns the path of report.html.

    `config` is the matrix file as a mapping; without it `matrix.yaml` is read. `summary` is what
    `write_matrix_files` returned for the same runs; without it the comparison is computed here. Raises ReportError
    naming a damaged file.
    """
    matrix = load_matrix(Path(output_dir), run_ids, config)
    return write_pages(matrix, summary if summary is not None else build_summary(matrix))


def write_matrix(
    output_dir: Path | str,
    run_ids: Sequence[str],
    config: Mapping[str, Any] | None = None,
    analysed: Mapping[str, Analysed] | None = None,
) -> Path:
    """`write_matrix_files` and `write_report` in one: runs are read once, curves drawn once, on two cores.

    Returns the path of report.html; raises ReportError naming a damaged file.
    """
    matrix = load_matrix(output_dir, run_ids, config)
    with logged_files(matrix, baseline_label(matrix)) as finish:
        summary = build_summary(matrix, analysed=analysed)
        write_large_json(matrix.output_dir / "summary.json", summary.plain())
        figures = draw_compared(matrix, summary)
        figures |= finish()
    return _write_documents(matrix, summary, figures)


def write_pages(matrix: MatrixData, summary: Summary) -> Path:
    """Write the report of a loaded matrix into its output directory; returns the path of report.html."""
    return _write_documents(matrix, summary, draw_all(matrix, summary))


def _write_documents(matrix: MatrixData, summary: Summary, figures: Mapping[str, Path]) -> Path:
    page, markdown = render(context(matrix, summary, figures))
    write_text(matrix.output_dir / "report.md", markdown)
    write_text(matrix.output_dir / "explain.html", explain_html())
    return write_text(matrix.output_dir / "report.html", page)
