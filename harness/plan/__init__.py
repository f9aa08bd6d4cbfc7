"""What a matrix resolves to: runs, models, data, benchmarks, judges."""
