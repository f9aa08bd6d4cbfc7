"""Checks of a matrix before anything is trained."""

__all__ = ["json_schema", "report", "requirements", "settings", "static", "tokens", "trackers"]
