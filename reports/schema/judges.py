"""`summary.judges`: win rates by judge; and what `judgments` and `compare-scores` print with --json."""

from typing import Literal

from pydantic import Field

from reports.schema.base import Estimate, Json, Labelled, Number, Policy, Reasoned, Record, Test, Value

# `summary.judges`: win rates by judge.


class WinRate(Estimate):
    """Share of comparisons won, a tie counting one half."""

    wins: int
    losses: int
    draws: int
    failed: int = Field(description="Comparisons without a verdict.")
    discrete: Number | None = Field(
        description="Share of the comparisons with a verdict that were won outright, draws one half."
    )


class LengthControlled(Estimate):
    """The win rate at equal length."""

    plain_rate: Number | None = Field(alias="plain", description="The win rate without the control.")
    weights: dict[str, Number] | None = None
    strength: Number | None = None


class Strength(Record):
    strength: Estimate = Field(description="Nats; the reference is at 0.")
    win_rate: Estimate


class BradleyTerry(Record):
    """Strengths from all comparisons; `reason` says why there are none."""

    anchor: str
    policies: dict[str, Strength] | None
    ranking: list[str] | None
    note: str | None = None
    reason: str | None = None


class Agreement(Reasoned):
    """Two judges on the same comparisons."""

    judges: list[str]
    n: int
    same_verdict: Estimate | None
    kappa: Estimate | None = Field(description="Cohen's kappa.")


class JudgeError(Record):
    kind: str = Field(alias="class")
    message: str


class Position(Record):
    """Whether verdicts survive swapping the answers; null for a judge that sees one answer at a time."""

    consistency: Estimate
    first_preference: Estimate


class JudgedPolicy(Policy):
    win_rate: WinRate


class Judged(Record):
    """The comparisons of two policies or of two methods."""

    win_rate: WinRate
    position: Position | None


class JudgedPair(Judged):
    first: str
    second: str


class JudgedArm(Judged, Labelled):
    over_seeds: Estimate | None = Field(
        default=None, description="The win rate with seeds and prompts as samples; null with one seed, absent before."
    )
    length_controlled: LengthControlled
    policies: list[JudgedPolicy]


class JudgeVerdicts(Record):
    """What one judge's comparisons on one benchmark say; all is empty where it made none."""

    comparisons: int = Field(ge=0)
    identical: int = Field(description="Comparisons of two equal answers, which tie unasked.", ge=0)
    failed: dict[str, int] = Field(description="Comparisons without a verdict, by reason.")
    pairs: list[JudgedPair]
    bradley_terry: BradleyTerry | None = Field(description="Intervals come from a bootstrap over prompts.")
    position: Position | None
    against_reference: list[JudgedArm]


class JudgeReport(JudgeVerdicts):
    name: str
    identity: Json | None = Field(description="What its verdicts depend on; null where it could not be built.")
    state: Literal["done", "failed"]
    error: JudgeError | None
    left_out: dict[str, str] = Field(description="Policies that could not be judged, and why.")
    tally: Json | None = Field(
        description="Requests: from the cache, asked, without a verdict by reason, and what they cost."
    )


class JudgedBenchmark(Record):
    benchmark: str
    reference: str
    judges: list[JudgeReport]
    agreement: list[Agreement]


# What `compare-scores` and `judgments` print with --json.


# What `judgments` prints with --json: win rates, pairs of models and agreement, from judgments of others.


class ModelRate(Record):
    model: str
    win_rate: WinRate = Field(description="Over all comparisons of the model, in 0..1.")
    length_controlled: Estimate | None = Field(
        description="AlpacaEval 2's length-controlled win rate, in 0..1; null without a baseline, lengths and four models."
    )


class ModelPair(Record):
    """The win rate of `first` minus that of `second`, paired by prompt."""

    first: str
    second: str
    difference: Estimate = Field(description="Share of prompts, in -1..1.")
    p_value: Number | None = Field(description="Two-sided, of the t interval.")
    how: str = Field(description="Compared with each other, or with the same opponents.")


class Separability(Value):
    """Share of pairs of models whose 95 % intervals of the win rate do not overlap."""

    separated: int
    pairs: int


class Strengths(Reasoned):
    """Bradley-Terry strengths, log odds; the anchor's is 0."""

    anchor: str | None
    plain_strengths: dict[str, Estimate] = Field(alias="plain")
    style_controlled: dict[str, Estimate] = Field(description="At equal style; empty where no style is known.")
    style: dict[str, Estimate] = Field(description="Weight of each feature, log odds per standard deviation.")


class AgainstPeople(Record):
    """A judge against the majority of the people who judged the same comparison, or their label."""

    n: int = Field(description="Comparisons on which more than half of the people agree.")
    no_verdict: int = Field(description="Of these, without a verdict of the judge; they count as ties, as in PandaLM.")
    accuracy: Number
    precision: Number = Field(description="Mean over the classes, as are recall and F1.")
    recall: Number
    f1: Number
    each_order: Number | None = Field(description="Accuracy of single orders, averaged; null where only one is known.")
    kappa: Estimate


class JudgeTable(Record):
    """What one judge said."""

    judge: str
    human: bool
    comparisons: int
    prompts: int
    baseline: str | None = Field(description="Model that all others were compared with.")
    models: list[ModelRate]
    pairs: list[ModelPair]
    separability: Separability
    strengths: Strengths
    position: Position | None
    against_people: AgainstPeople | None


class Judgments(Record):
    schema_version: Literal[1]
    format: str
    files: list[str]
    judges: list[JudgeTable]
    agreement: list[Agreement] = Field(description="Every two judges.")
    alpha: Estimate = Field(description="Krippendorff's alpha of all judges, ties a class of their own.")
    alpha_people: Estimate = Field(description="That of the people among them.")


# What `compare-scores` prints with --json.


class ScoreComparison(Record):
    """`first` minus `second` on one metric, in its unit."""

    metric: str
    first: str
    second: str
    first_mean: Number | None = Field(description="On the items that both have; as stated where only means are known.")
    second_mean: Number | None
    difference: Estimate = Field(description="Paired by item; Welch's, unpaired, where a side has no items.")
    test: Test = Field(
        description="Exact McNemar of 0/1 scores, sign flips of graded ones; of whole clusters where items are in clusters."
    )
    wins: int = Field(description="Items on which `first` scores higher.")
    losses: int
    ties: int
    clusters: int | None = Field(description="Null where no column of clusters was given.")
    only_first: int = Field(description="Items without a score of `second`; they take no part.")
    only_second: int


class ScoreTables(Record):
    schema_version: Literal[1]
    files: list[str]
    comparisons: list[ScoreComparison]
