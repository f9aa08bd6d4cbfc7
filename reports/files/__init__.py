"""Writes the files of a run, of many runs, and of a whole report."""

#: What other rooms may import.
__all__ = ["metrics", "report"]
