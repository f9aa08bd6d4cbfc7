"""One verdict per claim, after correction over all declared claims; the words are `reports.statistics.family.WORDS`.

Beside the verdict stands how far the controls carry the gain (`gain`, `variation`, `perplexity`): the strongest assertion
that holds where all three are claimed of every method that claims are about.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from reports.compare.comparison import MatchedKL
from reports.runs.records import MatrixData, tried
from reports.schema import Assertion, ClaimVerdict
from reports.statistics.design import LEAST_SEEDS
from reports.statistics.family import HELPS, WORDS, Claimed, Comparison, Ruling, judge_family
from reports.statistics.multiplicity import Look
from reports.verdict.claims import ASSERTIONS, Claim, parse_claims, thaw, undeclared
from reports.verdict.evidence import Contrast, Evidence, gather
from reports.verdict.plan import PlanState

PValues = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with its verdict. `p` maps the words but undecided to adjusted two-sided p-values (None where not testable),
    `ladder` each assertion to its own; `gain` is the ruling on the baseline alone; `family` counts the claims corrected for.
    `nulls_count` is False where the matrix did not pass its own controls, so that no missing difference may be read as one."""

    claim: Claim
    evidence: Evidence
    verdict: ClaimVerdict
    attribution: Assertion | None
    p: PValues
    ladder: PValues
    family: int
    gain: Ruling
    why_exploratory: str | None = None
    look: Look | None = None
    nulls_count: bool = True

    @property
    def declared(self) -> bool:
        return self.why_exploratory is None

    @property
    def correction(self) -> str:
        """How its p-values are corrected."""
        if self.look is not None:
            looks = ", ".join(map(str, self.look.planned))
            return f"Holm (look at {self.look.seeds} seeds, alpha spent over looks at {looks} by Pocock's function)"
        return "Holm" if self.declared else "Benjamini-Hochberg"

    @property
    def needed(self) -> list[Contrast]:
        """The comparisons that it needs, as far as they were run."""
        found = (self.evidence.contrasts.get(role) for role in ASSERTIONS[self.claim.asserts])
        return [c for c in found if c is not None]


def alone(contrast: Contrast, min_effect: float) -> Ruling:
    """What one comparison shows by itself, uncorrected."""
    return judge_family([Claimed((), (contrast.comparison,), min_effect)])[0]


def judge(
    claims: Sequence[tuple[Claim, Evidence]], exploratory: Sequence[str | None] | None = None, look: Look | None = None
) -> list[Judged]:
    """Verdicts of claims on their evidence, in the order given.

    `exploratory[i]` says why claim i does not count as declared, None where it does. Declared claims are corrected
    together as closed ladders that share the level by Holm, and charged for every planned look; exploratory ones by
    Benjamini-Hochberg.
    """
    why = list(exploratory) if exploratory is not None else [None] * len(claims)
    shared: dict[Hashable, Comparison] = {}

    def claimed(place: int, asserts: Assertion) -> Claimed:
        claim, evidence = claims[place]
        ladder = (claim.method, claim.against, claim.metric, claim.at, claim.window)
        found = {role: evidence.contrasts.get(role) for role in ASSERTIONS[asserts]}
        # Claims of one ladder need the same comparisons: each is one object, and is corrected for once.
        needs = (None if c is None else shared.setdefault((ladder, role), c.comparison) for role, c in found.items())
        return Claimed(ladder, tuple(needs), claim.min_effect)

    judged: dict[int, Judged] = {}
    for declared in (True, False):
        members = [i for i, w in enumerate(why) if (w is None) is declared]
        plan = look if declared else None
        own = {i: claimed(i, claims[i][0].asserts) for i in members}
        first = {own[i].ladder: i for i in reversed(members)}
        rungs = {(ladder, asserts): claimed(i, asserts) for ladder, i in first.items() for asserts in ASSERTIONS}
        every = dict(zip(rungs, judge_family(list(rungs.values()), look=plan, declared=declared), strict=True))
        rulings = judge_family(list(own.values()), look=plan, declared=declared)
        for i, ruling in zip(members, rulings, strict=True):
            claim, evidence = claims[i]
            ladder = {asserts: every[own[i].ladder, asserts] for asserts in ASSERTIONS}
            # What is shown within the family of the claims holds too: it is the smaller one.
            held = [a for a in ASSERTIONS if ladder[a].word in HELPS or (a == claim.asserts and ruling.word in HELPS)]
            judged[i] = Judged(
                claim=claim,
                evidence=evidence,
                verdict=ruling.word,
                attribution=held[-1] if held else None,
                p={word: _tested(ruling, word, own[i].needs) for word in WORDS if word != "undecided"},
                ladder={asserts: _tested(rung, "better") for asserts, rung in ladder.items()},
                family=len(members),
                gain=ruling if claim.asserts == "gain" else ladder["gain"],
                why_exploratory=why[i],
                look=plan,
            )
    return [judged[i] for i in range(len(claims))]


def _tested(ruling: Ruling, word: str, needs: Sequence[Comparison | None] = ()) -> float | None:
    """The adjusted p of a word; None where nothing could be tested. One comparison suffices against a claim."""
    usable = any(c is not None and c.seeds >= LEAST_SEEDS for c in needs)
    testable = ruling.testable if word in HELPS else usable
    return float(np.asarray(ruling.p[word])) if testable and word in ruling.p else None


def judge_matrix(
    matrix: MatrixData,
    claims: Sequence[Claim] | None = None,
    frozen: Mapping[str, Any] | None = None,
    matched_kl: MatchedKL | None = None,
    planned: PlanState | None = None,
    nulls_count: bool = True,
) -> list[Judged]:
    """Judge the frozen claims as they were frozen, and any other as exploratory.

    Without `claims` the matrix file's are read. A frozen claim whose runs were created before the freezing is
    exploratory too: its author could have seen them; and so is one on seeds that were not declared, or on what differs from
    the plan (`planned`). At a declared look p-values are charged for all looks. Without `nulls_count` equivalent becomes
    undecided.

    Raises:
        ClaimError: a claim is malformed, or claims.json was changed.
    """
    current = parse_claims(matrix.config.get("claims") or []) if claims is None else list(claims)
    before, time = thaw(frozen) if frozen is not None else ([], None)
    seeds = tried(matrix.runs)
    other, looks = undeclared(frozen or {}, seeds), (frozen or {}).get("looks")
    look = Look(len(seeds), tuple(looks)) if looks and other is None else None
    every = [
        (claim, gather(matrix, claim, matched_kl)) for claim in (*before, *(c for c in current if c not in before))
    ]
    late = "not among the frozen claims" if frozen is not None else "no claims were frozen before training"
    state = PlanState() if planned is None else planned
    why = [
        _seen(found, time) or other or state.why((claim.method, claim.against), claim.metric.split("/")[0])
        for claim, found in every[: len(before)]
    ]
    found = judge(every, [*why, *[late] * (len(every) - len(before))], look)
    if nulls_count:
        return found
    return [
        replace(one, nulls_count=False, verdict="undecided" if one.verdict == "equivalent" else one.verdict)
        for one in found
    ]


def _seen(evidence: Evidence, frozen: datetime | None) -> str | None:
    """Why a frozen claim is exploratory all the same; None where it is not."""
    first = evidence.earliest
    if frozen is None or first is None or first >= frozen:
        return None
    return f"frozen at {frozen.isoformat()}, after its first run was created ({first.isoformat()})"
