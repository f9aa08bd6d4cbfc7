"""Rewards: what scores the answers that preference pairs and the benchmark `gold_reward` are made from."""
