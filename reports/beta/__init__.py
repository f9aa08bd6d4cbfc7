"""What dynamic_beta goes with: per run, over the matrix, and what a learned rule made of it. Pure functions first."""

from reports.beta.matrix import beta_summary

__all__ = ["beta_summary"]
