"""Writes the files of a report."""
