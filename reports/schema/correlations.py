"""`summary.correlations`: a short view of beta for the report's table."""

from __future__ import annotations

from pydantic import Field

from reports.schema.base import Collapse, Estimate, Number, Record, Value
from reports.schema.beta import LossNull, QuantileMeans


class Correlations(Record):
    """Beta against one quantity, over n rows or steps."""

    against: str
    beta_free: bool = Field(description="Whether the quantity is computed without beta.")
    n: int
    pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    xi: Estimate
    pearson_detrended: Estimate
    spearman_detrended: Estimate


class Quantile(QuantileMeans):
    """With the quantile's ends, in nats a token."""

    log_prompt_perplexity_low: Number | None
    log_prompt_perplexity_high: Number | None


class RunCorrelations(Value):
    """One run; `value` is Spearman's coefficient of beta and loss over pairs."""

    run_id: str
    warning: str = Field(min_length=1)
    examples: list[Correlations] | None
    steps: list[Correlations] | None
    null: LossNull | None
    perplexity_quantiles: list[Quantile]
    fallback_rows: int | None
    collapse: Collapse | None
