"""Preference data from a model's own answers."""
