"""The runs, what measured them, and what they share with the benchmarks."""

from typing import Any, Literal

from pydantic import Field

from reports.schema.base import (
    Between,
    Collapse,
    Estimate,
    Json,
    Labelled,
    Number,
    Policy,
    Reasoned,
    Record,
    Scored,
    State,
)


class FailedCheckpoint(Record):
    step: int
    error: str


class RunEntry(Labelled, Policy):
    """One run; failed and missing ones have an entry too."""

    method: str
    rule: str | None
    settings: Json
    state: State
    stage: str | None
    step: int | None
    total_steps: int | None
    error: str | None
    failed_checkpoints: list[FailedCheckpoint] = Field(
        description="Intermediate checkpoints that could not be evaluated."
    )
    logged_steps: int
    diverged: bool
    final: dict[str, Number | None]
    collapse: Collapse | None
    benchmarks: list[str]


class TokenDifference(Record):
    prompt: str
    position: int = Field(description="Of the first token that differs, from 0.")
    engine_token: int | None
    transformers_token: int | None
    gap: Number | None = Field(description="Nats by which transformers prefers its own token there.")


class GreedyAgreement(Reasoned):
    """Prompts on which the engine's greedy answers equal those of transformers, with the reference's weights."""

    against: str | None
    engine: str | None
    agree: int | None
    total: int | None
    share: Number | None
    max_new_tokens: int | None
    differences: list[TokenDifference]
    sentence: str


class MeasuredBy(Record):
    """Ids of the policies that each engine measured; no sentence where there is one engine at most."""

    engines: dict[str, list[str]]
    sentence: str | None


class EngineUse(Record):
    """What wrote the answers, and how far its greedy answers equal those of transformers."""

    greedy_agreement: GreedyAgreement
    measured_by: MeasuredBy


class SharedPrompts(Record):
    """Prompts of one benchmark that are training prompts: `exact`, or `near` by similarity of word trigrams."""

    n_training: int | None
    n_benchmark: int | None
    exact: int | None
    near: int | None
    examples: list[Json] | None
    threshold: Number | None = Field(description="Least Jaccard similarity of word trigrams that counts as near.")


class Contamination(Reasoned):
    """Benchmark prompts that are training prompts, by benchmark; null with a reason where that was not compared."""

    benchmarks: dict[str, SharedPrompts] | None


class NoiseRow(Scored):
    """One policy evaluated twice on one metric."""

    policy: str
    first: Number | None
    second: Number | None
    difference: Number | None
    item_difference: Number | None = Field(description="Mean of the items' differences.")
    stderr: Number | None = Field(description="Of `item_difference`.")
    n: int | None
    changed: Number | None = Field(description="Share of the items whose score changed.")
    how: str | None


class BelowNoise(Between, Scored):
    """A comparison whose difference is no larger than the floor."""

    difference: Number
    floor: Number


class NoiseFloor(Reasoned):
    """Policies evaluated twice, and the comparisons whose difference is no larger than that."""

    rows: list[NoiseRow]
    below: list[BelowNoise]


class Provenance(Record):
    """Versions, hardware, source and data of the runs, their fingerprints, times and seconds."""

    fields: dict[str, list[Any]]
    fingerprints: dict[str, str | None]
    created: dict[str, str | None]
    seconds: dict[str, dict[str, Number]] = Field(default={}, description="Wall time by run and stage.")


class Subset(Record):
    """Written by compare: where the runs were taken from."""

    sentence: str
    sources: list[Any]
    notes: list[str]


# `summary.foreign`: runs that other tools made.


class ForeignBeta(Record):
    kind: Literal["dynamic", "fixed", "unknown"]
    low: Number | None
    high: Number | None


class ForeignSource(Labelled):
    """One run: what was read of it."""

    run_id: str
    directory: str
    formats: list[str]
    files: list[str]
    logged_steps: int
    columns: dict[str, str]
    beta: ForeignBeta
    training_seed: int | None
    tasks: dict[str, int]
    results: Json
    notes: list[str]


class Gap(Record):
    """Something that was not recorded, and what cannot be said without it."""

    what: str
    means: str
    runs: list[str]
    all: bool


class UnpairedScore(Labelled, Scored):
    """A run's own level, and its difference from the baseline without pairing."""

    value: Number
    stderr: Number | None
    n: int | None
    against: str | None
    difference: Estimate | None
    reason: str


class Foreign(Record):
    """Only in an analysis of runs that other tools made: what was read and what is missing."""

    sources: list[ForeignSource]
    gaps: list[Gap]
    pairing: list[str]
    unpaired: list[UnpairedScore]
