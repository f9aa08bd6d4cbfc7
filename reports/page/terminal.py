"""The end of a matrix run on a terminal: the same verdicts as the report, in 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reports.page.text import visible
from reports.runs.records import ReportError
from reports.schema import Estimate, read_summary

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {
    "better": "[green]better[/]",
    "worse": "[red]worse[/]",
    "inconclusive": "inconclusive",
    "unsettled": "[yellow]unsettled[/]",
    "no_data": "[dim]no data[/]",
}


def _number(value: float | None, signed: bool = False) -> str:
    return "-" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def _interval(estimate: Estimate) -> str:
    return "-" if estimate.low is None else f"{estimate.low:+.3f} .. {estimate.high:+.3f}"


def print_summary(output_dir: Path | str, console: Console | None = None) -> None:
    """Print the verdict, the primary metric per method, and the runs that did not finish, from summary.json.

    Raises ReportError when the directory has no summary.json.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    path = Path(output_dir) / "summary.json"
    if not path.exists():
        raise ReportError(f"{path}: no summary yet; run the matrix's report stage first")
    summary = read_summary(path)
    out = console or Console()

    def safe(text: object) -> str:
        return escape(visible(str(text)))

    if summary.sensitivity:
        out.print(f"\n{safe(summary.sensitivity.sentence)}")
    out.print(f"\n[bold]{safe(summary.verdict.headline)}[/]")
    if summary.verdict.over_reference:
        out.print(safe(summary.verdict.over_reference))
    for claim in summary.claims.judged:
        out.print(f"- claim {safe(claim.sentence)}")
    for change in summary.claims.changes:
        out.print(f"[red]- {safe(change)}[/]")
    primary = next((m for m in summary.metrics if m.primary), None)
    if primary is not None:
        baseline = summary.baseline.value
        versus = {c.label: c for c in primary.comparisons if c.against == baseline}
        table = Table(box=box.SIMPLE_HEAD, title=safe(summary.primary.value), title_justify="left", pad_edge=False)
        for name in ("method", "mean", "seeds", "diff", "95 % interval", "verdict"):
            table.add_column(
                name,
                justify="right" if name in ("mean", "seeds", "diff") else "left",
                overflow="fold" if name == "method" else "ellipsis",
            )
        if primary.reference:
            table.add_row("reference policy", _number(primary.reference.value), "", "", "", "")
        for method in primary.methods:
            found = versus.get(method.label)
            planned = len(method.policies) + len(method.absent)
            seeds = f"{len(method.policies)}/{planned}"
            tail = (
                ["", "", "baseline" if method.label == baseline else ""]
                if found is None
                else [
                    _number(found.difference.value, True),
                    _interval(found.difference),
                    MARKS[found.verdict.code],
                ]
            )
            table.add_row(safe(method.label), _number(method.mean.value), seeds, *tail)
        out.print(table)
    for entry in summary.verdict.sentences:
        out.print(f"- {safe(entry.sentence)}")
    if summary.scope:
        out.print(" ".join(map(safe, filter(None, (summary.scope.sentence, summary.scope.seed_spread)))))
    tests = summary.tests
    out.print(
        f"[dim]Method-level tests: {tests.declared} declared (Holm), {tests.exploratory} exploratory "
        f"(Benjamini-Hochberg); {tests.checkpoint_level} between checkpoints.[/]"
    )
    gaps = [c.name for c in summary.checklist if c.state != "pass"]
    if gaps:
        out.print(f"Evidence missing: {safe('; '.join(gaps))}.")
    for run in summary.runs:
        if run.state != "done":
            why = f": {run.error}" if run.error else ""
            out.print(f"[red]{safe(run.state)}[/] {safe(run.run_id)}{safe(why)}")
