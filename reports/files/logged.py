"""What the runs of a matrix logged, in its files: records, metrics, training curves as tables and figures.

They take as long as the comparison does and need nothing of it, so for a large matrix another process writes them meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reports.files import processes
from reports.files.metrics import COLUMNS, training_rows
from reports.panels import curves as figures
from reports.panels.style import save, style
from reports.runs.arms import arms
from reports.runs.records import MatrixData, RunData, load_run
from reports.writing import write_csv, write_records
from trainers.common.files import write_bytes

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

    Where nothing was logged the figure is not drawn. Returns what to embed in a report, by name.
    """
    write_records(root / "log_history.json", {run.run_id: run.history for run in runs})
    write_csv(root / "training_metrics.csv", COLUMNS, training_rows(runs))
    all_arms, drawn = arms(runs), {}
    for axis in figures.AXES:
        curves = figures.Curves(axis)
        rows = figures.curve_table(all_arms, curves)
        write_csv(root / "tables" / f"{axis.figure}.csv", figures.curve_columns(axis), rows)
        paths = [root / "figures" / f"{axis.figure}.{kind}" for kind in ("png", "svg", "pdf")]
        if rows:
            with style():
                save(figures.training_curves(all_arms, baseline, curves), *paths)
            drawn[axis.figure] = paths[0]
        else:
            for path in paths:
                path.unlink(missing_ok=True)
    target, by_step = root / "training_curves.png", drawn.get(figures.BY_STEP.figure)
    if by_step:
        write_bytes(target, by_step.read_bytes())
    else:
        with style():
            save(figures.training_curves(all_arms, baseline), target)
    return drawn
