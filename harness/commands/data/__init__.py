"""Commands that make, show and import data and settings."""
