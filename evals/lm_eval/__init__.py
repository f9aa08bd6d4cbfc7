"""lm-evaluation-harness tasks on the shared engine."""

__all__ = ["model", "run", "task_files"]
