"""How a number was computed, and from how many: the words that hover and focus show, in tables and in sentences."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from reports.page.text import visible
from reports.schema import (
    AdjustedP,
    Association,
    Check,
    ClaimP,
    Collapse,
    Estimate,
    InferenceRow,
    JudgedClaim,
    Summary,
    Test,
)
from reports.statistics.family import MEANINGS

#: Not inside a name, a version, a date or a fraction of another number.
_NUMBER = r"(?<![\w.:@/#-])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?:\s?%)?(?![\w\]]|[-:.]\d)"
#: Comparisons told one by one; of more, the first.
MOST = 6

TESTS = {
    "declared": "Comparisons of a method under test with the baseline on the primary metric that have a p-value.",
    "exploratory": "All other comparisons between methods, controls and the reference, over all metrics, that have a p-value.",
    "checkpoint_level": "Pairs of checkpoints of one seed that were tested on their prompts, over all metrics and comparisons.",
}
RUNS = "Runs of the matrix, counted by the state in their status.json; a planned run without one is missing."
SPREAD = "One-way random effects over draws of the pairs: between draws it is the data, within them order and initialisation."
#: By the first words of a line of the checklist.
CHECKS = {
    "Claims and plan": "The analysis plan of claims.json, frozen before training, compared with what is analysed now.",
    "Planted effect": "Controls of the matrix file's `sensitivity`, judged as a claim is.",
    "At least 5 finished": "Runs in state done, counted for each method and setting.",
    "Controls present": "Methods with a run in state done.",
    "Equal tuning": "Settings in the matrix, counted for each method; controls follow their method and are not counted.",
    "Best baseline": "Settings of the baseline's method in the matrix, ranked by the primary metric.",
    "Compared at matched KL": "Mean difference to the baseline where both have the same KL to the reference, each run's reward "
    "interpolated between its evaluated points.",
    "Answer length": "Mean over the policies of a method of the mean length of their answers to the benchmark's prompts.",
    "Verifiable reward": "Kinds of the benchmarks that were scored, and judges whose comparisons are complete.",
    "Held-out prompts": "Prompts of every benchmark compared with the prompts of the training data.",
    "Tests counted": "Comparisons that have a p-value: declared ones are of methods under test with the baseline on the primary "
    "metric, exploratory ones all others, those of checkpoints are within one seed.",
    "Failed runs": RUNS,
}


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


def of_correlation(entry: Association, kind: str) -> str:
    """What a correlation of beta is: its kind, and from how many rows."""
    return f"{kind} of dynamic_beta with {entry.against}, from {entry.n} rows."


def spot(text: Any, how: str) -> Any:
    """A number that says on hover or focus how it was computed. Tables give it the focus by arrow keys (report.js)."""
    from markupsafe import Markup

    return Markup('<span class="n" tabindex="-1" title="{}">{}</span>').format(visible(how), visible(str(text)))


def stages(seconds: Mapping[str, float]) -> str:
    """Seconds of every stage, as words."""
    return ",".join(f" {name} {value:.1f} s" for name, value in seconds.items()) + "."


# Numbers inside sentences.


@functools.lru_cache(maxsize=8)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    kept = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(
        rf"(?P<name>(?<!\w)(?:{kept})(?!\w))|(?P<number>{_NUMBER})" if kept else rf"(?P<number>{_NUMBER})"
    )


def numbers(text: Any, said: str, names: Iterable[str] = ()) -> Any:
    """The sentence with `said` behind each of its numbers.

    Digits in `names` (of methods, metrics, ...) are none of them, nor is the 95 % of an interval.
    """
    from markupsafe import Markup, escape

    text = str(text)
    out, at = Markup(), 0
    for hit in _pattern(tuple(filter(None, names))).finditer(text):
        if hit.lastgroup == "number" and not re.fullmatch(r"95\s?%", hit[0]):
            out += escape(visible(text[at : hit.start()])) + spot(hit[0], said)
            at = hit.end()
    return out + escape(visible(text[at:]))


def of_row(row: InferenceRow, model: str) -> str:
    """What the numbers of the first table's row are: the model, its sizes, the correction, and what is missing."""
    parts = [of_estimate(row.difference, "Mean paired difference"), f"Model: {model}.", of_adjusted(row.adjusted_p)]
    parts.append(f"{row.verdict.capitalize()}: {MEANINGS[row.verdict]}.")
    return " ".join([*parts, *(f"{text}." for text in row.failures)])


def of_answer(summary: Summary) -> str:
    """What the numbers of the answer are."""
    known = [r for r in summary.inference.rows if r.difference.value is not None]
    parts = [of_estimate(r.difference, f"{r.label} - {r.against}") for r in known[:MOST]]
    return " ".join(parts) or RUNS


def of_sensitivity(summary: Summary) -> str:
    """What the numbers of the controls with a known effect are."""
    found = summary.sensitivity
    parts = [] if found is None else [found.positive, *([found.weak] if found.weak else []), found.negative]
    said = [f"{c.role}: standard error {number(c.standard_error)}" for c in parts]
    return f"Mean paired differences to a fixed beta of the same mean, seeds and prompts as samples. {', '.join(said)}."


def of_claim(entry: JudgedClaim) -> str:
    """What the numbers of a judged claim are: every difference it rests on, the test and the size of its family."""
    parts = [of_estimate(c.difference, f"{c.label} - {c.against}") for c in entry.comparisons[:MOST]]
    p = entry.adjusted_p
    parts.append(f"p-value: t test over seeds and prompts, after {p.method} over {p.family_size} claims.")
    parts.append(f"{entry.verdict.capitalize()}: {MEANINGS[entry.verdict]}.")
    parts.append("Seeds and prompts needed: by the spread seen here, with power .80.")
    return " ".join(parts)


def of_check(entry: Check, summary: Summary) -> str:
    """What the numbers in the evidence of one line of the checklist are."""
    said = next((text for name, text in CHECKS.items() if entry.name.startswith(name)), None)
    if said is None:
        return "Counted in the files of the runs."
    if entry.name.startswith("Compared at matched KL"):
        found = [c for c in summary.frontiers.comparisons if c.matched.difference.value is not None]
        said += "".join(" " + of_estimate(c.matched.difference, f"{c.label} - {c.against}") for c in found[:MOST])
    return said


def of_collapse(entry: Collapse) -> str:
    """Where a run's beta was found collapsed."""
    return f"The first of {entry.records} logged steps at which the trainer found beta at a bound or without spread."


def sizes(rows: Sequence[Mapping[str, Any]], against: Sequence[str] = ("reference",)) -> str:
    """From how many a figure is drawn: its rows, methods, seeds and runs, and the n of a row."""
    found = [f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"]
    methods = {row["label" if "label" in row else "method"] for row in rows if "label" in row or "method" in row}
    methods -= set(against)
    if methods:
        settings = ", each setting counted" if any("[" in str(name) for name in methods) else ""
        found.append(f"{len(methods)} method{'' if len(methods) == 1 else 's'}{settings}")
    seeds = {row["seed"] for row in rows if row.get("seed") is not None}
    if seeds:
        found.append(f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}")
    for key, words in (("seeds", "seeds a row"), ("runs", "runs a row"), ("n", "n of a row")):
        values = [row[key] for row in rows if isinstance(row.get(key), int)]
        if values and max(values) > 0:
            span = f"{min(values):,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"
            found.append(f"{words}: {span}")
    return f"Drawn from {', '.join(found)}."
