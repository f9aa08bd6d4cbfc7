"""What the runs of a matrix logged, in its files: records, metrics, training curves as tables and figures.

They take as long as the comparison does and need nothing of it, so for a large matrix another process writes them meanwhile.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reports.files import processes
from reports.files.metrics import COLUMNS, training_rows
from reports.panels import curves as figures
from reports.panels.style import save, style
from reports.runs.arms import Arm, arms
from reports.runs.records import MatrixData, ReportError, RunData, load_run
from reports.writing import write_atomic, write_csv, write_records

#: Fewer runs are written sooner than another process has started.
RUNS_FOR_TWO = 16


@contextmanager
def logged_files(matrix: MatrixData, baseline: str | None) -> Iterator[Callable[[], dict[str, Path]]]:
    """Have the files written by the time the function that this gives returns; it returns the figures drawn, by name.

    Raises ReportError naming a damaged file, from whichever process met it.
    """
    root, run_ids = matrix.output_dir, [run.run_id for run in matrix.runs]
    if len(run_ids) < RUNS_FOR_TWO or processes.cores() < 2:
        yield lambda: write_logged(root, matrix.runs, baseline)
        return
    with tempfile.TemporaryDirectory(prefix="logged-") as folder:
        task = Path(folder) / "task.pickle"
        task.write_bytes(pickle.dumps((run_ids, baseline)))
        other = processes.start("reports.files.logged", root.absolute(), task)

        def finish() -> dict[str, Path]:
            _, said = other.communicate()
            if other.returncode == 2:
                raise ReportError(said.strip())
            if other.returncode:
                raise RuntimeError(f"writing what runs logged ended with {other.returncode}: {said[-2000:]}")
            places = {axis.figure: root / "figures" / f"{axis.figure}.png" for axis in figures.AXES}
            return {name: path for name, path in places.items() if path.is_file()}

        try:
            yield finish
        finally:
            if other.poll() is None:
                other.kill()
                other.communicate()


def write_logged(root: Path, runs: Sequence[RunData], baseline: str | None) -> dict[str, Path]:
    """Write log_history.json, training_metrics.csv, training_curves.png, and what `draw_curves` does."""
    write_records(root / "log_history.json", {run.run_id: run.history for run in runs})
    write_csv(root / "training_metrics.csv", COLUMNS, training_rows(runs))
    all_arms = arms(runs)
    drawn = draw_curves(root, all_arms, baseline)
    by_step = figures.BY_STEP.figure
    if by_step in drawn:
        write_atomic(root / "training_curves.png", drawn[by_step].read_bytes())
    else:
        figures.save_training_curves(all_arms, root / "training_curves.png", baseline)
    return drawn


def draw_curves(root: Path, all_arms: Sequence[Arm], baseline: str | None) -> dict[str, Path]:
    """Write the curves' tables, and their figures where anything was logged; returns what to embed in a report, by name."""
    drawn: dict[str, Path] = {}
    for axis in figures.AXES:
        curves = figures.Curves(axis)
        rows = figures.curve_table(all_arms, curves)
        write_csv(root / "tables" / f"{axis.figure}.csv", figures.curve_columns(axis), rows)
        paths = [root / "figures" / f"{axis.figure}.{kind}" for kind in ("png", "svg")]
        if rows:
            with style():
                save(figures.training_curves(all_arms, baseline, curves), *paths)
            drawn[axis.figure] = paths[0]
        else:
            for path in paths:
                path.unlink(missing_ok=True)
    return drawn


def main(arguments: Sequence[str]) -> int:
    """The process beside: `python -m reports.files.logged OUTPUT TASK`."""
    root, task = Path(arguments[0]), Path(arguments[1])
    # Written by the process that started this one, into a folder that only this user can open.
    run_ids, baseline = pickle.loads(task.read_bytes())
    try:
        write_logged(root, [load_run(root / "runs" / name, name, scores=False) for name in run_ids], baseline)
    except ReportError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
