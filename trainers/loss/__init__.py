"""Losses, log-probs and forward passes on tensors; internal to `trainers`."""

__all__ = ["forward", "pair_rows", "stand_in"]
