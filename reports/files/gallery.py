"""All figures of a matrix, each as PNG, SVG and PDF, with the numbers behind it in tables/ as CSV and, where short, LaTeX."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reports.files import processes
from reports.files.metrics import COLUMNS, training_rows
from reports.page.first import heading
from reports.page.latex import write_latex
from reports.page.tables import other_tables
from reports.panels import curves as figures
from reports.panels.all import all_panels
from reports.panels.base import Look, Rows, looks, save, style
from reports.panels.judges import COLUMNS as JUDGES
from reports.runs import MatrixData, RunData, arms, load_run
from reports.schema import Summary
from reports.writing import write_csv, write_large_json
from trainers.common.files import write_bytes
from trainers.common.training_schema import LOG_HISTORY

# All figures of a matrix, each as PNG, SVG and PDF, with the numbers behind it in tables/ as CSV and, where short,
# LaTeX.


#: Fewer methods are drawn sooner than another process has started.
METHODS_FOR_TWO = 12
KINDS = ("png", "svg", "pdf")
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
    """Write figures/*.{png,svg,pdf} and tables/*.{csv,tex}, those of the training curves apart (see `write_logged`).

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


# What the runs of a matrix logged, in its files: records, metrics, training curves as tables and figures.
#
# They take as long as the comparison does and need nothing of it, so for a large matrix another process writes them
# meanwhile.


#: Fewer runs are written sooner than another process has started.
RUNS_FOR_TWO = 16


@contextmanager
def logged_files(matrix: MatrixData, baseline: str | None) -> Iterator[Callable[[], dict[str, Path]]]:
    """Have the files written by the time the function that this gives returns; it returns the figures drawn, by name.

    Raises ReportError naming a damaged file, from whichever process met it.
    """
    root, run_ids = matrix.output_dir, [run.run_id for run in matrix.runs]
    elsewhere = any(run.path != root / "runs" / run.run_id for run in matrix.runs)  # picked by hand, perhaps renamed
    if len(run_ids) < RUNS_FOR_TWO or elsewhere or processes.cores() < 2:
        yield lambda: write_logged(root, matrix.runs, baseline)
        return
    with processes.pool(1) as pool:
        yield pool.submit(_read_and_write, root, run_ids, baseline).result


def _read_and_write(root: Path, run_ids: Sequence[str], baseline: str | None) -> dict[str, Path]:
    return write_logged(root, [load_run(root / "runs" / name, name, scores=False) for name in run_ids], baseline)


def write_logged(root: Path, runs: Sequence[RunData], baseline: str | None) -> dict[str, Path]:
    """Write log_history.json, training_metrics.csv, training_curves.png and, for each axis, the curves' table and figure.

    Where nothing was logged the figure is not drawn, nor that by examples where every run takes as many a step: it would show
    the same. Returns what to embed in a report, by name.
    """
    write_large_json(root / LOG_HISTORY, {run.run_id: run.history for run in runs}, 2)
    write_csv(root / "training_metrics.csv", COLUMNS, training_rows(runs))
    all_arms, drawn, target = arms(runs), dict[str, Path](), root / "training_curves.png"
    a_step = {r["examples_seen"] / r["step"] for run in runs for r in run.steps if r.get("examples_seen") and r["step"]}
    for axis, (_, name) in figures.AXES.items():
        curves = figures.logged(all_arms, axis)
        rows = figures.curve_table(curves, axis) if axis == "step" or len(a_step) > 1 else []
        write_csv(root / "tables" / f"{name}.csv", ("measure", "label", axis, "mean", "low", "high", "seeds"), rows)
        paths = [root / "figures" / f"{name}.{kind}" for kind in ("png", "svg", "pdf")]
        if not rows:
            _remove(root / "figures", name)
        if rows or axis == "step":  # of a matrix without steps, an empty picture
            with style():
                save(figures.training_curves(all_arms, baseline, curves, axis), *(paths if rows else [target]))
        if rows:
            drawn[name] = paths[0]
    if "training_curves" in drawn:
        write_bytes(target, drawn["training_curves"].read_bytes())
    return drawn
