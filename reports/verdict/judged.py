"""One verdict per claim, after correction over all declared claims.

supported      every comparison the claim needs favours the method (Holm p <= .05).
equivalent     one of them lies within +-min_effect: no difference worth having.
refuted        one of them excludes an improvement of min_effect or more.
inconclusive   none of these, or fewer than five paired seeds.

Beside the verdict stands how far the controls carry the gain (`gain`, `variation`, `perplexity`): the strongest
assertion whose comparisons all hold, corrected over the methods that claims are about, whatever the claim asserts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reports.compare.comparison import MatchedKL
from reports.runs.records import MatrixData
from reports.schema.verdict import Assertion, ClaimVerdict
from reports.statistics.design import ALPHA, LEAST_SEEDS
from reports.statistics.multiplicity import benjamini_hochberg, holm
from reports.verdict.claims import ASSERTIONS, Claim, parse_claims, thaw
from reports.verdict.evidence import Contrast, Evidence, gather

#: What a claim can be found to be. A difference that is both above zero and surely below min_effect is equivalent: too small
#: to be worth having, so that comes first.
_CODES: tuple[ClaimVerdict, ...] = ("equivalent", "refuted", "supported")
PValues = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its verdict. `p` maps supported, equivalent and refuted to adjusted two-sided p-values (None where
    not testable), `ladder` each assertion to its own; `family` counts the claims corrected for."""

    claim: Claim
    evidence: Evidence
    verdict: ClaimVerdict
    attribution: Assertion | None
    p: PValues
    ladder: PValues
    family: int
    why_exploratory: str | None = None

    @property
    def declared(self) -> bool:
        return self.why_exploratory is None

    @property
    def correction(self) -> str:
        """How its p-values are corrected."""
        return "Holm" if self.declared else "Benjamini-Hochberg"

    @property
    def needed(self) -> list[Contrast]:
        """The comparisons that it needs, as far as they were run."""
        return [c for c in required(self.claim.asserts, self.evidence) if c is not None]


def p_values(contrast: Contrast, min_effect: float) -> PValues:
    """Two-sided p of better than zero, of inside +-min_effect, and of below min_effect; None below five seeds.

    Where there are several settings the p-values are of the best against the best, and pay for the choice.
    """
    mean = contrast.mean
    above, below, better = mean.p_above(-min_effect), mean.p_below(min_effect), mean.p_above()
    if mean.seeds < LEAST_SEEDS or above is None or below is None:
        return {code: None for code in _CODES}
    doubled = {"supported": better, "equivalent": max(above, below) if min_effect > 0 else None, "refuted": below}
    return {k: None if p is None else min(1.0, 2 * p) for k, p in doubled.items()}


def required(asserts: Assertion, evidence: Evidence) -> list[Contrast | None]:
    """The comparisons an assertion needs, None for a control that was not run."""
    return [evidence.contrasts.get(role) for role in ASSERTIONS[asserts]]


def _combined(claim: Claim, asserts: Assertion, evidence: Evidence) -> PValues:
    """All comparisons must hold to support (the largest p counts); one suffices against (p times their number)."""
    contrasts = required(asserts, evidence)
    every = [p_values(c, claim.min_effect) for c in contrasts if c is not None]
    known = {code: [p for one in every if (p := one[code]) is not None] for code in _CODES}
    result: PValues = {code: min(1.0, len(ps) * min(ps)) if ps else None for code, ps in known.items()}
    return result | {"supported": max(known["supported"]) if len(known["supported"]) == len(contrasts) else None}


def _correct(
    tables: Sequence[PValues],
    members: Sequence[int],
    keys: Iterable[str],
    correct: Callable[[Sequence[float | None]], list[float | None]],
) -> None:
    """Put the p-values of the members, key by key, in place of those after correction."""
    for key in keys:
        for i, p in zip(members, correct([tables[i][key] for i in members]), strict=True):
            tables[i][key] = p


def judge(claims: Sequence[tuple[Claim, Evidence]], exploratory: Sequence[str | None] | None = None) -> list[Judged]:
    """Verdicts of claims on their evidence, in the order given.

    `exploratory[i]` says why claim i does not count as declared, None where it does. Declared claims are corrected
    together by Holm, exploratory ones by Benjamini-Hochberg.
    """
    why = list(exploratory) if exploratory is not None else [None] * len(claims)
    own = [_combined(claim, claim.asserts, evidence) for claim, evidence in claims]
    rungs: list[PValues] = [
        {a: _combined(claim, a, evidence)["supported"] for a in ASSERTIONS} for claim, evidence in claims
    ]
    sizes = [0] * len(claims)
    for declared, correct in ((True, holm), (False, benjamini_hochberg)):
        members = [i for i, w in enumerate(why) if (w is None) == declared]
        _correct(own, members, _CODES, correct)
        # Claims that differ in what they assert share one ladder: it is corrected once, not once a claim.
        question = {i: (c.method, c.against, c.metric, c.at) for i in members for c in [claims[i][0]]}
        first = {asked: i for i, asked in reversed(question.items())}
        _correct(rungs, sorted(first.values()), ASSERTIONS, correct)
        for i in members:
            rungs[i] = rungs[first[question[i]]]
            sizes[i] = sum(own[j]["supported"] is not None for j in members)
    judged = []
    for (claim, evidence), p, ladder, size, reason in zip(claims, own, rungs, sizes, why, strict=True):
        verdict: ClaimVerdict = next((code for code in _CODES if holds(p[code])), "inconclusive")
        held = [a for a in ASSERTIONS if holds(ladder[a])]
        judged.append(Judged(claim, evidence, verdict, held[-1] if held else None, p, ladder, size, reason))
    return judged


def holds(p: float | None) -> bool:
    return p is not None and p <= ALPHA


def judge_matrix(
    matrix: MatrixData,
    claims: Sequence[Claim] | None = None,
    frozen: Mapping[str, Any] | None = None,
    matched_kl: MatchedKL | None = None,
) -> list[Judged]:
    """Judge the frozen claims as they were frozen, and any other as exploratory.

    Without `claims` the matrix file's are read. A frozen claim whose runs were created before the freezing is
    exploratory too: its author could have seen them.

    Raises:
        ClaimError: a claim is malformed, or claims.json was changed.
    """
    current = parse_claims(matrix.config.get("claims") or []) if claims is None else list(claims)
    before, time = thaw(frozen) if frozen is not None else ([], None)
    every = [
        (claim, gather(matrix, claim, matched_kl)) for claim in (*before, *(c for c in current if c not in before))
    ]
    late = "not among the frozen claims" if frozen is not None else "no claims were frozen before training"
    why = [_seen(found, time) for _, found in every[: len(before)]]
    return judge(every, [*why, *[late] * (len(every) - len(before))])


def _seen(evidence: Evidence, frozen: datetime | None) -> str | None:
    """Why a frozen claim is exploratory all the same; None where it is not."""
    first = evidence.earliest
    if frozen is None or first is None or first >= frozen:
        return None
    return f"frozen at {frozen.isoformat()}, after its first run was created ({first.isoformat()})"
