"""The records of summary.json, and its JSON Schema, which is made from them."""

from reports.schema.base import AdjustedP, Collapse, Estimate, Test
from reports.schema.beta import Association, BetaArm, LossNull, RunBeta
from reports.schema.metrics import Comparison, Metric
from reports.schema.runs import Subset
from reports.schema.summary import Summary, read_summary, schema_text
from reports.schema.verdict import Check, ClaimP, Inference, InferenceRow, JudgedClaim, OverReference

__all__ = [
    "AdjustedP", "Association", "BetaArm", "Check", "ClaimP", "Collapse", "Comparison", "Estimate", "Inference",
    "InferenceRow", "JudgedClaim", "LossNull", "Metric", "OverReference", "RunBeta", "Subset", "Summary", "Test", "read_summary",
    "schema_text",
]  # fmt: skip
