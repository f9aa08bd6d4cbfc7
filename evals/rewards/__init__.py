"""Rewards: what scores the answers that preference pairs and the benchmark `gold_reward` are made from."""

from evals.rewards.base import Reward, RewardError, Row, scores

__all__ = ["Reward", "RewardError", "Row", "constraints", "registry", "scores"]
