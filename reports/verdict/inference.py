"""The table of the report, every method against the baseline on the primary metric, and the answer in one or two sentences."""

from collections.abc import Sequence
from math import isnan

import pandas as pd

from reports.compare.comparison import MatchedKL, detectable
from reports.compare.grids import arm_grids, lender
from reports.runs import REFERENCE_ID, Arm, MatrixData, finite
from reports.schema import (
    AdjustedP,
    ClaimVerdict,
    Counts,
    Frontiers,
    Inference,
    InferenceRow,
    Inferred,
    Level,
    Metric,
    OverReference,
)
from reports.statistics.best_settings import BestMean
from reports.statistics.crossed import interval_of
from reports.statistics.design import ALPHA, LEAST_SEEDS
from reports.statistics.family import HELPS
from reports.verdict.claims import Claim
from reports.verdict.evidence import gather
from reports.verdict.judged import Judged, judge
from reports.verdict.sentences import attribution_text, to_settle

# The table of the report: every method against the baseline on the primary metric, judged as claims are.


_MODEL = (
    "paired differences with seeds and prompts as crossed samples (Satterthwaite t, the spread over seeds moderated over all "
    "arms), 95 % intervals; p-values adjusted over the methods; below five seeds nothing is tested"
)


def nothing(reason: str) -> Inference:
    """The part of a summary that has no such table, and why."""
    return Inference(metric=None, at="final", model=_MODEL, length_metric=None, levels=[], rows=[], reason=reason)


def inference(
    matrix: MatrixData,
    all_arms: Sequence[Arm],
    baseline: Arm | None,
    primary: Metric | None,
    frontiers: Frontiers,
    judged: Sequence[Judged],
    matched_kl: MatchedKL,
    nulls_count: bool = True,
) -> Inference:
    """One row a method, at equal KL where the claims say so or, without claims, where every method can be compared there.
    After them one row a claim that compares two other methods there.

    `judged` are the claims of the matrix file: a method with a claim against the baseline has that claim's correction and
    smallest effect. The others form a family of their own, and so do the controls. Without `nulls_count` the matrix did not
    see an effect that is there, and equivalent becomes undecided.
    """
    if baseline is None or primary is None:
        return nothing("no primary metric" if baseline else "no baseline")
    mine = [j for j in judged if j.claim.metric == primary.name]
    about = [j for j in mine if j.claim.against in (baseline.method, baseline.label)]
    # controls of `sensitivity` are the instrument's: they are compared with a fixed beta on their own labels
    others = [arm for arm in all_arms if arm.method != baseline.method and arm.planted is None]
    controls = {arm.method: arm.is_control for arm in others}
    lend = lender(arm_grids(all_arms, primary.benchmark, primary.metric))

    def family(at: str) -> dict[str, Judged]:
        """The judged comparisons of all methods, by method."""
        found = {j.claim.method: j for j in reversed(about) if j.claim.at == at}
        window = next((j.claim.window for j in found.values()), None)  # one measure for every row
        rest = [Claim(m, m, baseline.method, primary.name, at=at, window=window) for m in controls if m not in found]
        every = [(claim, gather(matrix, claim, matched_kl, lend)) for claim in rest]
        other = "no claim of the matrix file" if found else None
        why = ["a control" if controls[claim.method] else other for claim in rest]
        return found | dict(zip((c.method for c in rest), judge(every, why), strict=True))

    at = (about or mine)[0].claim.at if mine else "matched_kl" if frontiers.comparisons else "final"
    found = family(at)
    if not mine and any(isnan(j.evidence.contrasts["baseline"].mean.stderr) for j in found.values()):
        at, found = "final", family("final")
    levels = _levels(all_arms, primary, frontiers)
    rows = [
        _row(found[m], controls[m], levels, any(found[m] is j for j in about), nulls_count)
        for m in sorted(controls, key=lambda m: controls[m])
    ]
    direct = [j for j in mine if j.claim.at == at and j not in about]
    rows += [_row(j, False, levels, True, nulls_count) for j in direct]
    return Inference(
        metric=primary.name,
        at="matched_kl" if at == "matched_kl" else "final",
        model=_MODEL,
        length_metric=next((p.length_metric for p in frontiers.points if p.length_metric), None),
        levels=[levels[label] for label in (REFERENCE_ID, baseline.label) if label in levels],
        rows=rows,
        reason=None if rows else "no method beside the baseline",
    )


def _levels(all_arms: Sequence[Arm], primary: Metric, frontiers: Frontiers) -> dict[str, Level]:
    """Score, KL and length of the reference and of every arm, by label: means over its final policies."""
    scores = {REFERENCE_ID: primary.reference, **{arm.label: arm.mean for arm in primary.methods}}
    final = [p for p in frontiers.points if p.state != "failed" and (p.final or p.label == REFERENCE_ID)]
    table = pd.DataFrame([(p.label, p.kl, p.length) for p in final], columns=["label", "kl", "length"])
    means = table.astype({"kl": float, "length": float}).groupby("label").mean()
    return {
        label: Level(
            label=label, score=score.value, kl=finite(means["kl"].get(label)), length=finite(means["length"].get(label))
        )
        for label in (REFERENCE_ID, *(arm.label for arm in all_arms))
        if (score := scores.get(label)) is not None
    }


def _row(judged: Judged, control: bool, levels: dict[str, Level], claimed: bool, nulls_count: bool) -> InferenceRow:
    contrast, ruling, m = judged.evidence.contrasts["baseline"], judged.gain, judged.claim.min_effect
    mean, cells = contrast.mean, contrast.cells
    shown = mean.interval() if cells is None or isinstance(mean, BestMean) else interval_of(mean, cells)
    word = "undecided" if ruling.word == "equivalent" and not nulls_count else ruling.word
    p = min(ruling.p["better"], ruling.p["worse"]) if word == "undecided" else ruling.p[word]
    why = None if ruling.testable else contrast.reason or f"fewer than {LEAST_SEEDS} paired seeds"
    settle = to_settle(contrast, m)
    level = levels.get(contrast.first) or Level(label=contrast.first, score=None, kl=None, length=None)
    return InferenceRow(
        **dict(level),
        method=judged.claim.method,
        against=contrast.second,
        control=control,
        declared=claimed and judged.declared,
        difference=shown,
        seed_differences=[] if cells is None or not cells.size else [float(d) for d in cells.mean(axis=1)],
        adjusted_p=AdjustedP(
            value=float(p) if ruling.testable else None,
            method=judged.correction,
            family_size=judged.family,
            reason=why,
        ),
        verdict=word,
        min_effect=m,
        detectable=detectable(mean).value if ruling.testable else None,
        seeds_needed=None if settle is None else settle.seeds,
        attribution=attribution_text(judged),
        failures=list(judged.evidence.failures),
        reason=contrast.reason or why,
    )


# The verdict on one comparison, and the answer of the report: one or two sentences made from its table.


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


def _are(names: Sequence[str]) -> str:
    return f"{listed(names, 'and')} {'is' if len(names) == 1 else 'are'}"


def _shown(row: InferenceRow) -> str:
    d = row.difference
    span = "" if d.low is None else f" (95 % {d.low:+.3f} to {d.high:+.3f})"
    return f"{row.label} {d.value:+.3f}{span}"


def _found(rows: Sequence[InferenceRow]) -> list[str]:
    """What is shown of the methods, a clause for each verdict but undecided."""
    words = {
        "better by more than m": "better than {} by more than {:g}",
        "better": "better than {}",
        "worse": "worse than {}",
        "equivalent": "equivalent to {} within {:g}",
    }
    clauses = []
    for word, said in words.items():
        if mine := [r for r in rows if r.verdict == word]:
            names, than = _are([r.label for r in mine]), said.format(mine[0].against, mine[0].min_effect)
            clauses.append(f"{names} {than}: {', '.join(map(_shown, mine[:MOST_NAMES]))}")
    return clauses


def _compared(found: Inference, counts: Counts) -> list[str]:
    """Whether a method beats the baseline, and what the claims say of two other methods."""
    tested = [r for r in found.rows if not r.control]
    known = [r for r in tested if r.difference.value is not None]
    if counts.planned == 0:
        return ["The matrix has no runs, so there is nothing to compare."]
    if not tested:
        return ["No comparison is possible: the baseline, or a method to compare with it, is missing."]
    if not known:
        return ["No comparison could be made: no two finished runs were scored on the same prompts."]
    against = dict.fromkeys(r.against for r in known)
    return [_of_one([r for r in known if r.against == other], found.at) for other in against]


def _of_one(known: Sequence[InferenceRow], at: str) -> str:
    """Whether one of the methods beats what all of them are compared with."""
    where = "At equal KL, " if at == "matched_kl" else ""
    names, against = listed([r.label for r in known], "or"), known[0].against
    if clauses := _found(known):
        rest = [r.label for r in known if r.verdict == "undecided"]
        tail = f"; {_are(rest)} undecided" if rest else ""
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
    if not known:
        return None
    ends = [r.ci_low if higher_is_better or r.ci_high is None else -r.ci_high for r in known]
    spans = ("" if r.ci_low is None else f" ({r.ci_low:+.3f} to {r.ci_high:+.3f})" for r in known)
    texts = [f"{r.label} {r.difference:+.3f}{span}" for r, span in zip(known, spans, strict=True)][:MOST_OVER]
    more = [f"{len(known) - MOST_OVER} more in the report"] if len(known) > MOST_OVER else []
    works = "Training itself works: over" if all(end is not None and end > 0 for end in ends) else "Over"
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
    return [*_compared(found, counts), *gains[:1], *filter(None, [_over(over, higher_is_better)])]
