"""Methods at best settings, along frontiers, by stratum and over all benchmarks."""

from __future__ import annotations

from pydantic import Field

from reports.schema.base import (
    Adjusted,
    Between,
    Estimate,
    Json,
    Labelled,
    Number,
    OnMetric,
    Policy,
    Reasoned,
    Record,
    Scored,
    SeedValue,
    Test,
    Tested,
    Value,
)


class Chosen(Labelled):
    """A setting, and the share of the choices that fell on it."""

    share: Number


class BestComparison(Adjusted, Tested, OnMetric):
    """Two methods, each at its best setting, cross-fitted."""

    method: str
    against: str
    settings: int
    against_settings: int
    seeds: list[int | None]
    n: int = Field(description="Prompts that every setting answered.")
    chosen: list[Chosen]
    against_chosen: list[Chosen]
    how: str | None
    seed_differences: list[Number]
    minimum_detectable_effect: Value


class ExpectedPoint(Record):
    """Expected best score of n settings drawn at random."""

    n_settings: int
    value: Number
    interval: Estimate
    per_seed: list[SeedValue]


class ExpectedBest(OnMetric):
    """One method's expected best score by the number of settings tried."""

    method: str
    settings: int
    n: int = Field(description="Prompts.")
    note: str
    points: list[ExpectedPoint]


class SettingScore(OnMetric):
    method: str
    label: str
    settings: Json = Field(description="Those that differ between the method's arms.")
    mean: Estimate
    per_seed: list[SeedValue]


class Tuning(Reasoned):
    """Methods at their best setting, expected best of n settings, and the mean at each setting."""

    comparisons: list[BestComparison]
    expected_best: list[ExpectedBest]
    map: list[SettingScore]


class FrontierPoint(Reasoned, Policy, Labelled):
    """One checkpoint of a run; means over prompts with their standard errors."""

    state: str
    step: int | None
    final: bool
    kl: Number | None = Field(description="Nats an answer.")
    kl_stderr: Number | None
    reward: Number | None
    reward_stderr: Number | None
    length: Number | None = Field(description="In the unit of `length_metric`.")
    length_stderr: Number | None
    length_metric: str | None


class _AtSeed(Record):
    """One seed's two runs: differences at the end of the range both reach, and on average over it."""

    seed: int
    matched: Number
    area: Number


class FrontierSeed(_AtSeed):
    """One seed at equal KL, in nats an answer."""

    kl_low: Number
    kl_high: Number


class LengthSeed(_AtSeed):
    """One seed at equal mean length of the answers."""

    length_low: Number
    length_high: Number


class TurnedOver(Labelled):
    """A run whose reward falls behind its highest by more than two standard errors at a larger KL."""

    seed: int
    kl: Number = Field(description="Of its highest reward, in nats an answer.")


class FrontierDifference(Tested):
    """A difference at equal KL, also with a bootstrap over prompts, KL prompts and seeds."""

    bootstrap: Estimate


class AtEqual(Adjusted, Reasoned, Between, Scored):
    """Two arms at an equal KL or length: at the end of the range both reach (tested), and on average over it."""

    n: int = Field(description="Prompts scored at every checkpoint.")
    points_per_run: int | None = Field(description="The fewest of any run.")
    seeds_without_shared_range: list[int]
    note: str | None
    matched: Tested
    area: Tested


class FrontierComparison(AtEqual):
    """Two arms at equal KL."""

    kl_prompts: int
    per_seed: list[FrontierSeed]
    turned_over: list[TurnedOver] = Field(default=[], description="Absent in version 1.")
    matched: FrontierDifference
    area: FrontierDifference


class LengthComparison(AtEqual):
    """Two arms at equal mean length of the answers."""

    length_prompts: int
    per_seed: list[LengthSeed]


class LengthFrontier(Reasoned):
    """The same at equal mean length of the answers; `metric` says which length."""

    metric: str | None
    comparisons: list[LengthComparison]


class FrontierBand(Labelled):
    """An arm's mean reward at one KL, interpolated in every seed's curve; the interval is over seeds."""

    kl: Number = Field(description="Nats an answer.")
    reward: Estimate


class Frontiers(Reasoned):
    """Reward, KL (nats an answer) and length of every run's checkpoints; differences at equal KL and at equal length."""

    kl_benchmark: str | None
    kl_metric: str | None = Field(
        default="kl_k3",
        description="kl_exact (over the vocabulary, per token) where every policy has it, else kl_k3; absent before.",
    )
    metric: str | None
    bands: list[FrontierBand] = Field(default=[], description="Over seeds; absent before.")
    points: list[FrontierPoint]
    comparisons: list[FrontierComparison]
    length: LengthFrontier


class Stratum(Record):
    """The differences on the prompts of one quantile of log perplexity (nats a token)."""

    quantile: int
    of: int
    low: Number
    high: Number
    mean_log_prompt_perplexity: Number
    difference: Estimate
    seed_differences: list[Number]


class StrataComparison(Adjusted, Between, OnMetric):
    """Two arms by prompt perplexity; `slope` is per nat of log perplexity, and `test` is that of the slope."""

    source: str = Field(description="Where the perplexities come from.")
    higher_is_better: bool
    control: bool
    seeds: list[int | None]
    n: int = Field(description="Prompts with a perplexity, or groups of them.")
    without_perplexity: int
    strata: list[Stratum]
    slope: Estimate
    test: Test


class Strata(Reasoned):
    """Paired differences by quantile of log prompt perplexity, and their slope on it."""

    comparisons: list[StrataComparison]


class LeftOut(Record):
    benchmark: str
    reason: str


class ProfilePoint(Record):
    """Share of runs and benchmarks with a score above."""

    above: Number
    share: Number


class AggregateArm(Reasoned, Labelled):
    runs: int = Field(description="Runs scored on all of the benchmarks.")
    iqm: Estimate = Field(description="Interquartile mean of the scores.")
    improvement: Estimate | None = Field(description="Chance that a run beats a run of the baseline.")
    profile: list[ProfilePoint]


class Aggregate(Reasoned):
    """Methods over all benchmarks whose primary scores lie between 0 and 1, each by its primary metric."""

    benchmarks: list[str]
    left_out: list[LeftOut]
    methods: list[AggregateArm]
