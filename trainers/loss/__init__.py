"""Losses, log-probs and forward passes."""
