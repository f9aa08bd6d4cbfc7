"""Every metric with its comparisons; methods at best settings, along frontiers and by stratum."""

from typing import Literal

from pydantic import AliasChoices, Field

from reports.schema.base import (
    Adjusted,
    Between,
    ClaimVerdict,
    Estimate,
    Json,
    Labelled,
    Moderated,
    Number,
    OnMetric,
    Policy,
    Reasoned,
    Record,
    Scored,
    SeedValue,
    State,
    Test,
    Tested,
    Value,
)

# `summary.metrics`: scores and paired comparisons of one metric of a benchmark.


Family = Literal["declared", "exploratory"]


class PolicyScore(Estimate, Policy):
    """One policy's mean over the items."""


class AbsentRun(Policy):
    state: State


class ArmScore(Labelled):
    """One arm's mean over its seeds."""

    method: str
    rule: str | None
    mean: Estimate
    policies: list[PolicyScore]
    absent: list[AbsentRun]


class CheckpointPair(Record):
    """Two policies on the prompts both answered; differences are `run_id` minus `against_run_id`."""

    run_id: str
    against_run_id: str
    seed: int | None
    n: int = Field(description="Prompts that both answered.")
    difference: Estimate
    test: Test | None
    wins: int
    ties: int
    losses: int
    minimum_detectable_effect: Number | None


class Inferred(Moderated):
    """What a verdict rests on: a paired difference with seeds and prompts as samples."""

    n: int = Field(description="Prompts that every policy answered.")
    seed_differences: list[Number] = Field(description="Mean over the prompts of each shared seed.")
    crossed_test: Test
    minimum_detectable_effect: Value


class Paired(Inferred, Between):
    """One arm against another, or against the reference, before its p-value is corrected."""

    seeds: list[int | None]
    unpaired_seeds: list[int]
    checkpoints: list[CheckpointPair]
    hierarchical: Estimate
    permutation: Test
    trimmed: Estimate | None = Field(default=None, description="Mean without the outermost seeds; absent in version 1.")
    trimmed_test: Test | None = None
    rank_test: Test | None = Field(default=None, description="Signed ranks over seeds.")
    studentised: Test | None = Field(
        default=None, description="Signs of whole seeds, the error computed again for each."
    )


class Comparison(Adjusted, Paired):
    """A comparison with its corrected p-value and its verdict."""

    family: Family
    exploratory_because: str | None = Field(
        default=None, description="Of a comparison with the baseline on the primary metric: why it is not declared."
    )
    verdict: ClaimVerdict


class Metric(OnMetric):
    """Every arm on one metric, and the comparisons between arms."""

    description: str | None = Field(default=None, description="What the metric measures, as its benchmark says it.")
    higher_is_better: bool
    benchmark_primary: bool
    reference: Estimate | None
    methods: list[ArmScore]
    comparisons: list[Comparison]

    @property
    def name(self) -> str:
        """benchmark/metric."""
        return f"{self.benchmark}/{self.metric}"


# Methods at best settings, along frontiers, by stratum and over all benchmarks.


class BestComparison(Adjusted, Tested, OnMetric):
    """Two methods, each at its best setting, cross-fitted."""

    method: str
    against: str
    settings: int
    against_settings: int
    seeds: list[int | None]
    n: int = Field(description="Prompts that every setting answered.")
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


class AtSeed(Record):
    """One seed's two runs over the range of cost that both reach: the differences at its end, and on average over it."""

    seed: int
    low: Number = Field(
        validation_alias=AliasChoices("low", "kl_low", "length_low"), description="Of the range: nats, or a length."
    )
    high: Number = Field(validation_alias=AliasChoices("high", "kl_high", "length_high"))
    matched: Number
    area: Number


class TurnedOver(Labelled):
    """A run whose reward falls behind its highest by more than two standard errors at a larger KL."""

    seed: int
    kl: Number = Field(description="Of its highest reward, in nats an answer.")


class AtEqual(Adjusted, Reasoned, Between, Scored):
    """Two arms at an equal KL or length: at the end of the range both reach (tested), and on average over it."""

    n: int = Field(description="Prompts scored at every checkpoint.")
    points_per_run: int | None = Field(description="The fewest of any run.")
    seeds_without_shared_range: list[int]
    per_seed: list[AtSeed]
    turned_over: list[TurnedOver] = Field(default=[], description="Of KL; absent in version 1.")
    note: str | None
    matched: Tested
    area: Tested


class LengthFrontier(Reasoned):
    """The same at equal mean length of the answers; `metric` says which length."""

    metric: str | None
    comparisons: list[AtEqual]


class FrontierBand(Labelled):
    """An arm's mean reward at one KL, interpolated in every seed's curve; the interval is over seeds."""

    kl: Number = Field(description="Nats an answer.")
    reward: Estimate


class Frontiers(LengthFrontier):
    """Reward, KL (nats an answer) and length of every run's checkpoints; differences at equal KL and at equal length.

    Here `metric` is that of the reward.
    """

    kl_benchmark: str | None
    kl_metric: str | None = Field(
        default="kl_k3",
        description="kl_exact (over the vocabulary, per token) where every policy has it, else kl_k3; absent before.",
    )
    bands: list[FrontierBand] = Field(default=[], description="Over seeds; absent before.")
    points: list[FrontierPoint]
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
