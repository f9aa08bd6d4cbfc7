"""All figures of a matrix, each as PNG, SVG and PDF, with the numbers behind it in tables/ as CSV and, where short, LaTeX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reports.files import processes
from reports.page.first import heading
from reports.page.latex import write_latex
from reports.page.tables import other_tables
from reports.panels.all import all_panels
from reports.panels.base import Rows
from reports.panels.judges import COLUMNS as JUDGES
from reports.panels.style import Look, looks, save, style
from reports.runs.arms import arms
from reports.runs.records import MatrixData
from reports.schema import Summary
from reports.writing import write_csv

#: Fewer methods are drawn sooner than another process has started.
METHODS_FOR_TWO = 12
KINDS = ("png", "svg", "pdf")
#: Figures of earlier versions, which an output may still hold.
_RETIRED = ("paired_differences", "benchmarks")
#: Tables of a paper: columns, the level of the rows taken where a table has several, caption.
_PAPER: dict[str, tuple[tuple[str, ...], str | None, str]] = {
    "claims": (
        ("claim", "verdict", "role", "label", "against", "difference", "low", "high"),
        None,
        "Verdicts on the declared claims.",
    ),
    "sensitivity": (
        ("role", "label", "against", "metric", "at", "difference", "ci_low", "ci_high", "detected", "seeds", "prompts"),
        None,
        "Controls with a known effect: what this matrix detects.",
    ),
    "benchmarks": (
        ("benchmark", "metric", "label", "mean", "low", "high", "seeds", "n"),
        None,
        "Mean score of each method over its seeds with the 95 % interval.",
    ),
    "paired_differences": (
        ("benchmark", "metric", "label", "against", "difference", "low", "high", "n", "seeds", "verdict"),
        "method",
        "Paired differences to the baseline with 95 % intervals over seeds and prompts.",
    ),
    "beta_correlation": (
        ("run_id", "against", "n", "spearman", "spearman_detrended", "kendall"),
        "example",
        "Correlation of dynamic_beta over training examples; that with the loss is partly algebra.",
    ),
    "noise_floor": (
        ("benchmark", "metric", "policy", "first", "second", "difference", "item_difference", "stderr", "n", "changed"),
        None,
        "The same policy evaluated twice.",
    ),
    "judges": (
        JUDGES[:7] + JUDGES[11:14],
        None,
        "Win rates against the reference with 95 % intervals over prompts, plain and length-controlled.",
    ),
    "checklist": (("name", "state", "evidence"), None, "Reviewer's checklist."),
}


def draw_compared(matrix: MatrixData, summary: Summary) -> dict[str, Path]:
    """Write figures/*.{png,svg,pdf} and tables/*.{csv,tex}, those of the training curves apart (see `logged.py`).

    Returns for each figure drawn the file to embed in the report. A figure without data is not drawn, its old files are
    removed and its table is written without what there is to draw.
    """
    directory, folder = matrix.output_dir / "figures", matrix.output_dir / "tables"
    drawn: dict[str, Path] = {}
    made: dict[str, Rows] = {}
    tables = other_tables(summary)
    for panel in all_panels():
        rows = panel.rows(matrix, summary)
        tables[panel.name] = panel.columns, rows
        if panel.drawable(rows):
            made[panel.name], drawn[panel.name] = rows, directory / f"{panel.name}.{panel.embed}"
        else:
            _remove(directory, panel.name)
    for name in _RETIRED:
        _remove(directory, name)
    for name, (columns, rows) in tables.items():
        write_csv(folder / f"{name}.csv", columns, rows)
    for name, (columns, level, caption) in _PAPER.items():
        kept = [row for row in tables[name][1] if level is None or row.get("level") == level]
        write_latex(folder / f"{name}.tex", columns, kept, caption)
    said = f"{heading(summary.inference)} Model of inference: {summary.inference.model}."
    figure = ("figures/result.pdf", f"{all_panels()[0].caption} {said}") if "result" in drawn else None
    columns, rows = tables["results"]
    write_latex(folder / "results.tex", columns, rows if summary.inference.rows else [], said, figure)
    draw_figures(made, looks([a.label for a in arms(matrix.runs)], summary.baseline.value), directory)
    return drawn


def _remove(directory: Path, name: str) -> None:
    for kind in KINDS:
        (directory / f"{name}.{kind}").unlink(missing_ok=True)


def draw_figures(rows: Mapping[str, Rows], look: Mapping[str, Look], directory: Path) -> None:
    """Write directory/NAME.png, .svg and .pdf of every panel in `rows`, by this process and, for a large matrix, one beside it.

    An error of the other process is raised here.
    """
    if len(look) < METHODS_FOR_TWO or processes.cores() < 2:
        for name in rows:
            _draw(name, rows[name], look, directory)
        return
    with processes.pool(1) as pool:
        # The other process takes them from the end, this one from the start, until they meet.
        others = {name: pool.submit(_draw, name, rows[name], look, directory) for name in reversed(list(rows))}
        for name, other in reversed(others.items()):
            if other.cancel():
                _draw(name, rows[name], look, directory)
            else:
                other.result()


def _draw(name: str, rows: Rows, look: Mapping[str, Look], directory: Path) -> None:
    draw = {panel.name: panel.draw for panel in all_panels()}[name]
    with style():
        save(draw(rows, look), *(directory / f"{name}.{kind}" for kind in KINDS))
