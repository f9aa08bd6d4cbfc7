"""One training run, from its job to its files. `job`, `objectives`, `memory` and `tracking` import nothing heavy."""

__all__ = ["job", "memory", "objectives", "save", "tracking", "train"]
