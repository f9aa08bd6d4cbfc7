"""Writes the files of a run, of many runs, and of a whole report."""
