"""Evaluation of policies: generation, verifiable constraints, preference data, lm-eval tasks."""
