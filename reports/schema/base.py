"""What every part of a summary is made of."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

#: A number as it is: a whole one stays whole in the file.
Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
#: Whatever JSON the part's own writer put there.
Json = dict[str, Any]
#: Explained in `reports.statistics.family`, with what each was called in version 1.
ClaimVerdict = Literal["better by more than m", "better", "equivalent", "worse", "undecided"]
State = Literal["done", "failed", "running", "pending", "missing"]


class Record(BaseModel):
    """A part of summary.json. What an earlier version had beside it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def plain(self) -> Json:
        """The part as JSON values, without the optional keys that it was made without."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Reasoned(Record):
    """Has values that may be null."""

    reason: str | None = Field(description="Why a value is null.")


class Labelled(Record):
    """Of one arm: a method at one setting."""

    label: str


class Between(Labelled):
    """Of two arms; a difference is that of `label` minus that of `against`."""

    against: str


class Policy(Record):
    """One run's policy."""

    run_id: str
    seed: int | None


class Scored(Record):
    """Of one metric of a benchmark."""

    benchmark: str
    metric: str


class OnMetric(Scored):
    """Of one metric of a benchmark, which may be the report's primary one."""

    primary: bool


class Estimate(Reasoned):
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


class Test(Reasoned):
    """A two-sided test."""

    __test__ = False  # not a pytest class

    p_value: Number | None = Field(ge=0, le=1)
    method: str
    n: int
    seeds: int | None
    smallest_p: Number | None = Field(description="Minimum possible p of the design; null where that is no limit.")
    note: str | None


class Tested(Record):
    """A paired difference and the test that it is zero."""

    difference: Estimate
    test: Test


class Moderated(Record):
    """A paired difference whose spread over seeds is moderated over arms."""

    difference: Estimate
    degrees_of_freedom: Number | None = Field(
        description="Satterthwaite degrees of freedom of the interval over seeds and prompts."
    )
    borrowed: Number = Field(
        default=0,
        description="Degrees of freedom of the spread over seeds that the other arms lent; absent in version 1.",
    )
    alone: Estimate | None = Field(default=None, description="The difference without what was lent; null without.")


class Value(Reasoned):
    """A number, or why there is none."""

    value: Number | None


class Cell(Value):
    """A number with its 95 % interval."""

    low: Number | None
    high: Number | None


class AdjustedP(Value):
    """A p-value corrected for the other tests of its family."""

    method: str
    family_size: int = Field(description="Tests corrected together.")


class Adjusted(Record):
    """Rests on a test whose p-value is corrected."""

    adjusted_p: AdjustedP


class Collapse(Record):
    """The first logged step at which beta was found collapsed."""

    step: Number | None
    reason: str
    records: int = Field(description="Logged steps.")


class SeedValue(Record):
    """One seed's value, in the unit of the metric."""

    seed: int | None
    value: Number
