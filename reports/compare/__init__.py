"""Comparisons between methods: paired by seed and prompt, at best settings, along frontiers, by stratum, by judges."""

from reports.compare.comparison import column, method_comparison, policy_estimate
from reports.compare.winrates import ComparisonError, read_comparisons

__all__ = ["ComparisonError", "column", "method_comparison", "policy_estimate", "read_comparisons"]
