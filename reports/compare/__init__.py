"""Comparisons between methods: paired by seed and prompt, at best settings, along frontiers, by stratum, by judges."""

#: What other rooms may import.
__all__ = ["comparison", "frontiers", "grids", "judges", "on_record", "strata", "tuning", "winrates"]
