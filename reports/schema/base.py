"""What every part of a summary is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

#: A number as it is: a whole one stays whole in the file.
Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
#: Whatever JSON the part's own writer put there.
Json = dict[str, Any]
State = Literal["done", "failed", "running", "pending", "missing"]


class Record(BaseModel):
    """A part of summary.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def plain(self) -> Json:
        """The part as JSON values, without the optional keys that it was made without."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Policy(Record):
    """One run's policy."""

    run_id: str
    seed: int | None


class OnMetric(Record):
    """Anything measured on one metric of a benchmark."""

    benchmark: str
    metric: str
    primary: bool


class Estimate(Record):
    """An estimate in the unit of its data, with its interval."""

    value: Number | None
    low: Number | None
    high: Number | None
    stderr: Number | None
    confidence: Number = Field(description="Of the interval, as a share.")
    method: str
    n: int = Field(ge=0, description="Items: prompts, rows or comparisons.")
    seeds: int | None = Field(description="Training seeds, where they are the unit.")
    note: str | None
    reason: str | None


class Test(Record):
    """A two-sided test."""

    __test__ = False  # not a pytest class

    p_value: Number | None = Field(ge=0, le=1)
    method: str
    n: int
    seeds: int | None
    smallest_p: Number | None = Field(description="Minimum possible p of the design; null where that is no limit.")
    note: str | None
    reason: str | None


class Detectable(Record):
    value: Number | None
    reason: str | None


class AdjustedP(Record):
    value: Number | None
    method: str
    family_size: int
    reason: str | None


class Collapse(Record):
    step: Number | None
    reason: str
    records: int = Field(description="Logged steps.")


class SeedValue(Record):
    seed: int | None
    value: Number
