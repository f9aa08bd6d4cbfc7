"""Figures of the report, each drawn from the rows of its table."""

#: What other rooms may import.
__all__ = ["all", "base", "curves", "judges"]
