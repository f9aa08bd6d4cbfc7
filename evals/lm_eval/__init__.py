"""lm-evaluation-harness tasks on the shared engine."""
