"""A CSV file with a step column, such as this project's training_metrics.csv or an export of a dashboard.

Cells may be parted by commas, semicolons or tabs; where they are not parted by commas, one inside a number is its point. A
dashboard (Weights & Biases) exports a chart of several runs as columns `RUN - METRIC`, with `__MIN` and `__MAX` beside each; a
history may have one row for each step and metric (MLflow), or a column that names the run (trackio). A table with one row for
each run is refused: it holds last values, not steps.
"""

import csv
import gzip
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from reports.foreign.sources import ForeignRun
from reports.foreign.synonyms import SYNONYMS, columns, found_names
from reports.runs import ReportError, grouped

#: Columns that say which run a row belongs to, without case; they are no measurements.
RUN_NAMES = ("run_id", "run id", "run_name", "run name", "run", "name")
IDENTITY = (*RUN_NAMES, "method", "rule", "seed")
#: Columns of tables of runs: those of Weights & Biases, and those that MLflow's page and its search_runs write.
_OF_RUNS = {"state", "created", "runtime", "sweep", "status", "start time", "duration", "start_time", "end_time"}
#: Columns of a history with one row for each step and metric.
_METRIC, _VALUE = ("key", "metric", "metric_name", "tag"), ("value", "metric_value")
#: Cells without a value.
_EMPTY = ("", "null", "none", "na", "n/a", "<na>")
_NAN = "nan"
#: Number of a line, and its cells by column.
Line = tuple[int, dict[str, str]]

#: A whole cell that is a number with a comma for its point.
_DECIMAL_COMMA = re.compile(r"^\s*([-+]?\d+),(\d+(?:[eE][-+]?\d+)?)\s*$")


def _reader(file: TextIO, strict: bool = True) -> tuple[Any, str]:
    """A reader of the file from its start, and what parts its cells."""
    first = file.readline()
    delimiter = next((d for d in ",;\t" if d in first), ",")
    file.seek(0)
    return csv.reader(file, strict=strict, delimiter=delimiter), delimiter


def rows(path: Path) -> Iterator[Line]:
    """Line number and cells of every row. ReportError for text that is no CSV or a row of another length."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader, delimiter = _reader(file)
            header = next(reader, None)
            if not header:
                raise ReportError(f"{path}:1: an empty file; a header is needed")
            double = next((name for name in header if header.count(name) > 1), None)
            if double is not None:
                raise ReportError(f"{path}:1: the column {double!r} appears twice")
            for cells in filter(None, reader):
                if len(cells) != len(header):
                    raise ReportError(f"{path}:{reader.line_num}: {len(cells)} cells under {len(header)} columns")
                if delimiter != ",":
                    cells = [_DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in cells]
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ReportError(f"{path}:{reader.line_num}: not CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from None


def has_steps(path: Path) -> bool:
    """Whether the file's header names a step and a loss; other CSV files are none of this module's business."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header: list[str] = next(_reader(file, strict=False)[0], [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    names = found_names(header)
    return "step" in names and ("loss" in names or bool(_charted(header)) or _by_metric(header) is not None)


def _first(header: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `names` that is a column, as it is written there."""
    columns = {column.strip().lower(): column for column in header}
    return next((columns[name] for name in names if name in columns), None)


def _measures(columns: Iterable[str]) -> list[str]:
    """The columns without those that say which run it is."""
    return [column for column in columns if column.strip().lower() not in IDENTITY]


def _by_metric(header: Sequence[str]) -> tuple[str, str] | None:
    """The columns that name a metric and hold its value, where each row is one figure."""
    metric, value = _first(header, _METRIC), _first(header, _VALUE)
    return (metric, value) if metric and value and "loss" not in found_names(header) else None


def _pivoted(lines: Sequence[Line], step: str, metric: str, value: str) -> list[Line]:
    """Rows of one figure each as rows of a step; a figure that comes again begins another row."""
    found: list[Line] = []
    at: dict[str, dict[str, str]] = {}
    for line, row in lines:
        now = at.get(row[step])
        if now is None or row[metric] in now:
            now = at[row[step]] = {key: cell for key, cell in row.items() if key not in (metric, value)}
            found.append((line, now))
        now[row[metric]] = row[value]
    return found


def _refuse_table(path: Path, header: Sequence[str], each_once: bool, several: bool) -> None:
    """Refuse a table with one row for each run. `each_once`: every row names its run, another one; `several`: more than one.

    Raises:
        ReportError: it is one; with what to export instead.
    """
    plain = [column.strip().lower() for column in header]
    spread = [name.startswith(("metrics.", "params.")) for name in plain]
    marks = [c for c, p, out in zip(header, plain, spread, strict=True) if out or p in _OF_RUNS]
    if any(spread) or {"state", "created"} <= set(plain) or (each_once and (several or marks)):
        shown = f" ({', '.join(marks[:4])})" if marks else ""
        raise ReportError(
            f"{path}:1: a table of runs{shown}: one row for each run with its last values, not its steps; export the charts "
            "as CSV, or the history of each run (W&B: run.history().to_csv(FILE); MLflow: client.get_metric_history)"
        )


def _charted(header: Sequence[str]) -> dict[str, dict[str, str]]:
    """The runs of a dashboard's chart: {run: {column of the file: metric}}; empty where no column is some run's loss."""
    found: dict[str, dict[str, str]] = {}
    for column in header:
        run, dash, metric = column.rpartition(" - ")
        if dash and run.strip() and not metric.endswith(("__MIN", "__MAX")):
            found.setdefault(run.strip(), {})[column] = metric
    return {run: metrics for run, metrics in found.items() if "loss" in found_names(metrics.values())}


def read(path: Path, name: str) -> list[ForeignRun]:
    """The runs of a CSV file: one, or one for each value of a column that names runs. Empty cells are absent values.

    Raises:
        ReportError: no step or loss column (the columns there are named), a table of runs, a cell that is no number, or a step
            that is there twice with different losses.
    """
    lines = list(rows(path))
    if not lines:
        raise ReportError(f"{path}:2: no rows under the header")
    header = list(lines[0][1])
    by = _first(header, RUN_NAMES)
    keys = [by] if by else [column for column in header if column in IDENTITY]
    groups = grouped((tuple(line[1][key] for key in keys), line) for line in lines)
    _refuse_table(path, header, by is not None and len(groups) == len(lines), len(groups) > 1)
    names = found_names(_measures(header))
    if "step" in names and (pair := _by_metric(header)) is not None:
        groups = {key: _pivoted(group, names["step"], *pair) for key, group in groups.items()}
        header = sorted({column for group in groups.values() for _, row in group for column in row})
        names = found_names(_measures(header))
    if "step" in names and "loss" not in names and (charted := _charted(header)):
        step, (first, *_) = names["step"], groups.values()
        return [
            _run(
                path,
                run,
                [
                    (line, {step: row[step], **{metric: row[column] for column, metric in metrics.items()}})
                    for line, row in first
                    if any(row[column].strip() for column in metrics)
                ],
                found_names([step, *metrics.values()]),
            )
            for run, metrics in charted.items()
        ]
    for needed in ("step", "loss"):
        if needed not in names:
            known = ", ".join((needed, *SYNONYMS[needed]))
            raise ReportError(f"{path}:1: no column for the {needed} (known: {known}); found {', '.join(header)}")
    own = by is not None or len(groups) > 1
    return [_run(path, "-".join(key) if own and any(key) else name, group, names) for key, group in groups.items()]


def _known(row: Mapping[str, str], column: str) -> bool:
    return row.get(column, _NAN).lower() != _NAN


def _run(path: Path, name: str, group: Sequence[Line], names: Mapping[str, str]) -> ForeignRun:
    run = ForeignRun(name, path.parent, notes=["a CSV file does not say whether training ended"])
    run.came_from("CSV", path)
    step, loss = names["step"], names["loss"]
    cells = [(line, {k: v for k, v in row.items() if v.strip().lower() not in _EMPTY}) for line, row in group]
    placed = [(line, row) for line, row in cells if _known(row, step)]
    for line, row in cells:
        if _known(row, loss) and not _known(row, step):
            raise ReportError(f"{path}:{line}: {step!r} is empty")
    losses: dict[str, tuple[int, str]] = {}
    if len(placed) < len(cells):  # dashboards log the machine's state in rows between the steps
        run.notes.append(f"{len(cells) - len(placed)} rows without a step and a loss are left out")
    for line, row in placed:
        if loss in row and (before := losses.setdefault(row[step], (line, row[loss])))[1] != row[loss]:
            raise ReportError(
                f"{path}:{line}: step {row[step]} stands on line {before[0]} too, with another {loss}; rows of several runs "
                "need a column run_id, and of a resumed run only the later rows can stay"
            )
    run.log((columns({k: row[k] for k in _measures(row)}, names, f"{path}:{line}") for line, row in placed), names)
    if not run.history:
        raise ReportError(f"{path}:{group[0][0] if group else 2}: no row of {name!r} has a step")
    run.step = max(r["step"] for r in run.history)
    methods, seeds = ({row.get(k, "").strip() for _, row in group} - {""} for k in ("method", "seed"))
    if len(methods) == 1:
        run.method = methods.pop()
    if len(seeds) == 1 and (text := seeds.pop()).isdecimal():
        run.seed = int(text)
    return run
