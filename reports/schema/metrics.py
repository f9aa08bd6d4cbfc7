"""`summary.metrics`: scores and paired comparisons of one metric of a benchmark."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import AdjustedP, Detectable, Estimate, Number, Policy, Record, State, Test


class SeedsNeeded(Record):
    exact_test: int
    observed_effect: int | None
    reason: str | None


class PolicyScore(Estimate, Policy):
    """One policy's mean over the items."""


class AbsentRun(Policy):
    state: State


class ArmScore(Record):
    label: str
    method: str
    rule: str | None
    mean: Estimate
    policies: list[PolicyScore]
    absent: list[AbsentRun]


class CheckpointPair(Record):
    run_id: str
    against_run_id: str
    seed: int | None
    n: int
    difference: Estimate
    bootstrap: Estimate
    test: Test | None
    wins: int
    ties: int
    losses: int
    minimum_detectable_effect: Number | None


class Spread(Record):
    """Standard deviations of one paired difference between seeds, between prompts, and left per cell."""

    seed: Number | None
    prompt: Number | None
    residual: Number | None
    reason: str | None


class ComparisonVerdict(Record):
    code: Literal["better", "worse", "inconclusive", "unsettled", "no_data"]
    sentence: str = Field(min_length=1)
    seeds_needed: SeedsNeeded


class Comparison(Record):
    label: str
    against: str
    seeds: list[int | None]
    unpaired_seeds: list[int]
    checkpoints: list[CheckpointPair]
    n: int
    seed_differences: list[Number]
    difference: Estimate
    degrees_of_freedom: Number | None = Field(
        description="Satterthwaite degrees of freedom of the interval over seeds and prompts."
    )
    spread: Spread
    crossed_test: Test
    minimum_detectable_effect: Detectable
    hierarchical: Estimate
    t_test: Test
    permutation: Test
    family: Literal["declared", "exploratory"]
    adjusted_p: AdjustedP
    verdict: ComparisonVerdict


class TieGroup(Record):
    label: str
    mean: Number
    letters: str


class TieGroups(Record):
    """Compact letter display: arms that share a letter are not distinguishable."""

    groups: list[TieGroup]
    method: str | None
    pairs: int
    tested: int
    reason: str | None


class Metric(Record):
    benchmark: str
    metric: str
    higher_is_better: bool
    benchmark_primary: bool
    primary: bool
    reference: Estimate | None
    methods: list[ArmScore]
    comparisons: list[Comparison]
    tie_groups: TieGroups
