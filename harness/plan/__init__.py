"""What a matrix resolves to: runs, models, data, benchmarks, judges."""

__all__ = ["analysis", "benchmarks", "data", "judges", "matrix", "model", "plan", "references"]
