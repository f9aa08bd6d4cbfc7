"""`summary.correlations`: a short view of beta for the report's table."""

from __future__ import annotations

from pydantic import Field

from reports.schema.base import Collapse, Estimate, Number, Record
from reports.schema.beta import LossNull


class Correlations(Record):
    against: str
    beta_free: bool
    n: int
    pearson: Estimate
    spearman: Estimate
    kendall: Estimate
    xi: Estimate
    pearson_detrended: Estimate
    spearman_detrended: Estimate


class Quantile(Record):
    n: int
    dynamic_beta: Number | None
    loss: Number | None
    loss_at_beta0: Number | None
    accuracy: Number | None
    quantile: int
    log_prompt_perplexity_low: Number | None
    log_prompt_perplexity_high: Number | None


class RunCorrelations(Record):
    run_id: str
    value: Number | None
    reason: str | None
    warning: str = Field(min_length=1)
    examples: list[Correlations] | None
    steps: list[Correlations] | None
    null: LossNull | None
    perplexity_quantiles: list[Quantile]
    fallback_rows: int | None
    collapse: Collapse | None
