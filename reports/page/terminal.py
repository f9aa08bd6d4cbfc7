"""The end of a matrix run on a terminal: the first screen of the report in at most 25 lines of 80 columns."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from reports.page import first
from reports.page.text import plain_table, visible
from reports.runs.records import ReportError
from reports.schema import Summary, read_summary

if TYPE_CHECKING:
    from rich.console import Console

LINES, WIDTH = 25, 80
#: Lines that a sentence may take before it is cut: the report has all of it.
MOST = 3
HEADER = ("method", "diff", "95 % interval", "adj. p", "verdict", "score", "KL", "len")


def _wrapped(text: str, most: int = MOST) -> list[str]:
    return textwrap.wrap(visible(text), WIDTH, max_lines=most, placeholder=" ...", break_on_hyphens=False)


def _table(summary: Summary, room: int) -> list[str]:
    """As many rows as there is room for; names are cut so that no line is too long."""
    texts = first.rows_of_text(summary.inference)
    rows = [[t[0], t[1], t[2].replace(" to ", ".."), t[3], t[4].replace("more than", ">"), *t[5:8]] for t in texts]
    if not rows:
        return []
    shown = rows if len(rows) <= room else rows[: room - 1]
    others = len(plain_table(HEADER, [["", *row[1:]] for row in shown]).splitlines()[0]) - len("method")
    most = max(8, WIDTH - others)
    names = [visible(row[0]) for row in shown]
    named = [n if len(n) <= most else f"{n[: most - 3]}..." for n in names]
    lines = plain_table(HEADER, [[n, *row[1:]] for n, row in zip(named, shown, strict=True)]).splitlines()
    return lines + [f"and {len(rows) - len(shown)} more in the report"] * (len(rows) > len(shown))


def summary_lines(summary: Summary, page: Path) -> list[str]:
    """Head, answer, table, instrument, failed runs, checklist, and where the page is: at most LINES lines."""
    verdict = summary.verdict
    top = _wrapped(" | ".join([*first.head(summary), verdict.kind]), 3)
    top += _wrapped(summary.sensitivity.positive.sentence) if summary.sensitivity else []
    top += [line for sentence in verdict.answer for line in _wrapped(sentence)]
    facts = "; ".join(f"{fact.name}: {fact.value}" for fact in first.instrument(summary))
    end = _wrapped(f"Instrument: {facts}.", 3) if summary.kind == "matrix" else []
    lost = [f"{r.state} {r.run_id}{f': {r.error}' if r.error else ''}" for r in summary.runs if r.state != "done"]
    end += [line for text in lost[:2] for line in _wrapped(text, 1)]
    end += [f"and {len(lost) - 2} more runs that did not finish"] * (len(lost) > 2)
    end += _wrapped(f"Checklist: {first.checklist(summary)}", 2) if summary.checklist else []
    end += _wrapped(f"Report: {page}", 2)
    room = LINES - len(top) - len(end) - 3
    table = _table(summary, max(room, 2))
    return [*top, *([""] if table else []), *table, *([""] if table else []), *end]


def print_summary(output_dir: Path | str, console: Console | None = None) -> None:
    """Print `summary_lines` of a directory's summary.json. Raises ReportError when there is none."""
    from rich.console import Console

    path = Path(output_dir) / "summary.json"
    if not path.exists():
        raise ReportError(f"{path}: no summary yet; run the matrix's report stage first")
    out, summary = console or Console(), read_summary(path)
    answer = {line for sentence in summary.verdict.answer for line in _wrapped(sentence)}
    for line in summary_lines(summary, path.with_name("report.html")):
        out.print(line, style="bold" if line in answer else None, markup=False, highlight=False, soft_wrap=True)
