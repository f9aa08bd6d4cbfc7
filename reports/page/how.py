"""How a number was computed, and from how many: the words that hover and focus show, in tables and in sentences."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from reports.page.tables import planted
from reports.page.text import visible
from reports.schema import (
    AdjustedP,
    Association,
    Check,
    ClaimComparison,
    ClaimP,
    Collapse,
    Estimate,
    InferenceRow,
    JudgedClaim,
    LossNull,
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


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A figure for a table cell; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """A p-value for a table cell: never a zero, which no test can give."""
    return "<0.001" if value is not None and value < 0.001 else number(value)


def interval(estimate: Estimate | LossNull | None, signed: bool = False) -> str:
    """`low to high`, or a dash."""
    if estimate is None or estimate.low is None:
        return "–"
    return f"{number(estimate.low, 3, signed)} to {number(estimate.high, 3, signed)}"


def _found(entry: Estimate | Test, what: str, unit: str, then: str) -> str:
    """Method and sizes (n in `unit`) of an estimate or a test, what there is to say `then`, and the note that limits it."""
    seeds = "" if entry.seeds is None else f"{entry.seeds} seed{'' if entry.seeds == 1 else 's'}"
    sizes = " x ".join(filter(None, [seeds, f"{entry.n} {unit}" if entry.n else ""])) or "nothing"
    note = entry.note or entry.reason
    return f"{what}: {entry.method}; from {sizes}.{then}{f' {note[0].upper()}{note[1:]}.' if note else ''}"


def of_estimate(entry: Estimate | None, what: str, unit: str = "prompts") -> str:
    """What an estimate with its interval is: method, sizes (n in `unit`), and the note that limits it."""
    if not entry:
        return f"{what}: not computed."
    span = "" if entry.low is None else f" {entry.confidence:.0%} interval {interval(entry, signed=True)}."
    return _found(entry, what, unit, span)


def of_test(entry: Test | None, what: str) -> str:
    """What a p-value is: the test, from how many, the minimum possible p."""
    if not entry:
        return f"{what}: no test was made."
    least = "" if entry.smallest_p is None else f" The minimum possible p is {p_value(entry.smallest_p)}."
    return _found(entry, what, "prompts", least)


def of_adjusted(entry: AdjustedP | ClaimP) -> str:
    """What an adjusted p-value is: the correction and the size of its family."""
    text = f"p-value after {entry.method} over {entry.family_size} tests."
    return f"{text} None: {entry.reason}." if entry.reason else text


def of_correlation(entry: Association, kind: str) -> str:
    """What a correlation of beta is: its kind, and from how many rows."""
    return f"{kind} of dynamic_beta with {entry.against}, from {entry.n} rows."


def spot(text: Any, how: str) -> Any:
    """A number that says on hover or focus how it was computed. Tables give it the focus by arrow keys (report.js)."""
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
    return " ".join([*parts, _meaning(row.verdict), *(f"{text}." for text in row.failures)])


def _meaning(verdict: str) -> str:
    return f"{verdict.capitalize()}: {MEANINGS[verdict]}."


def of_answer(summary: Summary) -> str:
    """What the numbers of the answer are."""
    return _differences([r for r in summary.inference.rows if r.difference.value is not None]) or RUNS


def _differences(rows: Sequence[InferenceRow | ClaimComparison]) -> str:
    return " ".join(of_estimate(r.difference, f"{r.label} - {r.against}") for r in rows[:MOST])


def of_sensitivity(summary: Summary) -> str:
    """What the numbers of the controls with a known effect are."""
    said = [f"{c.role}: standard error {number(c.standard_error)}" for c in planted(summary)]
    return f"Mean paired differences to a fixed beta of the same mean, seeds and prompts as samples. {', '.join(said)}."


def of_claim(entry: JudgedClaim) -> str:
    """What the numbers of a judged claim are: every difference it rests on, the test and the size of its family."""
    p = entry.adjusted_p
    tested = f"p-value: t test over seeds and prompts, after {p.method} over {p.family_size} claims."
    needed = "Seeds and prompts needed: by the spread seen here, with power .80."
    return " ".join(filter(None, [_differences(entry.comparisons), tested, _meaning(entry.verdict), needed]))


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


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def sizes(rows: Sequence[Mapping[str, Any]], against: Sequence[str] = ("reference",)) -> str:
    """From how many a figure is drawn: its rows, methods, seeds and runs, and the n of a row."""
    methods = {row["label" if "label" in row else "method"] for row in rows if "label" in row or "method" in row}
    methods -= set(against)
    settings = ", each setting counted" if any("[" in str(name) for name in methods) else ""
    seeds = {row["seed"] for row in rows if row.get("seed") is not None}
    found = [_plural(len(rows), "row")]
    found += [f"{_plural(len(methods), 'method')}{settings}"] if methods else []
    found += [_plural(len(seeds), "seed")] if seeds else []
    for key, words in (("seeds", "seeds a row"), ("runs", "runs a row"), ("n", "n of a row")):
        values = [row[key] for row in rows if isinstance(row.get(key), int)]
        if values and max(values) > 0:
            span = f"{min(values):,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"
            found.append(f"{words}: {span}")
    return f"Drawn from {', '.join(found)}."
