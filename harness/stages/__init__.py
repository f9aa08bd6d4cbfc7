"""The stages of a matrix: train, evaluate, judge, report, publish."""
