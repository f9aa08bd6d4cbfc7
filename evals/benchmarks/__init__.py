"""What policies are measured on, one kind a file: rows in, answers or log-probs from the engine, scores out."""

from evals.benchmarks.base import Benchmark, BenchmarkError, Row, Visit

__all__ = ["Benchmark", "BenchmarkError", "Row", "Visit", "answers", "buckets", "generate", "registry"]
