"""The verdict on one comparison, and the answer of the report: one or two sentences made from its table."""

from __future__ import annotations

from collections.abc import Sequence

from reports.schema.base import AdjustedP, ClaimVerdict
from reports.schema.metrics import Inferred
from reports.schema.summary import Counts
from reports.schema.verdict import Inference, InferenceRow, OverReference
from reports.statistics.design import ALPHA, LEAST_SEEDS
from reports.statistics.family import HELPS

#: Methods named one by one in a sentence.
MOST_NAMES = 3
#: Methods whose difference to the reference is said in the answer.
MOST_OVER = 4
_SMALL = ("No", "One", "Two", "Three", "Four", "Five")


def verdict(found: Inferred, higher_is_better: bool, adjusted: AdjustedP) -> ClaimVerdict:
    """The word for a difference without a smallest effect worth having: better, worse or undecided.

    Takes LEAST_SEEDS paired seeds and a corrected p of at most ALPHA.
    """
    value, p = found.difference.value, adjusted.value
    if not value or p is None or p > ALPHA or len(found.seed_differences) < LEAST_SEEDS:
        return "undecided"
    return "better" if (value > 0) == higher_is_better else "worse"


def listed(names: Sequence[str], word: str) -> str:
    """Names in a sentence, joined by `word`; of many, how many they are."""
    if len(names) > MOST_NAMES:
        return f"{'any' if word == 'or' else 'all'} of the {len(names)} methods"
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else "".join(names)


def _shown(row: InferenceRow) -> str:
    d = row.difference
    span = "" if d.low is None else f" (95 % {d.low:+.3f} to {d.high:+.3f})"
    return f"{row.label} {d.value:+.3f}{span}"


def _found(rows: Sequence[InferenceRow]) -> list[str]:
    """What is shown of the methods, a clause for each verdict but undecided."""
    clauses = []
    for word in ("better by more than m", "better", "worse", "equivalent"):
        mine = [r for r in rows if r.verdict == word]
        if not mine:
            continue
        against, m = mine[0].against, mine[0].min_effect
        size = f" by more than {m:g}" if word == HELPS[0] else f" within {m:g}" if word == "equivalent" else ""
        said = {"worse": "worse than", "equivalent": "equivalent to"}.get(word, "better than")
        verb = "is" if len(mine) == 1 else "are"
        names = listed([r.label for r in mine], "and")
        clauses.append(f"{names} {verb} {said} {against}{size}: {', '.join(map(_shown, mine[:MOST_NAMES]))}")
    return clauses


def _first(found: Inference, counts: Counts) -> str:
    """Whether a method beats the baseline."""
    tested = [r for r in found.rows if not r.control]
    known = [r for r in tested if r.difference.value is not None]
    if counts.planned == 0:
        return "The matrix has no runs, so there is nothing to compare."
    if not tested:
        return "No comparison is possible: the baseline, or a method to compare with it, is missing."
    if not known:
        return "No comparison could be made: no two finished runs were scored on the same prompts."
    where = "At equal KL, " if found.at == "matched_kl" else ""
    names, against = listed([r.label for r in known], "or"), known[0].against
    if clauses := _found(known):
        rest = [r.label for r in known if r.verdict == "undecided"]
        tail = f"; {listed(rest, 'and')} {'is' if len(rest) == 1 else 'are'} undecided" if rest else ""
        return f"{where}{'; '.join(clauses)}{tail}."
    seeds = max(len(r.seed_differences) for r in known)
    if seeds < LEAST_SEEDS:
        few = f"{_SMALL[seeds]} seed{'s' * (seeds > 1)}"
        return f"{few} cannot decide whether {names} is better than {against}: at least {_SMALL[LEAST_SEEDS].lower()} are needed."
    lows = [r.difference.low for r in known if r.difference.low is not None]
    highs = [r.difference.high for r in known if r.difference.high is not None]
    span = f": differences from {min(lows):+.3f} to {max(highs):+.3f} remain possible" if lows and highs else ""
    it = "it is" if where else "It is"
    needed = max((r.seeds_needed or 0 for r in known), default=0)
    ask = f"; about {needed} seeds would settle the most open one" if needed > seeds else ""
    return f"{where}{it} undecided whether {names} is better than {against}{span}{ask}."


def _over(over: Sequence[OverReference], higher_is_better: bool) -> str | None:
    """Every method over the reference with its interval: whether training helped at all."""
    known = [r for r in over if r.difference is not None]
    sign, end = (1, "ci_low") if higher_is_better else (-1, "ci_high")
    better = [r for r in known if (bound := getattr(r, end)) is not None and sign * bound > 0]
    if not known:
        return None
    texts = [
        f"{r.label} {r.difference:+.3f}" + ("" if r.ci_low is None else f" ({r.ci_low:+.3f} to {r.ci_high:+.3f})")
        for r in known[:MOST_OVER]
    ]
    more = [f"{len(known) - MOST_OVER} more in the report"] if len(known) > MOST_OVER else []
    works = "Training itself works: over" if len(better) == len(known) else "Over"
    return f"{works} the reference (95 % intervals) {', '.join([*texts, *more])}."


def answer(
    found: Inference, counts: Counts, over: Sequence[OverReference], higher_is_better: bool, nulls_count: bool = True
) -> list[str]:
    """The top of the report: whether a method beats the baseline, what a gain is due to, and every method over the reference.

    Without `nulls_count` the matrix failed its own controls, and only a gain is still an answer.
    """
    if not nulls_count and not any(r.verdict in HELPS and not r.control for r in found.rows):
        return ["No answer: the matrix failed its own controls, so a missing difference says nothing."]
    gains = [f"{r.label}: {r.attribution}." for r in found.rows if r.verdict in HELPS and not r.control]
    return [_first(found, counts), *gains[:1], *filter(None, [_over(over, higher_is_better)])]
