"""Error rates of the verdicts in simulated worlds."""
