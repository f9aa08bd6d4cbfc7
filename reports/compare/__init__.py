"""Comparisons between methods: paired by seed and prompt, at best settings, along frontiers, by stratum, by judges."""
