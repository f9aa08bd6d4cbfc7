"""`summary.metrics`: scores and paired comparisons of one metric of a benchmark."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import (
    Adjusted,
    Between,
    ClaimVerdict,
    Estimate,
    Labelled,
    Number,
    OnMetric,
    Policy,
    Reasoned,
    Record,
    State,
    Test,
    Value,
)

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
    bootstrap: Estimate | None = Field(default=None, description="Before version 3 only.")
    test: Test | None
    wins: int
    ties: int
    losses: int
    minimum_detectable_effect: Number | None


class Spread(Reasoned):
    """Standard deviations of one paired difference between seeds, between prompts, and left per cell."""

    seed: Number | None
    prompt: Number | None
    residual: Number | None


class Inferred(Record):
    """What a verdict rests on: a paired difference with seeds and prompts as samples."""

    n: int = Field(description="Prompts that every policy answered.")
    seed_differences: list[Number] = Field(description="Mean over the prompts of each shared seed.")
    difference: Estimate
    degrees_of_freedom: Number | None = Field(
        description="Satterthwaite degrees of freedom of the interval over seeds and prompts."
    )
    borrowed: Number = Field(
        default=0,
        description="Degrees of freedom of the spread over seeds that the other arms lent; absent in version 1.",
    )
    alone: Estimate | None = Field(default=None, description="The difference without what was lent; null without.")
    spread: Spread
    crossed_test: Test
    minimum_detectable_effect: Value


class Paired(Inferred, Between):
    """One arm against another, or against the reference, before its p-value is corrected."""

    seeds: list[int | None]
    unpaired_seeds: list[int]
    checkpoints: list[CheckpointPair]
    hierarchical: Estimate
    t_test: Test | None = Field(default=None, description="Before version 3 only.")
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
