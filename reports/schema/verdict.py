"""`summary.verdict`, `.over_reference`, `.claims`, `.tests` and `.checklist`: what the numbers show."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import Between, Estimate, Json, Labelled, Number, Reasoned, Record
from reports.schema.metrics import ComparisonVerdict

#: Explained in `reports.statistics.family`, with what each was called in version 1.
ClaimVerdict = Literal["better by more than m", "better", "equivalent", "worse", "undecided"]
Assertion = Literal["gain", "variation", "perplexity"]


class VerdictSentence(ComparisonVerdict, Labelled):
    """The verdict on one method under test against the baseline, on the primary metric."""


class Verdict(Record):
    """What the report says first."""

    headline: str = Field(min_length=1)
    over_reference: str | None = Field(
        description="`over_reference` in words.",
        min_length=1,
    )
    sentences: list[VerdictSentence]


class OverReference(Labelled, Reasoned):
    """One method against the reference on the primary metric, paired by prompt."""

    method: str
    metric: str = Field(description="benchmark/metric: the primary metric.")
    difference: Number | None = Field(
        description="Mean over seeds and prompts of method - reference, paired by prompt."
    )
    standard_error: Number | None = Field(description="Of the difference.")
    ci_low: Number | None = Field(description="Lower end of the 95 % interval over what `covers` names.")
    ci_high: Number | None = Field(description="Upper end of the 95 % interval.")
    n_seeds: int = Field(description="Seeds that were scored; the reference is one policy and has none.", ge=0)
    n_prompts: int = Field(description="Prompts that the reference and every seed answered.", ge=0)
    covers: Literal["seeds and prompts", "prompts of one seed"] | None = Field(
        description="What the interval is over; null where there is none."
    )


class ClaimP(Reasoned):
    """Corrected two-sided p-values of the verdicts on a claim."""

    better_by_more: Number | None = Field(description="Of better by more than m, the claim's min_effect.")
    better: Number | None
    equivalent: Number | None
    worse: Number | None
    method: str
    family_size: int = Field(description="Claims that are corrected together.")


class Ladder(Record):
    """Corrected p-values of the three assertions; the strongest with p <= .05 is what the gain is put down to."""

    gain: Number | None
    variation: Number | None
    perplexity: Number | None


class ClaimComparison(Between):
    """One comparison that a claim needs, oriented so that above zero the claim's method is better."""

    role: str
    difference: Estimate
    degrees_of_freedom: Number | None
    borrowed: Number = Field(
        default=0,
        description="Degrees of freedom of the spread over seeds that the other arms lent; absent in version 1.",
    )
    alone: Estimate | None = Field(default=None, description="The difference without what was lent; null without.")
    failed_at_worst: Estimate | None = Field(
        default=None,
        description="The difference with failed runs of the method at the worst score and those it is "
        "compared with at the best; null where no run failed.",
    )


class Needed(Record):
    """What would settle a claim; a null number is more than can be had."""

    against: str | None
    seeds: int | None
    prompts: int | None


class JudgedClaim(Record):
    name: str
    claim: Json = Field(description="As written in the matrix file, with defaults.")
    declared: bool
    exploratory_because: str | None
    verdict: ClaimVerdict
    attribution: Assertion | None = Field(description="The strongest assertion that holds.")
    attribution_text: str
    sentence: str = Field(min_length=1)
    adjusted_p: ClaimP
    ladder: Ladder
    comparisons: list[ClaimComparison]
    needed: Needed
    notes: list[str]
    failures: list[str] = Field(default=[], description="Failed, diverged and collapsed runs; absent in version 1.")


class MatrixEffect(Reasoned):
    """The difference that a claim is about in one matrix; `reason` says why there is none."""

    source: str
    model: str
    data: str
    difference: Number | None
    standard_error: Number | None
    seeds: int


class EffectOverMatrices(Record):
    """One comparison over matrices, by random effects (DerSimonian and Laird; Hartung and Knapp's interval)."""

    role: str
    matrices: list[MatrixEffect]
    mean: Estimate | None = Field(description="`n` counts matrices; null where one of them has no difference.")
    between: Number | None = Field(description="Standard deviation of the true difference between matrices.")
    share: Number | None = Field(description="Part of the observed spread that is more than sampling error, 0..1.")
    new_low: Number | None = Field(description="Where the difference of another matrix lies, with 95 %.")
    new_high: Number | None


class ClaimOverMatrices(Record):
    """A claim judged over base models and data sets."""

    name: str
    claim: Json
    declared: bool = Field(description="Whether every matrix froze it, with these very words.")
    verdict: ClaimVerdict
    sentence: str
    adjusted_p: Number | None = Field(description="Two-sided, of better; null with too few matrices.")
    family_size: int
    effects: list[EffectOverMatrices]


class Claims(Reasoned):
    """The claims of the matrix file: when they were frozen, what changed since, and the verdict on each."""

    frozen: str | None
    sha256: str | None
    changes: list[str]
    judged: list[JudgedClaim]


class TestCounts(Record):
    """How many tests were made, and how they were corrected."""

    declared: int
    exploratory: int
    checkpoint_level: int
    correction: str


class Check(Record):
    """One line of the reviewer's checklist; `missing` means that nothing on disk speaks to it."""

    name: str
    state: Literal["pass", "fail", "missing"]
    evidence: str
