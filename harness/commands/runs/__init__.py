"""Commands that run a matrix and look after its output."""
