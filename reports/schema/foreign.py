"""`summary.foreign`: runs that other tools made."""

from __future__ import annotations

from typing import Literal

from reports.schema.base import Estimate, Json, Labelled, Number, Record, Scored


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
