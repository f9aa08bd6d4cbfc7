"""Beta rules: their interface (`base`), their names and parameters (`catalogue`), learned rules and controls."""

__all__ = ["base", "catalogue", "controls", "parameters"]
