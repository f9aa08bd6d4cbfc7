"""`summary.judges`: win rates by judge."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import Estimate, Json, Labelled, Number, Policy, Reasoned, Record


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
    spread_error: Number | None = None
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
