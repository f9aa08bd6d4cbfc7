"""`summary.verdict`, `.over_reference`, `.claims`, `.tests` and `.checklist`: what the numbers show."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import Estimate, Json, Number, Record
from reports.schema.metrics import SeedsNeeded


class VerdictSentence(Record):
    label: str
    code: Literal["better", "worse", "inconclusive", "unsettled", "no_data"]
    sentence: str = Field(min_length=1)
    seeds_needed: SeedsNeeded


class Verdict(Record):
    """What the report says first."""

    headline: str = Field(min_length=1)
    over_reference: str | None = Field(
        description="`over_reference` in words.",
        min_length=1,
    )
    sentences: list[VerdictSentence]


class OverReference(Record):
    """One method against the reference on the primary metric, paired by prompt."""

    method: str
    label: str = Field(description="The method with the settings that tell its arms apart.")
    metric: str = Field(description="benchmark/metric: the primary metric.")
    difference: Number | None = Field(
        description="Mean over seeds and prompts of method - reference, paired by prompt."
    )
    standard_error: Number | None = Field(description="Of the difference.")
    ci_low: Number | None = Field(description="Lower end of the 95 % interval over what `covers` names.")
    ci_high: Number | None = Field(description="Upper end of the 95 % interval.")
    n_seeds: int = Field(description="Seeds that were scored; the reference is one policy and has none.", ge=0)
    n_prompts: int = Field(description="Prompts that the reference and every seed answered.", ge=0)
    reason: str | None = Field(description="Why a value is null.")
    covers: Literal["seeds and prompts", "prompts of one seed"] | None = Field(
        description="What the interval is over; null where there is none."
    )


class ClaimP(Record):
    supported: Number | None
    equivalent: Number | None
    refuted: Number | None
    method: str
    family_size: int
    reason: str | None


class Ladder(Record):
    gain: Number | None
    variation: Number | None
    perplexity: Number | None


class ClaimComparison(Record):
    role: str
    label: str
    against: str
    difference: Estimate
    degrees_of_freedom: Number | None


class Needed(Record):
    against: str | None
    seeds: int | None
    prompts: int | None


class JudgedClaim(Record):
    name: str
    claim: Json
    declared: bool
    exploratory_because: str | None
    verdict: Literal["supported", "equivalent", "refuted", "inconclusive"]
    attribution: Literal["gain", "variation", "perplexity"] | None
    attribution_text: str
    sentence: str = Field(min_length=1)
    adjusted_p: ClaimP
    ladder: Ladder
    comparisons: list[ClaimComparison]
    needed: Needed
    notes: list[str]


class Claims(Record):
    """The claims of the matrix file: when they were frozen, what changed since, and the verdict on each."""

    frozen: str | None
    sha256: str | None
    reason: str | None
    changes: list[str]
    judged: list[JudgedClaim]


class TestCounts(Record):
    """How many tests were made, and how they were corrected."""

    declared: int
    exploratory: int
    checkpoint_level: int
    correction: str


class Check(Record):
    name: str
    state: Literal["pass", "fail", "missing"]
    evidence: str
