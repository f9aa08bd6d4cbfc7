"""A CSV file with a step column, such as this project's training_metrics.csv or an export of a dashboard.

Cells may be parted by commas, semicolons or tabs; where they are not parted by commas, one inside a number is its point. A
dashboard (Weights & Biases) exports a chart of several runs as columns `RUN - METRIC`, with `__MIN` and `__MAX` beside each.
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

#: Columns that say which run a row belongs to; they are no measurements.
IDENTITY = ("run_id", "method", "rule", "seed")
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
    return "step" in names and ("loss" in names or bool(_charted(header)))


def _charted(header: Sequence[str]) -> dict[str, dict[str, str]]:
    """The runs of a dashboard's chart: {run: {column of the file: metric}}; empty where no column is some run's loss."""
    found: dict[str, dict[str, str]] = {}
    for column in header:
        run, dash, metric = column.rpartition(" - ")
        if dash and run.strip() and not metric.endswith(("__MIN", "__MAX")):
            found.setdefault(run.strip(), {})[column] = metric
    return {run: metrics for run, metrics in found.items() if "loss" in found_names(metrics.values())}


def read(path: Path, name: str) -> list[ForeignRun]:
    """The runs of a CSV file: one, or one per value of a `run_id` column. Empty cells are absent values.

    Raises:
        ReportError: no step or loss column (the columns there are named), or a cell that is no number.
    """
    groups: dict[str, list[Line]] = {}
    for line, row in rows(path):
        groups.setdefault(row.get("run_id", ""), []).append((line, row))
    if not groups:
        raise ReportError(f"{path}:2: no rows under the header")
    first = next(iter(groups.values()))
    header = list(first[0][1])
    names = found_names(c for c in header if c not in IDENTITY)
    charted = {} if "loss" in names or "step" not in names else _charted(header)
    if charted:
        return [_of_chart(path, run, first, names["step"], metrics) for run, metrics in charted.items()]
    for needed in ("step", "loss"):
        if needed not in names:
            known = ", ".join((needed, *SYNONYMS[needed]))
            raise ReportError(f"{path}:1: no column for the {needed} (known: {known}); found {', '.join(header)}")
    return [_run(path, run_id or name, group, names) for run_id, group in groups.items()]


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
    for line, row in group:
        if not row[names["step"]].strip():
            raise ReportError(f"{path}:{line}: {names['step']!r} is empty")
    cells = [(line, {k: v for k, v in row.items() if v.strip() and k not in IDENTITY}) for line, row in group]
    run.log((columns(row, names, f"{path}:{line}") for line, row in cells), names)
    run.step = max(r["step"] for r in run.history)
    methods, seeds = ({row.get(k, "").strip() for _, row in group} - {""} for k in ("method", "seed"))
    if len(methods) == 1:
        run.method = methods.pop()
    if len(seeds) == 1 and (text := seeds.pop()).isdecimal():
        run.seed = int(text)
    return run
