"""Reads finished, failed and missing runs."""
