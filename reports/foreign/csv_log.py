"""A CSV file with a step column, such as this project's training_metrics.csv or an export of a dashboard.

Cells may be parted by commas, semicolons or tabs; where they are not parted by commas, one inside a number is its point. A
dashboard (Weights & Biases) exports a chart of several runs as columns `RUN - METRIC`, with `__MIN` and `__MAX` beside each; a
history may have one row for each step and metric (MLflow), or a column that names the run (trackio). A table with one row for
each run is refused: it holds last values, not steps.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from reports.foreign.sources import ForeignRun
from reports.foreign.synonyms import SYNONYMS, columns, found_names
from reports.runs.records import ReportError

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

_DECIMAL_COMMA = re.compile(r"\s*([-+]?\d+),(\d+(?:[eE][-+]?\d+)?)\s*")


def _reader(file: TextIO, strict: bool = True) -> tuple[Any, str]:
    """A reader of the file from its start, and what parts its cells."""
    first = file.readline()
    delimiter = next((d for d in ",;\t" if d in first), ",")
    file.seek(0)
    return csv.reader(file, strict=strict, delimiter=delimiter), delimiter


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
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
                    cells = [_DECIMAL_COMMA.sub(r"\1.\2", c) if _DECIMAL_COMMA.fullmatch(c) else c for c in cells]
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


def _by_metric(header: Sequence[str]) -> tuple[str, str] | None:
    """The columns that name a metric and hold its value, where each row is one figure."""
    metric, value = _first(header, _METRIC), _first(header, _VALUE)
    return (metric, value) if metric and value and "loss" not in found_names(header) else None


def _pivoted(lines: Sequence[Line], step: str, metric: str, value: str) -> list[Line]:
    """Rows of one figure each as rows of a step; a figure that comes again begins another row."""
    found: list[Line] = []
    at: dict[str, int] = {}
    for line, row in lines:
        place = at.get(row[step])
        if place is None or row[metric] in found[place][1]:
            place = at[row[step]] = len(found)
            found.append((line, {key: cell for key, cell in row.items() if key not in (metric, value)}))
        found[place][1][row[metric]] = row[value]
    return found


def _refuse_table(
    path: Path, header: Sequence[str], groups: Mapping[tuple[str, ...], Sequence[Line]], named: bool
) -> None:
    """Refuse a table with one row for each run.

    Raises:
        ReportError: it is one; with what to export instead.
    """
    plain = [column.strip().lower() for column in header]
    marks = [c for c, p in zip(header, plain, strict=True) if p in _OF_RUNS or p.startswith(("metrics.", "params."))]
    sure = {"state", "created"} <= set(plain) or any(p.startswith(("metrics.", "params.")) for p in plain)
    single = named and all(len(rows) == 1 for rows in groups.values()) and (len(groups) > 1 or bool(marks))
    if sure or single:
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
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line, row in lines:
        groups.setdefault(tuple(row[key] for key in keys), []).append((line, row))
    _refuse_table(path, header, groups, by is not None)
    first = next(iter(groups.values()))
    names = found_names(c for c in header if c.strip().lower() not in IDENTITY)
    if "step" in names and (pair := _by_metric(header)) is not None:
        groups = {key: _pivoted(group, names["step"], *pair) for key, group in groups.items()}
        found = {column for group in groups.values() for _, row in group for column in row}
        names = found_names(sorted(column for column in found if column.strip().lower() not in IDENTITY))
    charted = {} if "loss" in names or "step" not in names else _charted(header)
    if charted:
        return [_of_chart(path, run, first, names["step"], metrics) for run, metrics in charted.items()]
    for needed in ("step", "loss"):
        if needed not in names:
            known = ", ".join((needed, *SYNONYMS[needed]))
            raise ReportError(f"{path}:1: no column for the {needed} (known: {known}); found {', '.join(header)}")
    own = by is not None or len(groups) > 1
    return [_run(path, "-".join(key) if own and any(key) else name, group, names) for key, group in groups.items()]


def _of_chart(path: Path, name: str, group: Sequence[Line], step: str, metrics: Mapping[str, str]) -> ForeignRun:
    own = [
        (line, {step: row[step], **{metric: row[column] for column, metric in metrics.items()}})
        for line, row in group
        if any(row[column].strip() for column in metrics)
    ]
    if not own:
        raise ReportError(f"{path}:2: no row holds a value of the run {name!r}")
    return _run(path, name, own, found_names([step, *metrics.values()]))


def _run(path: Path, name: str, group: Sequence[Line], names: Mapping[str, str]) -> ForeignRun:
    run = ForeignRun(name, path.parent, notes=["a CSV file does not say whether training ended"])
    run.came_from("CSV", path)
    step, loss = names["step"], names["loss"]
    cells = [(line, {k: v for k, v in row.items() if v.strip().lower() not in _EMPTY}) for line, row in group]
    placed = []
    for line, row in cells:
        if row.get(step, _NAN).lower() != _NAN:
            placed.append((line, row))
        elif row.get(loss, _NAN).lower() != _NAN:
            raise ReportError(f"{path}:{line}: {step!r} is empty")
    if len(placed) < len(cells):  # dashboards log the machine's state in rows between the steps
        run.notes.append(f"{len(cells) - len(placed)} rows without a step and a loss are left out")
    losses: dict[str, tuple[int, str]] = {}
    for line, row in placed:
        before = losses.setdefault(row[step], (line, row[loss])) if loss in row else (line, "")
        if loss in row and before[1] != row[loss]:
            raise ReportError(
                f"{path}:{line}: step {row[step]} stands on line {before[0]} too, with another {loss}; rows of several runs "
                "need a column run_id, and of a resumed run only the later rows can stay"
            )
    measured = ((line, {k: v for k, v in row.items() if k.strip().lower() not in IDENTITY}) for line, row in placed)
    run.log((columns(row, names, f"{path}:{line}") for line, row in measured), names)
    if not run.history:
        raise ReportError(f"{path}:{group[0][0]}: no row of {name!r} has a step")
    run.step = max(r["step"] for r in run.history)
    methods, seeds = ({row.get(k, "").strip() for _, row in group} - {""} for k in ("method", "seed"))
    if len(methods) == 1:
        run.method = methods.pop()
    if len(seeds) == 1 and (text := seeds.pop()).isdecimal():
        run.seed = int(text)
    return run
