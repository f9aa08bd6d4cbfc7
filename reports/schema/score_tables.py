"""What `compare-scores` prints with --json."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import Estimate, Number, Record, Test


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
