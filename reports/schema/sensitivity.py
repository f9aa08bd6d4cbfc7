"""`summary.sensitivity` and `summary.scope`: whether the matrix can see an effect, and over what its intervals generalise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.schema.base import Between, Number, Reasoned, Record


class PlantedControl(Between, Reasoned):
    """A control of `sensitivity` against a fixed beta of the same mean, judged as a claim is."""

    role: Literal["positive", "negative", "weak"]
    metric: str = Field(description="benchmark/metric")
    at: Literal["final", "matched_kl"]
    difference: Number | None = Field(description="In the metric's unit, above zero where the control is better.")
    standard_error: Number | None
    ci_low: Number | None = Field(description="Lower end of the 95 % interval over seeds and prompts.")
    ci_high: Number | None
    detected: bool = Field(description="Shown to be better, and not only by less than the margin.")
    detectable: Number | None = Field(
        description="Smallest true difference found with chance .80, by the spread seen here."
    )
    seeds: int = Field(ge=0)
    prompts: int = Field(ge=0)
    sentence: str = Field(min_length=1)


class Sensitivity(Record):
    """What the controls of `sensitivity` say of the matrix (assay sensitivity, ICH E10)."""

    positive: PlantedControl
    negative: PlantedControl
    weak: PlantedControl | None = None
    margin: Number = Field(description="The negative control must not be better by more than this.")
    nulls_count: bool = Field(
        description="Whether a result without a difference may be read as one; else no verdict says so."
    )
    sentence: str = Field(description="Said before anything else.", min_length=1)


class Share(Record):
    """Part of the spread over seeds of one comparison with the baseline."""

    label: str
    against: str
    sd_seeds: Number = Field(description="Between seeds, in the metric's unit.")
    sd_data: Number = Field(description="Of it between draws of the pairs.")
    sd_order: Number = Field(description="Of it between seeds of one draw: order of the pairs and initialisation.")
    draws: int = Field(ge=2)


class Scope(Record):
    """Over what the intervals generalise, and where the spread over seeds comes from."""

    sentence: str = Field(min_length=1)
    seed_spread: str | None = Field(default=None, description="The split in words; null where the design allows none.")
    shares: list[Share]
