"""The records of summary.json, and its JSON Schema, which is made from them."""

from reports.schema.base import AdjustedP, Collapse, Estimate, Test
from reports.schema.beta import BetaArm, LossNull
from reports.schema.correlations import Correlations
from reports.schema.metrics import Comparison, Metric
from reports.schema.runs import Subset
from reports.schema.summary import Summary, read_summary, schema_text
from reports.schema.verdict import Check, ClaimP, JudgedClaim, OverReference, VerdictSentence

__all__ = [
    "AdjustedP", "BetaArm", "Check", "ClaimP", "Collapse", "Comparison", "Correlations", "Estimate", "JudgedClaim", "LossNull",
    "Metric", "OverReference", "Subset", "Summary", "Test", "VerdictSentence", "read_summary", "schema_text",
]  # fmt: skip
