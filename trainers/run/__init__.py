"""One training run, from its job to its files."""
