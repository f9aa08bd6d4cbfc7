"""Time, memory and disk that a matrix will take."""

__all__ = ["dry_run", "estimate"]
