"""Writes all files of a matrix: records, metrics, summary, figures, tables, pages."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.beta.run import Analysed
from reports.compare.judges import with_length_control
from reports.compared import baseline_label
from reports.files.gallery import draw_compared, logged_files
from reports.page.context import context, render
from reports.page.explain import explain_html
from reports.runs.records import MatrixData, load_matrix
from reports.schema import Summary
from reports.summary import build_summary
from reports.writing import write_large_json, write_text


def write_report(
    output_dir: Path | str,
    run_ids: Sequence[str],
    config: Mapping[str, Any] | None = None,
    analysed: Mapping[str, Analysed] | None = None,
) -> Path:
    """`write_files` of the runs named, in that order; returns the path of report.html.

    `config` is the matrix file as a mapping; without it `matrix.yaml` is read. Raises ReportError naming a damaged file.
    """
    matrix = load_matrix(output_dir, run_ids, config)
    write_files(matrix, analysed)
    return matrix.output_dir / "report.html"


def write_files(
    matrix: MatrixData,
    analysed: Mapping[str, Analysed] | None = None,
    amend: Callable[[Summary], Summary] | None = None,
) -> Summary:
    """Write every file of a loaded matrix into its output directory; returns the summary.

    log_history.json, training_metrics.csv, training_curves.png, summary.json, figures/, tables/, report.md, explain.html and,
    last, report.html. On two cores, for a large matrix. `analysed` holds what `write_run_files` found, by run id, so that it
    need not be found again; `amend` may change the summary before anything is made from it. Raises ReportError naming a
    damaged file.
    """
    matrix = with_length_control(matrix)
    root = matrix.output_dir
    with logged_files(matrix, baseline_label(matrix)) as finish:
        summary = build_summary(matrix, analysed=analysed)
        summary = amend(summary) if amend else summary
        write_large_json(root / "summary.json", summary.plain())
        figures = draw_compared(matrix, summary)
        figures |= finish()
    page, markdown = render(context(matrix, summary, figures))
    write_text(root / "report.md", markdown)
    write_text(root / "explain.html", explain_html())
    write_text(root / "report.html", page)
    return summary
