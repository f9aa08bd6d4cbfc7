"""Figures of the report, each drawn from the rows of its table."""
