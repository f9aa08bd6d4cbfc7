"""The matrix file: its source with line numbers and its settings."""
