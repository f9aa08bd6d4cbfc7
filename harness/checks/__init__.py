"""Checks of a matrix before anything is trained."""
