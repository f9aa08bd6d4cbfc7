"""Kills and faults injected into whole matrices; `python -m tests.faults` runs a campaign."""
