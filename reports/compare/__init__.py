"""Comparisons between methods: tables, grids, frontiers, judges."""
