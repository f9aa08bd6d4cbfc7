"""How a number of the report was computed, and from how many: the words that hover and focus show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from reports.page.text import visible
from reports.schema import AdjustedP, ClaimP, Correlations, Estimate, Test


class Interval(Protocol):
    """Anything with the two ends of an interval."""

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A figure for a table cell; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """A p-value for a table cell: never a zero, which no test can give."""
    return "<0.001" if value is not None and value < 0.001 else number(value)


def interval(estimate: Interval | None, signed: bool = False) -> str:
    """`low to high`, or a dash."""
    if estimate is None or estimate.low is None:
        return "–"
    return f"{number(estimate.low, 3, signed)} to {number(estimate.high, 3, signed)}"


def _sizes(entry: Estimate | Test, unit: str = "prompts") -> str:
    parts = []
    if entry.seeds is not None:
        parts.append(f"{entry.seeds} seed{'' if entry.seeds == 1 else 's'}")
    if entry.n:
        parts.append(f"{entry.n} {unit}")
    return " x ".join(parts) or "nothing"


def of_estimate(entry: Estimate | None, what: str, unit: str = "prompts") -> str:
    """What an estimate with its interval is: method, sizes (n in `unit`), and the note that limits it."""
    if not entry:
        return f"{what}: not computed."
    text = f"{what}: {entry.method}; from {_sizes(entry, unit)}."
    if entry.low is not None:
        text += f" {entry.confidence:.0%} interval {interval(entry, signed=True)}."
    note = entry.note or entry.reason
    return f"{text} {note[0].upper()}{note[1:]}." if note else text


def of_test(entry: Test | None, what: str) -> str:
    """What a p-value is: the test, from how many, the minimum possible p."""
    if not entry:
        return f"{what}: no test was made."
    text = f"{what}: {entry.method}; from {_sizes(entry)}."
    if entry.smallest_p is not None:
        text += f" The minimum possible p is {p_value(entry.smallest_p)}."
    note = entry.note or entry.reason
    return f"{text} {note[0].upper()}{note[1:]}." if note else text


def of_adjusted(entry: AdjustedP | ClaimP) -> str:
    """What an adjusted p-value is: the correction and the size of its family."""
    text = f"p-value after {entry.method} over {entry.family_size} tests."
    return f"{text} None: {entry.reason}." if entry.reason else text


def of_correlation(entry: Correlations, kind: str, n: int | None) -> str:
    """What a correlation of beta is: its kind, and from how many rows."""
    return f"{kind} of dynamic_beta with {entry.against}, from {n or 0} rows."


def spot(text: Any, how: str) -> Any:
    """A number that says on hover or focus how it was computed. Tables give it the focus by arrow keys (report.js)."""
    from markupsafe import Markup

    return Markup('<span class="n" tabindex="-1" title="{}">{}</span>').format(visible(how), visible(str(text)))


def stages(seconds: Mapping[str, float]) -> str:
    """Seconds of every stage, as words."""
    return ",".join(f" {name} {value:.1f} s" for name, value in seconds.items()) + "."
