"""Sentences that claim no more than the numbers: direction, size, interval, and whether the design could settle it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reports.statistics.design import ALPHA, DETECTION, LEAST_SEEDS
from reports.statistics.paired import seeds_for_exact_test, smallest_paired_p

MOST_SEEDS = 10_000

CODES = ("better", "worse", "inconclusive", "unsettled", "no_data")


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _seeds_needed(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Seeds the exact test needs to reach alpha at all, and seeds for a difference of the observed size.

    The latter at the prompts there are: what prompts add to the variance no number of seeds takes away.
    """
    size: int | None = None
    why: str | None = "no usable estimate of the spread over seeds, or no difference"
    effect, spread = comparison["difference"]["value"], comparison["spread"]
    if effect and spread["reason"] is None and any(spread[k] for k in ("seed", "prompt", "residual")):
        prompts = comparison["n"]
        room = (effect / DETECTION) ** 2 - spread["prompt"] ** 2 / prompts
        wanted = (spread["seed"] ** 2 + spread["residual"] ** 2 / prompts) / room if room > 0 else math.inf
        if wanted <= MOST_SEEDS:
            size, why = max(LEAST_SEEDS, math.ceil(wanted)), None
        else:
            why = f"no number of seeds up to {MOST_SEEDS} finds a difference of this size with {prompts} prompts"
    return {"exact_test": seeds_for_exact_test(ALPHA), "observed_effect": size, "reason": why}


def _failed(absent: int) -> str:
    return (
        f" {absent} of its runs did not finish and is not in this number."
        if absent == 1
        else (f" {absent} of its runs did not finish and are not in this number." if absent else "")
    )


def verdict(comparison: Mapping[str, Any], metric: str, higher_is_better: bool, absent: int = 0) -> dict[str, Any]:
    """Code and sentence for one method-level comparison. `comparison` carries `adjusted_p` when it has been tested.

    better / worse: at least five paired seeds and adjusted p <= .05. inconclusive: enough seeds, no such p.
    unsettled: too few seeds for the question. no_data: no shared prompts or seeds.
    """
    label, against = comparison["label"], comparison["against"]
    interval, seeds = comparison["difference"], comparison["seeds"]
    needed = _seeds_needed(comparison)
    result: dict[str, Any] = {"code": "no_data", "sentence": "", "seeds_needed": needed}
    value = interval["value"]
    if value is None:
        result["sentence"] = (
            f"{label} against {against} on {metric}: no pair of finished runs was scored on the same prompts, so "
            f"nothing can be said.{_failed(absent)}"
        )
        return result
    count = len(seeds)
    higher = value > 0
    good = higher == higher_is_better
    plural = "" if count == 1 else "s"
    over = f"on {metric} over {count} seed{plural} x {comparison['n']} prompts"
    if value == 0:
        observed = f"{label} and {against} have the same mean {over}"
    else:
        way = f"{abs(value):.3f} {'higher' if higher else 'lower'} ({'better' if good else 'worse'})"
        observed = f"{label} scored {way} than {against} {over}"
    low, high = interval["low"], interval["high"]
    span = "" if low is None else f" (95 % interval {_signed(low)} to {_signed(high)})"
    if count < LEAST_SEEDS:
        least, size = needed["exact_test"], needed["observed_effect"]
        more = f"at least {least} seeds are needed before the exact test can reach p = {ALPHA:g}"
        if size and size > least:
            more += f", and about {size} to find a difference of this size, going by a spread seen in {count} seeds"
        result["code"] = "unsettled"
        result["sentence"] = (
            f"{observed}{span}, but {count} seed{plural} cannot settle whether the method differs: "
            f"S={count} cannot reach p <= {ALPHA:g} (minimum possible p {smallest_paired_p(count):.3g}); "
            f"{more}.{_failed(absent)}"
        )
        return result
    p = (comparison.get("adjusted_p") or {}).get("value")
    correction = (comparison.get("adjusted_p") or {}).get("method") or "unadjusted"
    if p is not None and p <= ALPHA and value != 0:
        result["code"] = "better" if good else "worse"
        result["sentence"] = f"{observed}{span}, {correction} p = {p:.3g}.{_failed(absent)}"
        return result
    result["code"] = "inconclusive"
    smallest = comparison["minimum_detectable_effect"]["value"]
    detail = f"; the smallest difference this design detects with power .80 is {smallest:.3f}" if smallest else ""
    size = needed["observed_effect"]
    ask = f", about {size} seeds would be needed for a difference of the observed size" if size and size > count else ""
    shown = f"{correction} p = {p:.3g}" if p is not None else "no p-value"
    result["sentence"] = f"{observed}{span}: inconclusive, {shown}{detail}{ask}.{_failed(absent)}"
    return result


def control_note(code: str, controls: Sequence[Mapping[str, Any]]) -> str:
    """What the controls add to a method that beat the baseline; empty for any other verdict.

    `controls` are the method's comparisons with the control arms, verdicts included.
    """
    if code != "better":
        return ""
    if not controls:
        return (
            " No control (matched_mean, permuted) was run, so the gain cannot be put down to which prompt gets "
            "which beta."
        )
    beaten = [c["against"] for c in controls if c["verdict"]["code"] == "better"]
    level = [c["against"] for c in controls if c["verdict"]["code"] != "better"]
    note = f" It also beats its control {' and '.join(beaten)}." if beaten else ""
    if level:
        note += (
            f" It is not shown to beat {' and '.join(level)}: the gain may come from the average or the spread of "
            "beta, not from which prompt gets which beta."
        )
    return note


def headline(sentences: list[dict[str, Any]], failed: int, planned: int) -> str:
    """One sentence for the top of the report, from the verdicts of the declared comparisons."""
    lost = f" {failed} of {planned} runs did not finish." if failed else ""
    if planned == 0:
        return "The matrix has no runs, so there is nothing to compare."
    if not sentences:
        return f"No comparison could be made: there is no baseline, or no method beside it.{lost}"
    codes = [s["code"] for s in sentences]
    better = [s["label"] for s in sentences if s["code"] == "better"]
    worse = [s["label"] for s in sentences if s["code"] == "worse"]
    if all(c == "no_data" for c in codes):
        return f"No comparison could be made: no two finished runs were scored on the same prompts.{lost}"
    parts = []
    if better:
        parts.append(f"Better than the baseline: {', '.join(better)}.")
    if worse:
        parts.append(f"Worse than the baseline: {', '.join(worse)}.")
    if "unsettled" in codes:
        parts.append(
            f"This matrix cannot settle whether a dynamic beta helps: fewer than {LEAST_SEEDS} paired seeds."
            if not parts
            else f"{codes.count('unsettled')} further comparison(s) have too few seeds to settle."
        )
    if not parts:
        parts.append("No method was shown to differ from the baseline; that is not evidence that they are the same.")
    return " ".join(parts) + lost
