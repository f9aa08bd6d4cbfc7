"""Sentences that claim no more than the numbers: direction, size, interval, and whether the design could settle it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.schema.base import AdjustedP
from reports.schema.metrics import Code, Comparison, ComparisonVerdict, Inferred, SeedsNeeded
from reports.schema.verdict import VerdictSentence
from reports.statistics.design import ALPHA, DETECTION, LEAST_SEEDS
from reports.statistics.paired import seeds_for_exact_test, smallest_paired_p

MOST_SEEDS = 10_000


def _seeds_needed(found: Inferred) -> SeedsNeeded:
    """Seeds the exact test needs to reach alpha at all, and seeds for a difference of the observed size.

    The latter at the prompts there are: what prompts add to the variance no number of seeds takes away.
    """
    size: int | None = None
    why: str | None = "no usable estimate of the spread over seeds, or no difference"
    effect, spread = found.difference.value, found.spread
    seed, prompt, residual = (part or 0.0 for part in (spread.seed, spread.prompt, spread.residual))
    if effect and spread.reason is None and any((seed, prompt, residual)):
        room = (effect / DETECTION) ** 2 - prompt**2 / found.n
        wanted = (seed**2 + residual**2 / found.n) / room if room > 0 else math.inf
        if wanted <= MOST_SEEDS:
            size, why = max(LEAST_SEEDS, math.ceil(wanted)), None
        else:
            why = f"no number of seeds up to {MOST_SEEDS} finds a difference of this size with {found.n} prompts"
    return SeedsNeeded(exact_test=seeds_for_exact_test(ALPHA), observed_effect=size, reason=why)


def verdict(
    found: Inferred,
    names: tuple[str, str],
    metric: str,
    higher_is_better: bool,
    adjusted: AdjustedP | None = None,
    absent: int = 0,
) -> ComparisonVerdict:
    """Code and sentence for one method-level comparison.

    better / worse: at least five paired seeds and adjusted p <= .05. inconclusive: enough seeds, no such p.
    unsettled: too few seeds for the question. no_data: no shared prompts or seeds.

    Args:
        names: labels of the two arms; `found` is the first minus the second.
        metric: benchmark/metric.
        adjusted: the p-value after correction, where it was tested.
        absent: runs of the first arm that did not finish.
    """
    (label, against), needed = names, _seeds_needed(found)
    value, low, high = found.difference.value, found.difference.low, found.difference.high
    lost = f" {absent} of its runs did not finish and {'is' if absent == 1 else 'are'} not in this number."

    def said(code: Code, sentence: str) -> ComparisonVerdict:
        return ComparisonVerdict(code=code, sentence=sentence + lost * bool(absent), seeds_needed=needed)

    if value is None:
        return said(
            "no_data",
            f"{label} against {against} on {metric}: no pair of finished runs was scored on the same prompts, so "
            "nothing can be said.",
        )
    count = len(found.seed_differences)
    plural = "" if count == 1 else "s"
    over = f"on {metric} over {count} seed{plural} x {found.n} prompts"
    good = (value > 0) == higher_is_better
    way = f"{abs(value):.3f} {'higher' if value > 0 else 'lower'} ({'better' if good else 'worse'})"
    observed = (
        f"{label} scored {way} than {against} {over}" if value else f"{label} and {against} have the same mean {over}"
    )
    if low is not None:
        observed += f" (95 % interval {low:+.3f} to {high:+.3f})"
    least, size = needed.exact_test, needed.observed_effect
    if count < LEAST_SEEDS:
        more = f"at least {least} seeds are needed before the exact test can reach p = {ALPHA:g}"
        if size and size > least:
            more += f", and about {size} to find a difference of this size, going by a spread seen in {count} seeds"
        return said(
            "unsettled",
            f"{observed}, but {count} seed{plural} cannot settle whether the method differs: "
            f"S={count} cannot reach p <= {ALPHA:g} (minimum possible p {smallest_paired_p(count):.3g}); {more}.",
        )
    p, correction = (None, "unadjusted") if adjusted is None else (adjusted.value, adjusted.method)
    shown = f"{correction} p = {p:.3g}" if p is not None else "no p-value"
    if p is not None and p <= ALPHA and value != 0:
        return said("better" if good else "worse", f"{observed}, {shown}.")
    smallest = found.minimum_detectable_effect.value
    detail = f"; the smallest difference this design detects with power .80 is {smallest:.3f}" if smallest else ""
    ask = f", about {size} seeds would be needed for a difference of the observed size" if size and size > count else ""
    return said("inconclusive", f"{observed}: inconclusive, {shown}{detail}{ask}.")


def control_note(code: Code, controls: Sequence[Comparison]) -> str:
    """What the controls add to a method that beat the baseline; empty for any other verdict.

    `controls` are the method's comparisons with the control arms.
    """
    if code != "better":
        return ""
    if not controls:
        return (
            " No control (matched_mean, permuted) was run, so the gain cannot be put down to which prompt gets "
            "which beta."
        )
    beaten = [c.against for c in controls if c.verdict.code == "better"]
    level = [c.against for c in controls if c.verdict.code != "better"]
    note = f" It also beats its control {' and '.join(beaten)}." if beaten else ""
    if level:
        note += (
            f" It is not shown to beat {' and '.join(level)}: the gain may come from the average or the spread of "
            "beta, not from which prompt gets which beta."
        )
    return note


def headline(sentences: Sequence[VerdictSentence], failed: int, planned: int) -> str:
    """One sentence for the top of the report, from the verdicts of the declared comparisons."""
    lost = f" {failed} of {planned} runs did not finish." if failed else ""
    if planned == 0:
        return "The matrix has no runs, so there is nothing to compare."
    if not sentences:
        return f"No comparison is possible: the baseline, or a method to compare with it, is missing.{lost}"
    labels: dict[Code, list[str]] = {}
    for one in sentences:
        labels.setdefault(one.code, []).append(one.label)
    if labels.keys() == {"no_data"}:
        return f"No comparison could be made: no two finished runs were scored on the same prompts.{lost}"
    words: tuple[tuple[Code, str], ...] = (("better", "Better"), ("worse", "Worse"))
    parts = [f"{word} than the baseline: {', '.join(labels[code])}." for code, word in words if code in labels]
    if "unsettled" in labels:
        parts.append(
            f"This matrix cannot settle whether a dynamic beta helps: fewer than {LEAST_SEEDS} paired seeds."
            if not parts
            else f"{len(labels['unsettled'])} further comparison(s) have too few seeds to settle."
        )
    if not parts:
        parts.append("No method was shown to differ from the baseline; that is not evidence that they are the same.")
    return " ".join(parts) + lost
