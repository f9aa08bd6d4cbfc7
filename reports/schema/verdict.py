"""`summary.verdict`, `.inference`, `.over_reference`, `.claims`, `.tests`, `.checklist`, `.sensitivity` and `.scope`."""

from typing import Literal

from pydantic import Field

from reports.schema.base import (
    Adjusted,
    Between,
    ClaimVerdict,
    Estimate,
    Json,
    Labelled,
    Moderated,
    Number,
    Reasoned,
    Record,
)

# `summary.verdict`, `.inference`, `.over_reference`, `.claims`, `.tests` and `.checklist`: what the numbers show.


Assertion = Literal["gain", "variation", "perplexity"]


class Verdict(Record):
    """What the report says first."""

    answer: list[str] = Field(
        min_length=1,
        max_length=3,
        description="Up to three sentences, made from the rows of `inference` and `over_reference`.",
    )
    kind: Literal["declared", "exploratory"] = Field(description="Declared: every claim was frozen before training.")
    because: str | None = Field(description="Why the answer is exploratory.")


class Level(Labelled):
    """One method's policies, or the reference, on the primary metric; means over its final policies."""

    score: Number | None
    kl: Number | None = Field(description="To the reference, in nats an answer.")
    length: Number | None = Field(description="Of its answers, in the unit of `length_metric`.")


class InferenceRow(Adjusted, Reasoned, Level, Between):
    """One method against the baseline: difference, interval, p and verdict come from one model.

    Above zero the method is better. `adjusted_p` is that of the verdict, of no difference where that is undecided.
    """

    method: str
    control: bool
    declared: bool = Field(description="Rests on a claim that was frozen before training.")
    difference: Estimate
    seed_differences: list[Number]
    verdict: ClaimVerdict
    min_effect: Number = Field(description="m, the smallest difference worth having; 0 where no claim states one.")
    detectable: Number | None = Field(description="True difference that this design finds in four of five repetitions.")
    seeds_needed: int | None = Field(
        description="Seeds that find m with chance .80 at these prompts; with m 0 the difference seen. Null: no number does."
    )
    attribution: str = Field(description="What the controls say a gain is due to.")
    failures: list[str] = Field(description="Failed, diverged and collapsed runs.")


class Inference(Reasoned):
    """The table of the report: every method against the baseline on the primary metric."""

    metric: str | None
    at: Literal["final", "matched_kl"] = Field(
        description="The trained policies, or both at an equal KL to the reference."
    )
    model: str = Field(description="The model of inference, in words.")
    length_metric: str | None
    levels: list[Level] = Field(description="The reference, where it was scored, and the baseline.")
    rows: list[InferenceRow] = Field(
        description="In the order of the matrix file, controls after them, claims that compare two other methods last."
    )

    def named(self, row: InferenceRow) -> str:
        """The method, and what it is compared with where that is not what the first row is compared with."""
        return row.label if row.against == self.rows[0].against else f"{row.label} vs {row.against}"


class Difference(Labelled, Reasoned):
    """A difference in the metric's unit, above zero where `label` has more, with its 95 % interval."""

    metric: str = Field(description="benchmark/metric")
    difference: Number | None = Field(description="Mean over seeds and prompts, paired by prompt.")
    standard_error: Number | None = Field(description="Of the difference.")
    ci_low: Number | None = Field(description="Lower end of the 95 % interval over seeds and prompts.")
    ci_high: Number | None = Field(description="Upper end of the 95 % interval.")


class OverReference(Difference):
    """One method against the reference on the primary metric, paired by prompt; the interval is over what `covers` names."""

    method: str
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


class ClaimComparison(Moderated, Between):
    """One comparison that a claim needs, oriented so that above zero the claim's method is better."""

    role: str
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


class Ruled(Record):
    """A claim and what it came to."""

    name: str
    claim: Json = Field(description="As written in the matrix file, with defaults.")
    declared: bool = Field(description="Whether it was frozen before training, in every matrix with these very words.")
    verdict: ClaimVerdict
    sentence: str = Field(min_length=1)


class JudgedClaim(Ruled):
    exploratory_because: str | None
    attribution: Assertion | None = Field(description="The strongest assertion that holds.")
    attribution_text: str
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


class ClaimOverMatrices(Ruled):
    """A claim judged over base models and data sets."""

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


# `summary.sensitivity` and `summary.scope`: whether the matrix can see an effect, and over what its intervals
# generalise.


class PlantedControl(Difference, Between):
    """A control of `sensitivity` against a fixed beta of the same mean, judged as a claim is; above zero it is better."""

    role: Literal["positive", "negative", "weak"]
    at: Literal["final", "matched_kl"]
    detected: bool = Field(description="Shown to be better, and not only by less than the margin.")
    detectable: Number | None = Field(
        description="Smallest true difference found with chance .80, by the spread seen here."
    )
    seeds: int = Field(ge=0)
    prompts: int = Field(ge=0)
    sentence: str = Field(min_length=1)


class Sensitivity(Record):
    """What the controls of `sensitivity` say of the matrix (assay sensitivity, ICH E10)."""

    positive: PlantedControl
    negative: PlantedControl
    weak: PlantedControl | None = None
    margin: Number = Field(description="The negative control must not be better by more than this.")
    nulls_count: bool = Field(
        description="Whether a result without a difference may be read as one; else no verdict says so."
    )
    sentence: str = Field(description="Said before anything else.", min_length=1)


class Share(Record):
    """Part of the spread over seeds of one comparison with the baseline."""

    label: str
    against: str
    sd_seeds: Number = Field(description="Between seeds, in the metric's unit.")
    sd_data: Number = Field(description="Of it between draws of the pairs.")
    sd_order: Number = Field(description="Of it between seeds of one draw: order of the pairs and initialisation.")
    draws: int = Field(ge=2)


class Scope(Record):
    """Over what the intervals generalise, and where the spread over seeds comes from."""

    sentence: str = Field(min_length=1)
    seed_spread: str | None = Field(default=None, description="The split in words; null where the design allows none.")
    shares: list[Share]
