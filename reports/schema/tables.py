"""Methods at best settings, along frontiers, by stratum and over all benchmarks."""

from __future__ import annotations

from pydantic import Field

from reports.schema.base import AdjustedP, Detectable, Estimate, Json, Number, OnMetric, Record, SeedValue, Test


class Chosen(Record):
    label: str
    share: Number


class BestComparison(OnMetric):
    method: str
    against: str
    settings: int
    against_settings: int
    seeds: list[int | None]
    n: int
    chosen: list[Chosen]
    against_chosen: list[Chosen]
    how: str | None
    seed_differences: list[Number]
    difference: Estimate
    test: Test
    minimum_detectable_effect: Detectable
    adjusted_p: AdjustedP


class ExpectedPoint(Record):
    n_settings: int
    value: Number
    interval: Estimate
    per_seed: list[SeedValue]


class ExpectedBest(OnMetric):
    method: str
    settings: int
    n: int
    note: str
    points: list[ExpectedPoint]


class SettingScore(OnMetric):
    method: str
    label: str
    settings: Json
    mean: Estimate
    per_seed: list[SeedValue]


class Tuning(Record):
    """Methods at their best setting, expected best of n settings, and the mean at each setting."""

    comparisons: list[BestComparison]
    expected_best: list[ExpectedBest]
    map: list[SettingScore]
    reason: str | None


class FrontierPoint(Record):
    label: str
    run_id: str
    seed: int | None
    state: str
    step: int | None
    final: bool
    kl: Number | None
    kl_stderr: Number | None
    reward: Number | None
    reward_stderr: Number | None
    length: Number | None
    length_stderr: Number | None
    length_metric: str | None
    reason: str | None


class FrontierSeed(Record):
    seed: int
    kl_low: Number
    kl_high: Number
    matched: Number
    area: Number


class FrontierDifference(Record):
    difference: Estimate
    test: Test
    bootstrap: Estimate


class FrontierComparison(Record):
    benchmark: str
    metric: str
    label: str
    against: str
    n: int
    kl_prompts: int
    points_per_run: int | None
    seeds_without_shared_range: list[int]
    per_seed: list[FrontierSeed]
    matched: FrontierDifference
    area: FrontierDifference
    note: str | None
    reason: str | None
    adjusted_p: AdjustedP


class LengthSeed(Record):
    seed: int
    length_low: Number
    length_high: Number
    matched: Number
    area: Number


class LengthDifference(Record):
    difference: Estimate
    test: Test


class LengthComparison(Record):
    benchmark: str
    metric: str
    label: str
    against: str
    n: int
    length_prompts: int
    points_per_run: int | None
    seeds_without_shared_range: list[int]
    per_seed: list[LengthSeed]
    matched: LengthDifference
    area: LengthDifference
    note: str | None
    reason: str | None
    adjusted_p: AdjustedP


class LengthFrontier(Record):
    """The same at equal mean length of the answers; `metric` says which length."""

    metric: str | None
    comparisons: list[LengthComparison]
    reason: str | None


class Frontiers(Record):
    """Reward, KL (nats an answer) and length of every run's checkpoints; differences at equal KL and at equal length."""

    kl_benchmark: str | None
    metric: str | None
    points: list[FrontierPoint]
    comparisons: list[FrontierComparison]
    length: LengthFrontier
    reason: str | None


class Stratum(Record):
    quantile: int
    of: int
    low: Number
    high: Number
    mean_log_prompt_perplexity: Number
    difference: Estimate
    seed_differences: list[Number]


class StrataComparison(OnMetric):
    source: str
    higher_is_better: bool
    control: bool
    label: str
    against: str
    seeds: list[int | None]
    n: int
    without_perplexity: int
    strata: list[Stratum]
    slope: Estimate
    test: Test
    adjusted_p: AdjustedP


class Strata(Record):
    """Paired differences by quantile of log prompt perplexity, and their slope on it."""

    comparisons: list[StrataComparison]
    reason: str | None


class LeftOut(Record):
    benchmark: str
    reason: str


class ProfilePoint(Record):
    above: Number
    share: Number


class AggregateArm(Record):
    label: str
    runs: int = Field(description="Runs scored on all of the benchmarks.")
    iqm: Estimate
    improvement: Estimate | None
    profile: list[ProfilePoint] = Field(description="Share of runs and benchmarks with a score above.")
    reason: str | None


class Aggregate(Record):
    """Methods over all benchmarks whose primary scores lie between 0 and 1, each by its primary metric."""

    benchmarks: list[str]
    left_out: list[LeftOut]
    methods: list[AggregateArm]
    reason: str | None
