"""The stages of a matrix: train, evaluate, judge, report, publish."""

__all__ = ["evaluate", "publish", "report", "run", "train"]
