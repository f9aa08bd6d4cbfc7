"""One verdict per claim, after correction over all declared claims.

supported      every comparison the claim needs favours the method (Holm p <= .05).
equivalent     one of them lies within +-min_effect: no difference worth having.
refuted        one of them excludes an improvement of min_effect or more.
inconclusive   none of these, or fewer than five paired seeds.

Beside the verdict stands how far the controls carry the gain (`gain`, `variation`, `perplexity`): the strongest
assertion whose comparisons all hold, corrected over the methods that claims are about, whatever the claim asserts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reports.compare.comparison import MatchedKL
from reports.runs.records import MatrixData
from reports.statistics.design import ALPHA, LEAST_SEEDS
from reports.statistics.multiplicity import benjamini_hochberg, holm
from reports.verdict.claims import ASSERTIONS, Claim, parse_claims, thaw
from reports.verdict.evidence import Contrast, Evidence, gather

VERDICTS = ("supported", "equivalent", "refuted", "inconclusive")
Ladder = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its verdict. `p` maps supported, equivalent and refuted to adjusted two-sided p-values (None where
    not testable), `ladder` each assertion to its own; `family` counts the claims corrected for."""

    claim: Claim
    evidence: Evidence
    verdict: str
    attribution: str | None
    p: Ladder
    ladder: Ladder
    declared: bool
    family: int
    why_exploratory: str | None = None


def p_values(contrast: Contrast, min_effect: float) -> Ladder:
    """Two-sided p of better than zero, of inside +-min_effect, and of below min_effect; None below five seeds.

    Where there are several settings the p-values are of the best against the best, and pay for the choice.
    """
    mean = contrast.mean
    above, below, better = mean.p_above(-min_effect), mean.p_below(min_effect), mean.p_above()
    if mean.seeds < LEAST_SEEDS or above is None or below is None:
        return {"supported": None, "equivalent": None, "refuted": None}
    doubled = {"supported": better, "equivalent": max(above, below) if min_effect > 0 else None, "refuted": below}
    return {k: None if p is None else min(1.0, 2 * p) for k, p in doubled.items()}


def required(asserts: str, evidence: Evidence) -> list[Contrast | None]:
    """The comparisons an assertion needs, None for a control that was not run."""
    return [evidence.contrasts.get(role) for role in ASSERTIONS[asserts]]


def _combined(claim: Claim, asserts: str, evidence: Evidence) -> Ladder:
    """All comparisons must hold to support (the largest p counts); one suffices against (p times their number)."""
    contrasts = required(asserts, evidence)
    every = [p_values(c, claim.min_effect) for c in contrasts if c is not None]
    supports = [p["supported"] for p in every]
    result: Ladder = {"supported": None, "equivalent": None, "refuted": None}
    if len(every) == len(contrasts) and None not in supports:
        result["supported"] = max(p for p in supports if p is not None)
    for code in ("equivalent", "refuted"):
        known = [p for one in every if (p := one[code]) is not None]
        if known:
            result[code] = min(1.0, len(known) * min(known))
    return result


def judge(claims: Sequence[tuple[Claim, Evidence]], exploratory: Sequence[str | None] | None = None) -> list[Judged]:
    """Verdicts of claims on their evidence, in the order given.

    `exploratory[i]` says why claim i does not count as declared, None where it does. Declared claims are corrected
    together by Holm, exploratory ones by Benjamini-Hochberg.
    """
    why = list(exploratory) if exploratory is not None else [None] * len(claims)
    own = [_combined(claim, claim.asserts, evidence) for claim, evidence in claims]
    rungs: list[Ladder] = [
        {a: _combined(claim, a, evidence)["supported"] for a in ASSERTIONS} for claim, evidence in claims
    ]
    families = [
        ([i for i, w in enumerate(why) if w is None], holm),
        ([i for i, w in enumerate(why) if w is not None], benjamini_hochberg),
    ]
    sizes = [0] * len(claims)
    for members, adjust in families:
        for code in ("supported", "equivalent", "refuted"):
            for i, p in zip(members, adjust([own[i][code] for i in members]), strict=True):
                own[i][code] = p
        # Claims that differ in what they assert share one ladder: it is corrected once, not once a claim.
        first = {(c.method, c.against, c.metric, c.at): i for i in reversed(members) for c in [claims[i][0]]}
        once = sorted(first.values())
        for asserts in ASSERTIONS:
            for i, p in zip(once, adjust([rungs[i][asserts] for i in once]), strict=True):
                rungs[i][asserts] = p
        for i in members:
            c = claims[i][0]
            rungs[i] = rungs[first[c.method, c.against, c.metric, c.at]]
        size = sum(own[i]["supported"] is not None for i in members)
        for i in members:
            sizes[i] = size
    judged = []
    for i, (claim, evidence) in enumerate(claims):
        # A difference that is both above zero and surely below min_effect is equivalent: too small to be worth having.
        order = ("equivalent", "refuted", "supported")
        verdict = next((code for code in order if holds(own[i][code])), "inconclusive")
        held = [a for a in ASSERTIONS if holds(rungs[i][a])]
        judged.append(
            Judged(
                claim, evidence, verdict, held[-1] if held else None, own[i], rungs[i], why[i] is None, sizes[i], why[i]
            )
        )
    return judged


def holds(p: float | None) -> bool:
    return p is not None and p <= ALPHA


def judge_matrix(
    matrix: MatrixData,
    claims: Sequence[Claim] | None = None,
    frozen: dict[str, Any] | None = None,
    matched_kl: MatchedKL | None = None,
) -> list[Judged]:
    """Judge the frozen claims as they were frozen, and any other as exploratory.

    Without `claims` the matrix file's are read. A frozen claim whose runs were created before the freezing is
    exploratory too: its author could have seen them.

    Raises:
        ClaimError: a claim is malformed, or claims.json was changed.
    """
    current = parse_claims(matrix.config.get("claims") or []) if claims is None else list(claims)
    before: list[Claim] = []
    time: datetime | None = None
    if frozen is not None:
        before, time = thaw(frozen)
    every = [*before, *(c for c in current if c not in before)]
    evidence = [gather(matrix, claim, matched_kl) for claim in every]
    why: list[str | None] = []
    for number, found in enumerate(evidence):
        if number >= len(before):
            why.append("not among the frozen claims" if frozen is not None else "no claims were frozen before training")
        elif time is not None and found.earliest is not None and found.earliest < time:
            why.append(f"frozen at {time.isoformat()}, after its first run was created ({found.earliest.isoformat()})")
        else:
            why.append(None)
    return judge(list(zip(every, evidence, strict=True)), why)
