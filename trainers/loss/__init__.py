"""Losses, log-probs and forward passes on tensors; internal to `trainers`."""
